"""Windows that segments share: each segment is in one in training, and in all of a grid that hold it in evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heads.config import Augmentation, InputSettings
from heads.data.batches import batches
from heads.data.chunks import Chunk, Stream
from heads.data.steps import Batch
from heads.data.windows import SharedWindows, drawn_windows, windows_on_grid

CPU = torch.device("cpu")
WINDOW_S, HOP_S = 10.0, 2.0
INPUTS = InputSettings(window=WINDOW_S, window_hop=HOP_S)
every_seed = given(seed=st.integers(0, 10_000), num_segments=st.integers(1, 40))


def segments_of(seed: int, num_segments: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Videos, starts and stops of segments, some of them longer than a window, to the centisecond."""
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 3, num_segments) * 100
    start_s = rng.uniform(0, 60, num_segments).round(2)
    return video, start_s, (start_s + rng.exponential(3.0, num_segments) + 0.05).round(2)


def assert_held(windows: SharedWindows, start_s: np.ndarray, stop_s: np.ndarray, video: np.ndarray) -> None:
    """Each pair's segment is in its window, or in its middle if it is longer; a window is of one video."""
    assert (np.diff(windows.window) >= 0).all()
    assert set(windows.window) == set(range(len(windows.middle_s)))
    start, stop, middle = start_s[windows.segment], stop_s[windows.segment], windows.middle_s[windows.window]
    is_held = (middle - WINDOW_S / 2 <= start + 1e-6) & (stop <= middle + WINDOW_S / 2 + 1e-6)
    assert (is_held | (np.abs(middle - (start + stop) / 2) < 1e-6)).all()
    assert (is_held | (stop - start > WINDOW_S - HOP_S - 1e-6)).all()
    assert len(set(zip(windows.window, video[windows.segment], strict=True))) == len(windows.middle_s)


@settings(max_examples=100, deadline=None)
@every_seed
def test_drawn_windows_hold_each_segment_once_and_whole(seed, num_segments):
    video, start_s, stop_s = segments_of(seed, num_segments)
    draws = np.random.default_rng(seed).random((num_segments + 1, 2))
    windows = drawn_windows(video, start_s, stop_s, WINDOW_S, draws)
    assert sorted(windows.segment) == list(range(num_segments))
    assert_held(windows, start_s, stop_s, video)
    reordered = windows.ordered(np.random.default_rng(seed).permutation(len(windows.middle_s)))
    assert_held(reordered, start_s, stop_s, video)
    pairs = [set(zip(each.segment, each.middle_s[each.window], strict=True)) for each in (windows, reordered)]
    assert pairs[0] == pairs[1]


def test_drawn_windows_are_few_and_segments_lie_anywhere_in_them():
    start_s = np.arange(0, 900, 3.0)
    stop_s, video = start_s + 2, np.zeros(len(start_s))
    rng = np.random.default_rng(0)
    drawn = [drawn_windows(video, start_s, stop_s, 20.0, rng.random((len(start_s) + 1, 2))) for _ in range(40)]
    assert np.mean([len(windows.middle_s) for windows in drawn]) < len(start_s) / 4.5
    offset = np.concatenate([start_s[windows.segment] + 1 - windows.middle_s[windows.window] for windows in drawn])
    assert np.histogram(offset, bins=6, range=(-9, 9))[0].min() > len(offset) / 12
    alone = [drawn_windows(video[:1], start_s[:1], stop_s[:1], 20.0, rng.random((2, 2))).middle_s for _ in range(200)]
    assert np.histogram(alone, bins=6, range=(-8, 10))[0].min() > 15


@settings(max_examples=100, deadline=None)
@every_seed
def test_windows_on_a_grid_are_all_that_hold_a_segment(seed, num_segments):
    video, start_s, stop_s = segments_of(seed, num_segments)
    windows = windows_on_grid(video, start_s, stop_s, WINDOW_S, HOP_S)
    assert_held(windows, start_s, stop_s, video)
    for segment, (start, stop) in enumerate(zip(start_s, stop_s, strict=True)):
        begins = [HOP_S * number for number in range(-6, 100)]
        held_by = [
            begin + WINDOW_S / 2 for begin in begins if begin <= start + 1e-6 and stop <= begin + WINDOW_S + 1e-6
        ]
        own = windows.middle_s[windows.window[windows.segment == segment]]
        np.testing.assert_allclose(sorted(own), held_by or [(start + stop) / 2])


# ---- the steps and queries of windows, against a loop over all steps


def chunk_of(seed: int, *, kinds: tuple[bool, ...], num_views: int = 1) -> tuple[Chunk, list[np.ndarray]]:
    """Segments of three videos in streams that are dense or not; of each stream, the video of each row.

    Values of a row are its number and its view. Each stream ends earlier than the segments do.
    """
    rng = np.random.default_rng(seed)
    video, start_s, stop_s = segments_of(seed, 25)
    videos = np.unique(video)
    streams, owners = [], []
    for is_dense in kinds:
        lengths = rng.integers(1, 90, len(videos))
        ends = np.cumsum([0, *lengths])
        times = [rng.uniform(0, 50, length) for length in lengths]
        seconds = np.concatenate([np.sort(own) if is_dense else own for own in times])
        rows = np.repeat(np.arange(ends[-1])[:, None, None], num_views, axis=1)
        features = np.concatenate([rows, rows * 0 + np.arange(num_views)[:, None]], axis=2).astype(np.float16)
        number = np.searchsorted(videos, video)
        bounds = [torch.from_numpy(ends[number + shift]) for shift in (0, 1, 0, 1, 0, 1)]
        streams.append(Stream(torch.from_numpy(features), torch.from_numpy(seconds).float(), *bounds, is_dense))
        owners.append(np.repeat(videos, lengths))
    index = torch.from_numpy(rng.permutation(100)[:25])
    intervals = torch.from_numpy(np.stack([start_s, stop_s], axis=1))
    chunk = Chunk(index, torch.zeros(25), tuple(streams), intervals)
    return chunk, owners


def assert_plain(chunk: Chunk, owners: list[np.ndarray], batch: Batch) -> list[int]:
    """Each window has exactly the steps of its video that lie in it; return the segments that are asked for."""
    assert batch.queries is not None
    position_of = {int(index): position for position, index in enumerate(chunk.index)}
    num_slots = batch.queries.intervals.shape[1]
    flat = batch.queries.intervals.flatten(0, 1)
    asked = [position_of[int(index)] for index in batch.index]
    for position, place in zip(asked, batch.queries.places.tolist(), strict=True):
        start, stop = chunk.intervals[position].tolist()
        own_start, own_stop = flat[place].tolist()
        assert stop - start == pytest.approx(own_stop - own_start, abs=1e-4)
        window, middle = place // num_slots, start - own_start
        for number, (stream, owner) in enumerate(zip(chunk.streams, owners, strict=True)):
            video = owner[int(stream.video_first[position])]
            since = stream.seconds.numpy() - middle
            inside = np.flatnonzero((owner == video) & (np.abs(since) < WINDOW_S / 2))
            steps = batch.streams[number]
            mask = steps.mask[window].numpy()
            rows = steps.features[window, mask, 0].numpy().astype(int)
            assert sorted(rows) == sorted(inside)
            np.testing.assert_allclose(steps.seconds[window, mask].numpy(), since[rows], atol=1e-4)
            assert (np.diff(since[rows]) >= 0).all()
            assert torch.equal(steps.within, steps.mask)
    return asked


@pytest.mark.parametrize("augmentation", [None, Augmentation()], ids=["evaluation", "training"])
@pytest.mark.parametrize("seed", range(6))
def test_a_window_has_the_steps_of_its_video_that_lie_in_it(seed, augmentation):
    chunk, owners = chunk_of(seed, kinds=(True, False))
    torch.manual_seed(seed)
    order = torch.randperm(25)
    batch_list = list(batches(chunk, order, 6, inputs=INPUTS, device=CPU, augmentation=augmentation))
    asked = [position for batch in batch_list for position in assert_plain(chunk, owners, batch)]
    assert set(asked) == set(range(25))
    if augmentation is not None:
        assert len(asked) == 25
        assert len(batch_list) <= 5  # of at least 6 segments each, but the last


def test_thinned_windows_keep_steps_from_all_over():
    chunk, _ = chunk_of(1, kinds=(True,))
    full, thin = (
        list(
            batches(
                chunk,
                torch.arange(25),
                99,
                inputs=InputSettings(window=WINDOW_S, window_hop=HOP_S, max_steps=most),
                device=CPU,
            )
        )
        for most in (None, 5)
    )
    for batch, thinned in zip(full, thin, strict=True):
        lengths = batch.streams[0].mask.sum(dim=1)
        assert torch.equal(thinned.streams[0].mask.sum(dim=1), lengths.clamp(max=5))
        for row in torch.nonzero(lengths > 10).flatten():
            mask = batch.streams[0].mask[row]
            rows, kept = (
                steps.features[row, steps.mask[row], 0].long() for steps in (batch.streams[0], thinned.streams[0])
            )
            numbers = torch.searchsorted(rows, kept)
            assert numbers.diff().max() <= int(mask.sum()) // 5 + 2


def test_augmentation_drops_steps_moves_ends_and_draws_views():
    chunk, _ = chunk_of(2, kinds=(True, False), num_views=3)
    torch.manual_seed(0)
    settings = Augmentation(step_dropout=0.5, jitter=0.2)
    pairs = [
        (
            {
                int(index): interval
                for index, interval in zip(
                    batch.index, batch.queries.intervals.flatten(0, 1)[batch.queries.places], strict=True
                )
            },
            batch,
        )
        for _ in range(30)
        for batch in batches(chunk, torch.arange(25), 99, inputs=INPUTS, device=CPU, augmentation=settings)
    ]
    assert all((interval[1] > interval[0]).item() for intervals, _ in pairs for interval in intervals.values())
    lengths = torch.tensor([float(intervals[int(chunk.index[0])].diff()) for intervals, _ in pairs])
    length = float(chunk.intervals[0].diff())
    assert 0.6 * length - 1e-3 <= float(lengths.min()) < 0.95 * length
    assert 1.05 * length < float(lengths.max()) <= 1.4 * length + 1e-3
    for number in range(2):
        streams = [batch.streams[number] for _, batch in pairs]
        views = torch.cat([steps.features[..., 1][steps.mask] for steps in streams])
        assert views.unique().tolist() == [0, 1, 2]
        assert all(
            len(row[keep].unique()) <= 1
            for steps in streams
            for row, keep in zip(steps.features[..., 1], steps.mask, strict=True)
        )


def test_windows_without_steps_have_none():
    chunk, _ = chunk_of(3, kinds=(True, True))
    late = Chunk(chunk.index, chunk.middle_s, chunk.streams, chunk.intervals + 500)
    for augmentation in (None, Augmentation(step_dropout=0.5)):
        for batch in batches(late, torch.arange(25), 8, inputs=INPUTS, device=CPU, augmentation=augmentation):
            assert not any(steps.mask.any() for steps in batch.streams)
