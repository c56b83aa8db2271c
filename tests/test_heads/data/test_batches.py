"""Batches of segments: the rows that a plain loop finds, changed in training only as far as is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import labelled_rows, write_csv, write_dense, write_features

from features.annotations import read_segments
from heads.config import Augmentation, InputSettings
from heads.data.batches import batches, statistics
from heads.data.chunks import Chunk, Split, Stream
from heads.data.layout import lay_out, open_sources
from heads.data.steps import Batch

CPU = torch.device("cpu")
JITTER = Augmentation(jitter=0.5)
SPEED = Augmentation(speed=0.5)
DROPOUT = Augmentation(step_dropout=0.5)
DRAWN = Augmentation(draw_steps=1)


def chunk_of(index: torch.Tensor, middle_s: torch.Tensor, streams: tuple[Stream, ...]) -> Chunk:
    """A chunk of segments whose intervals nobody reads."""
    return Chunk(index, middle_s, streams, torch.zeros(len(index), 2, dtype=torch.float64))


def make_stream(windows: np.ndarray, seconds: np.ndarray, videos: np.ndarray, *, is_dense: bool, views: int) -> Stream:
    """A stream whose features say which row, and which view, they are.

    Args:
        windows: (S, 4), first, inner_first, inner_stop and stop; videos: (S, 2), the rows of each segment's video.
    """
    row, view = np.meshgrid(np.arange(len(seconds)), np.arange(views), indexing="ij")
    first, inner_first, inner_stop, stop = (torch.from_numpy(column.copy()) for column in windows.T)
    return Stream(
        features=torch.from_numpy(np.stack([row, view], axis=-1).astype(np.float16)),
        seconds=torch.from_numpy(seconds).float(),
        first=first,
        stop=stop,
        inner_first=inner_first,
        inner_stop=inner_stop,
        video_first=torch.from_numpy(videos[:, 0].copy()),
        video_stop=torch.from_numpy(videos[:, 1].copy()),
        is_dense=is_dense,
    )


@st.composite
def chunks(draw: st.DrawFn, *, kinds: tuple[bool | None, ...] = (None,), most: int = 12, views: int = 1) -> Chunk:
    """Segments of one to three videos, each with a window and its own part of it in every stream.

    Args:
        kinds: of each stream, whether it is dense; None for either.
        most: steps of a video.
    """
    num_videos, num_segments = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    video = rng.integers(0, num_videos, num_segments)
    streams = []
    for kind in kinds:
        lengths = rng.integers(1, most + 1, num_videos)
        ends = np.cumsum([0, *lengths])
        seconds = np.concatenate([np.sort(rng.uniform(0, 30, length)) for length in lengths])
        windows = []
        for video_index in video:
            inner_first = rng.integers(ends[video_index], ends[video_index + 1])
            inner_stop = rng.integers(inner_first + 1, ends[video_index + 1] + 1)
            first, stop = (
                rng.integers(ends[video_index], inner_first + 1),
                rng.integers(inner_stop, ends[video_index + 1] + 1),
            )
            windows.append((first, inner_first, inner_stop, stop))
        is_dense = draw(st.booleans()) if kind is None else kind
        videos = np.stack([ends[video], ends[video + 1]], axis=1)
        streams.append(make_stream(np.array(windows), seconds, videos, is_dense=is_dense, views=views))
    middle_s = torch.from_numpy(rng.uniform(0, 30, num_segments)).float()
    return chunk_of(torch.from_numpy(rng.permutation(100)[:num_segments]), middle_s, tuple(streams))


def batches_of(
    chunk: Chunk,
    batch_size: int = 4,
    *,
    order: torch.Tensor | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    **inputs: object,
) -> list[Batch]:
    torch.manual_seed(seed)
    order = torch.arange(len(chunk)) if order is None else order
    return list(
        batches(
            chunk,
            order,
            batch_size,
            inputs=InputSettings(**inputs),
            device=CPU,
            augmentation=augmentation,
        )
    )


def rows_of(batch_list: list[Batch], stream_index: int = 0) -> Iterator[tuple[list[int], list[float], list[bool]]]:
    """Of each segment, in the order of the batches: its rows, when they are, and which are its own."""
    for batch in batch_list:
        steps = batch.streams[stream_index]
        for features, mask, seconds, within in zip(*steps[:4], strict=True):
            rows = features[mask][:, 0].long().tolist()
            yield rows, seconds[mask].tolist(), within[mask].tolist()


def window_of(stream: Stream, segment: int) -> list[int]:
    return list(range(int(stream.first[segment]), int(stream.stop[segment])))


def own_of(stream: Stream, segment: int) -> list[int]:
    return list(range(int(stream.inner_first[segment]), int(stream.inner_stop[segment])))


def assert_equal(actual: list[Batch], expected: list[Batch]) -> None:
    for batch, expected_batch in zip(actual, expected, strict=True):
        assert torch.equal(batch.index, expected_batch.index)
        for steps, expected_steps in zip(batch.streams, expected_batch.streams, strict=True):
            assert all(torch.equal(*pair) for pair in zip(steps[:4], expected_steps[:4], strict=True))


# ---- against a plain loop


@given(chunks(), st.integers(1, 11), st.integers(0, 99))
@settings(deadline=None)
def test_a_segment_has_the_steps_of_its_window(chunk, batch_size, seed):
    order = torch.randperm(len(chunk), generator=torch.Generator().manual_seed(seed))
    batch_list = batches_of(chunk, batch_size, order=order)
    (stream,) = chunk.streams
    for segment, (rows, seconds, within) in zip(order.tolist(), rows_of(batch_list), strict=True):
        assert rows == window_of(stream, segment)
        assert within == [row in own_of(stream, segment) for row in rows]
        expected = [float(stream.seconds[row]) - float(chunk.middle_s[segment]) for row in rows]
        assert seconds == pytest.approx(expected, abs=1e-4)


@given(chunks(), st.integers(1, 11), st.integers(0, 99))
@settings(deadline=None)
def test_batches_hold_every_segment_once_in_the_order_given(chunk, batch_size, seed):
    order = torch.randperm(len(chunk), generator=torch.Generator().manual_seed(seed))
    batch_list = batches_of(chunk, batch_size, order=order)
    assert [index for batch in batch_list for index in batch.index.tolist()] == chunk.index[order].tolist()
    assert {len(batch.index) for batch in batch_list[:-1]} <= {batch_size}


every_change = pytest.mark.parametrize(
    "augmentation", [None, JITTER, SPEED, DROPOUT, Augmentation(jitter=1.0, speed=0.9, step_dropout=0.9)]
)


@every_change
@given(chunk=chunks(kinds=(None, None)), fusion=st.sampled_from(["early", "late"]), max_steps=st.integers(1, 13))
@settings(deadline=None, max_examples=60)
def test_batches_keep_to_the_contract_of_steps(augmentation, chunk, fusion, max_steps):
    for batch in batches_of(chunk, augmentation=augmentation, fusion=fusion, max_steps=max_steps):
        for steps in batch.streams:
            lengths = steps.mask.sum(dim=1)
            assert torch.equal(steps.mask, torch.arange(int(lengths.max())) < lengths[:, None])
            assert steps.within.any(dim=1).all()
            assert not (steps.within & ~steps.mask).any()
            assert not steps.seconds[~steps.mask].any()
            assert lengths.max() <= max_steps
            assert [part.dtype for part in steps[:4]] == [torch.float16, torch.bool, torch.float32, torch.bool]


def test_many_batches_are_the_same_as_each_alone():
    """Rows are computed for thousands of segments at a time, of which some are long."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 900, 5000)
    stop = first + rng.integers(1, 9, 5000) * np.where(np.arange(5000) == 4321, 10, 1)
    windows = np.stack([first, first, stop, stop], axis=1)
    stream = make_stream(windows, np.arange(1000.0), np.tile([0, 1000], (5000, 1)), is_dense=True, views=1)
    chunk = chunk_of(torch.arange(5000), torch.zeros(5000), (stream,))
    batch_list = batches_of(chunk, 300)
    single_batches = [batches_of(chunk, 300, order=order)[0] for order in torch.arange(5000).split(300)]
    assert_equal(batch_list, single_batches)


@pytest.mark.parametrize("batch_size", [1, 2047, 2049, 10_000])
def test_any_size_of_batch_gives_all_segments(batch_size):
    windows = np.tile([0, 0, 1, 1], (4100, 1))
    stream = make_stream(windows, np.zeros(1), np.tile([0, 1], (4100, 1)), is_dense=True, views=1)
    chunk = chunk_of(torch.arange(4100), torch.zeros(4100), (stream,))
    sizes = [len(batch.index) for batch in batches_of(chunk, batch_size)]
    assert sizes == [min(batch_size, 4100 - start) for start in range(0, 4100, batch_size)]


# ---- thinning


@given(chunks(most=40), st.integers(1, 41))
@settings(deadline=None)
def test_thinned_steps_stay_in_order_and_in_the_window(chunk, max_steps):
    (stream,) = chunk.streams
    for segment, (rows, _, _) in enumerate(rows_of(batches_of(chunk, max_steps=max_steps))):
        window = window_of(stream, segment)
        assert len(rows) == min(len(window), max_steps)
        assert rows == sorted(set(rows))
        assert set(rows) <= set(window)


@given(chunks(most=40), st.integers(1, 41))
@settings(deadline=None)
def test_thinned_steps_are_spread_evenly(chunk, max_steps):
    (stream,) = chunk.streams
    for segment, (rows, _, _) in enumerate(rows_of(batches_of(chunk, max_steps=max_steps))):
        window = window_of(stream, segment)
        part = len(window) / len(rows)  # each step stands for so many
        for index, row in enumerate(rows):
            assert part * index - 1e-9 <= row - window[0] + 0.5 <= part * (index + 1) + 1e-9


# ---- jitter and speed


@pytest.mark.parametrize("augmentation", [JITTER, SPEED, Augmentation(jitter=1.0, speed=0.9)])
@given(chunk=chunks(kinds=(True,)), seed=st.integers(0, 99))
@settings(deadline=None)
def test_moved_segments_stay_in_their_video(augmentation, chunk, seed):
    (stream,) = chunk.streams
    for segment, (rows, _, _) in enumerate(rows_of(batches_of(chunk, augmentation=augmentation, seed=seed))):
        inside = range(int(stream.video_first[segment]), int(stream.video_stop[segment]))
        assert rows == sorted(rows)
        assert set(rows) <= set(inside)


@given(chunk=chunks(kinds=(True,)), seed=st.integers(0, 99))
@settings(deadline=None)
def test_the_ends_of_a_segment_move_by_the_share_asked_for(chunk, seed):
    (stream,) = chunk.streams
    segments = rows_of(batches_of(chunk, augmentation=Augmentation(jitter=0.3), seed=seed))
    for segment, (rows, _, within) in enumerate(segments):
        original = own_of(stream, segment)
        own = [row for row, inner in zip(rows, within, strict=True) if inner]
        limit = 0.3 * len(original) + 0.5
        assert abs(own[0] - original[0]) <= limit
        assert abs(own[-1] - original[-1]) <= limit


def long_segment(num_segments: int, *, is_dense: bool = True) -> Chunk:
    """The same segment many times: 20 of the 100 steps of a video, one a second, in the middle of a window of 40."""
    windows, videos = np.tile([30, 40, 60, 70], (num_segments, 1)), np.tile([0, 100], (num_segments, 1))
    stream = make_stream(windows, np.arange(100.0), videos, is_dense=is_dense, views=1)
    return chunk_of(torch.arange(num_segments), torch.full((num_segments,), 49.5), (stream,))


def test_segments_move_apart_from_each_other_and_both_ways():
    segments = list(rows_of(batches_of(long_segment(500), augmentation=Augmentation(jitter=0.25))))
    first = [rows[within.index(True)] for rows, _, within in segments]
    last = [rows[len(within) - 1 - within[::-1].index(True)] for rows, _, within in segments]
    assert set(first) == set(range(35, 46))
    assert set(last) == set(range(54, 65))


def test_context_moves_with_the_ends_of_the_segment():
    for rows, _, within in rows_of(batches_of(long_segment(100), augmentation=Augmentation(jitter=0.25))):
        assert (within.index(True), within[::-1].index(True)) == (10, 10)
        assert rows == list(range(rows[0], rows[-1] + 1))


def test_a_faster_segment_has_fewer_steps_and_passes_in_less_time():
    segments = list(rows_of(batches_of(long_segment(500), augmentation=Augmentation(speed=0.5))))
    lengths = [len(rows) for rows, _, _ in segments]
    assert min(lengths) == pytest.approx(40 / 1.5, abs=1)
    assert max(lengths) == pytest.approx(40 / 0.5, abs=2)
    for rows, seconds, _ in segments:
        assert (rows[0], rows[-1]) == (pytest.approx(30, abs=1), pytest.approx(69, abs=1))
        assert seconds[-1] - seconds[0] == pytest.approx(len(rows), abs=2.5)


def test_a_segment_keeps_its_share_of_the_steps_at_any_speed():
    for rows, _, within in rows_of(batches_of(long_segment(200), augmentation=Augmentation(speed=0.5))):
        assert sum(within) == pytest.approx(len(rows) / 2, abs=1.5)


@pytest.mark.parametrize("augmentation", [Augmentation(jitter=1.0), Augmentation(speed=0.9)])
@given(chunk=chunks(kinds=(False,)))
@settings(deadline=None, max_examples=30)
def test_sets_by_segment_neither_move_nor_run_faster(augmentation, chunk):
    assert_equal(batches_of(chunk, augmentation=augmentation), batches_of(chunk))


@given(chunk=chunks(kinds=(None, None)), fusion=st.sampled_from(["early", "late"]))
@settings(deadline=None, max_examples=30)
def test_nothing_changes_where_nothing_is_asked_for(chunk, fusion):
    assert_equal(batches_of(chunk, augmentation=Augmentation(), fusion=fusion), batches_of(chunk, fusion=fusion))


# ---- step dropout


@given(chunk=chunks(), seed=st.integers(0, 99), dropout=st.sampled_from([0.1, 0.5, 0.95]))
@settings(deadline=None)
def test_steps_that_are_left_stay_in_order_as_they_were(chunk, seed, dropout):
    segments = rows_of(batches_of(chunk, augmentation=Augmentation(step_dropout=dropout), seed=seed))
    for (rows, seconds, within), original in zip(segments, rows_of(batches_of(chunk)), strict=True):
        indices = [original[0].index(row) for row in rows]
        assert indices == sorted(set(indices))
        assert seconds == [original[1][index] for index in indices]
        assert within == [original[2][index] for index in indices]
        assert any(within)


def test_as_many_steps_are_left_out_as_asked_for():
    batch_list = batches_of(long_segment(2000), 64, augmentation=Augmentation(step_dropout=0.3))
    num_left = sum(int(batch.streams[0].mask.sum()) for batch in batch_list)
    assert num_left == pytest.approx(0.7 * 40 * 2000, rel=0.01)


def test_the_step_that_is_spared_is_any_of_the_segments_own():
    segments = rows_of(batches_of(long_segment(2000), augmentation=Augmentation(step_dropout=0.95)))
    own = [row for rows, _, within in segments for row, inner in zip(rows, within, strict=True) if inner]
    assert set(own) == set(range(40, 60))


@pytest.mark.parametrize("augmentation", [JITTER, SPEED, DROPOUT])
def test_a_seed_gives_the_same_batches_and_another_gives_others(augmentation):
    chunk = long_segment(50)
    first, repeat, other = (
        list(rows_of(batches_of(chunk, augmentation=augmentation, seed=seed))) for seed in (0, 0, 1)
    )
    assert first == repeat
    assert first != other


# ---- steps that are drawn


def clips_of_neighbours(num_segments: int, num_steps: int) -> Chunk:
    """Segments of one video with as many steps each, which see one neighbour on both sides."""
    first = np.arange(num_segments) * num_steps
    last = num_segments * num_steps
    window = np.stack(
        [(first - num_steps).clip(0), first, first + num_steps, (first + 2 * num_steps).clip(max=last)], 1
    )
    videos = np.tile([0, last], (num_segments, 1))
    stream = make_stream(window, np.repeat(np.arange(num_segments), num_steps) * 2.0, videos, is_dense=False, views=1)
    return chunk_of(torch.arange(num_segments), torch.zeros(num_segments), (stream,))


@pytest.mark.parametrize("num_drawn", [1, 3, 10, 11])
def test_as_many_steps_of_a_segment_and_of_each_neighbour_are_drawn(num_drawn):
    chunk = clips_of_neighbours(6, 10)
    for segment, (rows, _, within) in enumerate(
        rows_of(batches_of(chunk, augmentation=Augmentation(draw_steps=num_drawn)))
    ):
        expected = [number for number in (segment - 1, segment, segment + 1) if 0 <= number < 6]
        assert [row // 10 for row in rows] == [number for number in expected for _ in range(min(num_drawn, 10))]
        assert rows == sorted(set(rows))
        assert within == [row // 10 == segment for row in rows]


def test_any_step_of_a_segment_may_be_drawn_and_each_as_often():
    chunk = clips_of_neighbours(200, 10)
    batch_list = [batch for seed in range(10) for batch in batches_of(chunk, 64, augmentation=DRAWN, seed=seed)]
    drawn = [row for rows, _, _ in rows_of(batch_list) for row in rows]
    counts = np.bincount(np.array(drawn) % 10, minlength=10)
    assert counts.min() > 0.85 * counts.mean()


@given(chunk=chunks(kinds=(False,)), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_drawn_steps_stay_as_they_were_and_one_is_the_segments_own(chunk, seed):
    segments = rows_of(batches_of(chunk, augmentation=DRAWN, seed=seed))
    for (rows, seconds, within), original in zip(segments, rows_of(batches_of(chunk)), strict=True):
        indices = [original[0].index(row) for row in rows]
        assert indices == sorted(set(indices))
        assert seconds == [original[1][index] for index in indices]
        assert sum(within) == 1


@given(chunk=chunks(kinds=(True,)))
@settings(deadline=None, max_examples=10)
def test_steps_of_dense_sets_are_not_drawn(chunk):
    assert_equal(batches_of(chunk, augmentation=DRAWN), batches_of(chunk))


# ---- several sets


def assert_aligned(chunk: Chunk, batch_list: list[Batch]) -> None:
    """Every step of the second set is, of its segment's, the nearest in time to the first set's step."""
    clock, other_stream = chunk.streams
    first, second = rows_of(batch_list, 0), rows_of(batch_list, 1)
    for segment, ((rows, _, _), (rows_of_other, _, _)) in enumerate(zip(first, second, strict=True)):
        seconds = other_stream.seconds[window_of(other_stream, segment)]
        for row, row_of_other in zip(rows, rows_of_other, strict=True):
            assert row_of_other in window_of(other_stream, segment)
            distance = abs(other_stream.seconds[row_of_other] - clock.seconds[row])
            assert distance <= (seconds - clock.seconds[row]).abs().min() + 1e-4


@given(chunks(kinds=(None, None)))
@settings(deadline=None)
def test_early_fusion_takes_the_steps_nearest_in_time(chunk):
    assert_aligned(chunk, batches_of(chunk))


@pytest.mark.parametrize(
    "augmentation", [JITTER, SPEED, DROPOUT, Augmentation(jitter=1.0, speed=0.9, step_dropout=0.5)]
)
@given(chunk=chunks(kinds=(None, False)), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_early_fusion_takes_the_nearest_steps_however_the_first_set_moves(augmentation, chunk, seed):
    assert_aligned(chunk, batches_of(chunk, augmentation=augmentation, seed=seed))


@given(chunk=chunks(kinds=(False, True)))
@settings(deadline=None, max_examples=30)
def test_a_dense_set_does_not_move_beside_one_by_segment(chunk):
    augmentation = Augmentation(jitter=1.0, speed=0.9)
    assert_equal(batches_of(chunk, augmentation=augmentation), batches_of(chunk))


@every_change
@given(chunk=chunks(kinds=(None, None)))
@settings(deadline=None, max_examples=30)
def test_with_early_fusion_the_first_set_says_when_a_step_is(augmentation, chunk):
    for batch in batches_of(chunk, augmentation=augmentation):
        clock, other = batch.streams
        assert all(torch.equal(*pair) for pair in zip(clock[1:4], other[1:4], strict=True))


@pytest.mark.parametrize("augmentation", [JITTER, SPEED, DROPOUT])
def test_equal_sets_give_equal_steps_however_they_move(augmentation):
    (stream,) = long_segment(50).streams
    chunk = chunk_of(torch.arange(50), torch.full((50,), 49.5), (stream, stream))
    batch_list = batches_of(chunk, augmentation=augmentation)
    assert list(rows_of(batch_list, 0)) == list(rows_of(batch_list, 1))


@given(chunks(kinds=(None, None)))
@settings(deadline=None)
def test_late_fusion_leaves_each_set_as_it_is_alone(chunk):
    fused_batches = batches_of(chunk, fusion="late")
    for index, stream in enumerate(chunk.streams):
        single_batches = batches_of(chunk_of(chunk.index, chunk.middle_s, (stream,)))
        assert_equal([Batch((batch.streams[index],), batch.index) for batch in fused_batches], single_batches)


# ---- views


def views_of(batch: Batch) -> torch.Tensor:
    """Of each segment, its view; all of its steps have the same."""
    (steps,) = batch.streams
    views = [features[mask][:, 1].unique() for features, mask in zip(steps.features, steps.mask, strict=True)]
    return torch.cat(views)


@given(chunks(views=3))
@settings(deadline=None, max_examples=30)
def test_the_first_view_is_that_of_evaluation(chunk):
    assert all(not views_of(batch).any() for batch in batches_of(chunk))


@given(chunks(views=3), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_the_view_of_a_segment_changes_none_of_its_rows(chunk, seed):
    training_rows = rows_of(batches_of(chunk, augmentation=Augmentation(), seed=seed))
    assert list(training_rows) == list(rows_of(batches_of(chunk)))


def test_every_view_is_as_likely_in_training():
    windows, videos = np.tile([1, 1, 3, 4], (3000, 1)), np.tile([0, 5], (3000, 1))
    stream = make_stream(windows, np.arange(5.0), videos, is_dense=False, views=3)
    chunk = chunk_of(torch.arange(3000), torch.zeros(3000), (stream,))
    views = torch.cat([views_of(batch) for batch in batches_of(chunk, 64, augmentation=Augmentation())])
    assert len(views) == 3000  # one view for all steps of a segment
    assert torch.bincount(views.long()).tolist() == pytest.approx([1000] * 3, abs=100)


# ---- from feature sets on disk


@pytest.fixture(scope="module")
def roots_and_segments(tmp_path_factory):
    """A dense set and one of two views by segment, of 14 segments in four videos."""
    folder, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    rows = labelled_rows(("P01_01", "P02_101", "P03_01", "P04_101"), 14, rng)
    segments = read_segments(write_csv(folder / "train.csv", rows))
    dense = {video_id: rng.normal(3, 2, (60, 5)) for video_id in rows.video_id.unique()}
    write_dense(folder / "dense", dense)
    steps = {name: rng.normal(-50, 0.5, (rng.integers(1, 6), 2, 3)) for name in segments.narration_id}
    write_features(folder / "segment", segments, steps, views=("centre", "flip"))
    return [folder / "dense", folder / "segment"], segments


def split_of(roots_and_segments, *, memory_bytes: float = 1e12, **inputs: object) -> Split:
    roots, segments = roots_and_segments
    inputs = InputSettings(**inputs)
    return Split(
        lay_out(open_sources(roots, inputs), segments, inputs, allow_missing=False),
        CPU,
        memory_bytes=memory_bytes,
    )


def by_segment(split: Split, **inputs: object) -> dict[int, list[list[torch.Tensor]]]:
    parts_by_index = {}
    for chunk, order in split.chunks(torch.Generator().manual_seed(0)):
        for batch in batches_of(chunk, order=order, **inputs):
            for row, index in enumerate(batch.index.tolist()):
                parts_by_index[index] = [[part[row][steps.mask[row]] for part in steps[:4]] for steps in batch.streams]
    return parts_by_index


@pytest.mark.parametrize(
    "inputs", [{}, {"fusion": "late", "context": 1.0, "neighbours": 1}, {"max_steps": 3}, {"view": ("flip",)}]
)
def test_batches_are_the_same_in_memory_and_in_chunks(roots_and_segments, inputs):
    resident = by_segment(split_of(roots_and_segments, **inputs), **inputs)
    chunked = by_segment(split_of(roots_and_segments, memory_bytes=1000, **inputs), **inputs)
    assert set(resident) == set(chunked) == set(range(14))
    for index, streams in resident.items():
        for ours, theirs in zip(streams, chunked[index], strict=True):
            assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))


# ---- statistics


@pytest.mark.parametrize("memory_bytes", [1, 1e12])
def test_statistics_are_those_of_numpy_in_float64(roots_and_segments, memory_bytes):
    split = split_of(roots_and_segments, memory_bytes=memory_bytes, view=("centre", "flip"))
    ((chunk, _),) = split_of(roots_and_segments, view=("centre", "flip")).chunks()
    for (mean, std), stream in zip(statistics(split), chunk.streams, strict=True):
        values = stream.features.numpy().astype(np.float64).reshape(-1, stream.features.shape[-1])
        np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(std, values.std(axis=0), rtol=1e-6)
        assert mean.dtype == std.dtype == torch.float32


class OneStream:
    """What statistics reads of a split: one stream of these values, (N, D)."""

    def __init__(self, values: np.ndarray) -> None:
        window = np.array([[0, 0, 1, 1]])
        template = make_stream(window, np.zeros(1), window[:, [0, 3]], is_dense=False, views=1)
        stream = replace(template, features=torch.from_numpy(values.astype(np.float16))[:, None])
        self._chunk = chunk_of(torch.arange(1), torch.zeros(1), (stream,))
        self.sources = (SimpleNamespace(featureset=SimpleNamespace(dim=values.shape[1])),)

    def chunks(self) -> Iterator[tuple[Chunk, torch.Tensor]]:
        yield self._chunk, torch.arange(1)


def test_statistics_of_many_steps_far_from_zero_keep_their_digits():
    values = np.random.default_rng(0).normal(1000, 2, (150_000, 2)).astype(np.float16)
    ((mean, std),) = statistics(OneStream(values))
    np.testing.assert_allclose(mean, values.astype(np.float64).mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(std, values.astype(np.float64).std(axis=0), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 7.0, -65504.0, 1e-3])
def test_a_dimension_that_never_changes_has_deviation_one(value):
    values = np.random.default_rng(0).normal(size=(1000, 2))
    values[:, 1] = value
    ((mean, std),) = statistics(OneStream(values))
    assert (mean[1], std[1]) == (np.float16(value), 1.0)
