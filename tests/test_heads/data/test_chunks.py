"""The features of a split: the same whether they are in memory at once or in chunks, and never another video's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import labelled_rows, write_csv, write_dense, write_features

from features.annotations import Segments, read_segments
from features.errors import DataError
from features.store import read_features
from heads.config import InputSettings
from heads.data.chunks import BufferPool, Chunk, Split, free_bytes
from heads.data.layout import lay_out, open_sources

CPU = torch.device("cpu")
VIDEOS = ("P01_01", "P02_101", "P03_01", "P04_101")
NUM_STEPS = 60  # of a dense video: 12 s
EVERYTHING = 1e12


@pytest.fixture(scope="module")
def segments(tmp_path_factory) -> Segments:
    """Fourteen segments in four videos."""
    rows = labelled_rows(VIDEOS, 14, np.random.default_rng(0)).sample(frac=1, random_state=1)
    return read_segments(write_csv(tmp_path_factory.mktemp("annotations") / "train.csv", rows))


@pytest.fixture(scope="module")
def roots(segments, tmp_path_factory) -> dict[str, Path]:
    """Sets of both kinds. A step's values: number of the video, row in its file, view, and one that is drawn."""
    folder, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(1)
    lengths = {name: int(rng.integers(1, 6)) for name in segments.narration_id}
    steps = {}
    for video_id, rows in segments.by_video():
        video_steps = _marked_steps(video_id, sum(lengths[name] for name in rows.narration_id), 2)
        cuts = np.cumsum([lengths[name] for name in rows.narration_id])[:-1]
        steps |= dict(zip(rows.narration_id, np.split(video_steps, cuts), strict=True))
    write_features(folder / "segment", segments, steps, views=("centre", "flip"))
    write_dense(folder / "dense", {video_id: _marked_steps(video_id, NUM_STEPS, 1) for video_id in VIDEOS})
    return {"segment": folder / "segment", "dense": folder / "dense"}


def _marked_steps(video_id: str, num_steps: int, num_views: int) -> np.ndarray:
    row, view = np.meshgrid(np.arange(num_steps), np.arange(num_views), indexing="ij")
    noise = np.random.default_rng(num_steps).normal(size=row.shape)
    return np.stack([np.full(row.shape, VIDEOS.index(video_id)), row, view, noise], axis=-1)


def split_of(
    roots: list[Path],
    segments: Segments,
    *,
    memory_bytes: float = EVERYTHING,
    allow_missing: bool = False,
    buffers: BufferPool | None = None,
    **inputs,
) -> Split:
    inputs = InputSettings(**inputs)
    layout = lay_out(open_sources(roots, inputs), segments, inputs, allow_missing=allow_missing)
    return Split(layout, CPU, memory_bytes=memory_bytes, buffers=buffers)


def windows_of(split: Split, generator: torch.Generator | None = None) -> dict[str, list[tuple[np.ndarray, ...]]]:
    """narration_id -> of each stream, the features, times and own part of its window; in the order of reading."""
    windows = {}
    for chunk, order in split.chunks(generator):
        for segment in order.tolist():
            name = split.segments.narration_id[int(chunk.index[segment])]
            assert name not in windows
            windows[name] = [_window(chunk, stream, segment) for stream in range(len(chunk.streams))]
    return windows


def _window(chunk: Chunk, stream_index: int, segment: int) -> tuple[np.ndarray, ...]:
    stream = chunk.streams[stream_index]
    first, stop = int(stream.first[segment]), int(stream.stop[segment])
    rows = np.arange(first, stop)
    own = (rows >= int(stream.inner_first[segment])) & (rows < int(stream.inner_stop[segment]))
    return stream.features[first:stop].clone().numpy(), stream.seconds[first:stop].numpy(), own


def assert_same(first: dict, second: dict) -> None:
    assert set(first) == set(second)
    for name, windows in first.items():
        for ours, theirs in zip(windows, second[name], strict=True):
            for array, expected in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(array, expected)


# ---- what is read


def test_features_and_times_of_a_segment_are_those_of_its_file(roots, segments):
    for name, ((features, seconds, own),) in windows_of(split_of([roots["segment"]], segments)).items():
        with h5py.File(roots["segment"] / f"{name.rsplit('_', 1)[0]}.h5") as file:
            index = list(file["segments/narration_id"].asstr()).index(name)
            first, stop = file["segments/offset"][index : index + 2]
            np.testing.assert_array_equal(features, file["features"][first:stop, :1])
            np.testing.assert_allclose(seconds, file["seconds"][first:stop], atol=1e-4)
        assert own.all()


def test_features_are_kept_as_float16(roots, segments):
    ((chunk, _),) = split_of(list(roots.values()), segments).chunks()
    assert {stream.features.dtype for stream in chunk.streams} == {torch.float16}


@pytest.mark.parametrize(("view", "expected"), [((), [0]), (("flip",), [1]), (("flip", "centre"), [1, 0])])
def test_the_views_asked_for_are_read_in_their_order(roots, segments, view, expected):
    ((chunk, _),) = split_of([roots["segment"]], segments, view=view).chunks()
    assert chunk.streams[0].features[:, :, 2].unique(dim=0).tolist() == [expected]


def test_segments_are_those_that_have_features(roots, segments, tmp_path):
    steps = {"P02_101": _marked_steps("P02_101", NUM_STEPS, 1)}
    write_dense(tmp_path / "few", steps, backbone="other")
    split = split_of([roots["segment"], tmp_path / "few"], segments, allow_missing=True)
    assert set(split.segments.table.video_id) == {"P02_101"}
    assert (len(split) + split.num_missing, len(windows_of(split))) == (14, len(split))


def test_the_middle_of_a_segment_is_that_of_the_annotations(roots, segments):
    split = split_of([roots["segment"]], segments)
    table = split.segments.table
    for chunk, _ in split.chunks():
        rows = table.iloc[chunk.index.numpy()]
        np.testing.assert_allclose(chunk.middle_s, (rows.start_s + rows.stop_s) / 2, rtol=1e-6)


def test_size_is_that_of_the_features(roots, segments):
    split = split_of(list(roots.values()), segments, view=("centre", "flip"))
    ((chunk, _),) = split.chunks()
    assert split.size_bytes == sum(stream.features.numel() * 2 for stream in chunk.streams)


def test_a_split_is_printed_without_its_values(roots, segments):
    assert repr(split_of([roots["segment"]], segments)) == "Split(14 segments in 4 videos, 0 missing)"


def test_memory_of_this_machine_is_more_than_nothing():
    assert free_bytes(CPU) > 1e8


# ---- in memory, or in chunks

KINDS = {
    "segment": (["segment"], {}),
    "dense": (["dense"], {"context": 0.5}),
    "both": (["dense", "segment"], {"view": ("flip", "centre")}),
}
every_kind = pytest.mark.parametrize(("names", "inputs"), KINDS.values(), ids=KINDS)


@every_kind
@pytest.mark.parametrize("memory_bytes", [1, 600, 1500])
def test_chunks_give_the_same_as_all_at_once(roots, segments, names, inputs, memory_bytes):
    sets = [roots[name] for name in names]
    chunked = split_of(sets, segments, memory_bytes=memory_bytes, **inputs)
    resident = split_of(sets, segments, **inputs)
    assert (chunked.is_resident, resident.is_resident) == (chunked.size_bytes <= memory_bytes, True)
    for _ in range(2):  # the second time by another way
        assert_same(windows_of(chunked), windows_of(resident))


def test_a_split_that_just_fits_is_in_memory(roots, segments):
    size = split_of([roots["segment"]], segments).size_bytes
    assert split_of([roots["segment"]], segments, memory_bytes=size).is_resident
    assert not split_of([roots["segment"]], segments, memory_bytes=size - 1).is_resident


@pytest.fixture(scope="module")
def eight_videos(tmp_path_factory) -> tuple[Path, Segments]:
    """A set of eight videos, each of one segment of two steps, 16 bytes."""
    folder = tmp_path_factory.mktemp("eight")
    rows = labelled_rows(tuple(f"P{number:02}_01" for number in range(8)), 8, np.random.default_rng(0))
    segments = read_segments(write_csv(folder / "train.csv", rows))
    write_features(folder / "set", segments, {name: np.ones((2, 4)) for name in segments.narration_id})
    return folder / "set", segments


@pytest.mark.parametrize(
    ("memory_bytes", "expected"), [(3, [1] * 8), (3 * 32, [2] * 4), (3 * 40, [2] * 4), (128, [8]), (1e9, [8])]
)
def test_chunks_take_a_third_of_the_memory_or_one_video(eight_videos, memory_bytes, expected):
    root, segments = eight_videos
    split = split_of([root], segments, memory_bytes=memory_bytes)
    assert [len(chunk) for chunk, _ in split.chunks()] == expected


@pytest.mark.parametrize("memory_bytes", [1, EVERYTHING])
def test_the_order_is_that_of_the_generator(roots, segments, memory_bytes):
    split = split_of([roots["segment"]], segments, memory_bytes=memory_bytes)
    orders = [list(windows_of(split, torch.Generator().manual_seed(seed))) for seed in (0, 0, 1)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted(segments.narration_id)


@pytest.mark.parametrize("memory_bytes", [1, EVERYTHING])
def test_without_a_generator_the_order_is_always_the_same(roots, segments, memory_bytes):
    split = split_of([roots["segment"]], segments, memory_bytes=memory_bytes)
    assert list(windows_of(split)) == list(windows_of(split))


def test_other_videos_come_together_in_each_epoch(eight_videos):
    root, segments = eight_videos
    split = split_of([root], segments, memory_bytes=3 * 32)
    chunks_by_epoch = [
        {frozenset(chunk.index.tolist()) for chunk, _ in split.chunks(torch.Generator().manual_seed(epoch))}
        for epoch in range(5)
    ]
    assert len(set.union(*chunks_by_epoch)) > 12  # of 28 pairs, four an epoch


def test_chunks_use_no_random_numbers_but_the_generators(roots, segments):
    split = split_of([roots["segment"]], segments, memory_bytes=1)
    rng_state = torch.get_rng_state()
    windows_of(split, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), rng_state)


def test_a_pass_that_is_left_early_leaves_nothing_behind(roots, segments):
    split = split_of([roots["segment"]], segments, memory_bytes=1)
    chunks = split.chunks()
    next(chunks)
    chunks.close()
    assert len(windows_of(split)) == 14


def test_two_passes_at_a_time_give_the_same(roots, segments):
    split = split_of(list(roots.values()), segments, memory_bytes=1)
    expected = windows_of(split)
    windows = {}
    for chunk, order in split.chunks():
        assert_same(windows_of(split), expected)
        for segment in order.tolist():
            name = split.segments.narration_id[int(chunk.index[segment])]
            windows[name] = [_window(chunk, stream, segment) for stream in range(len(chunk.streams))]
    assert_same(windows, expected)


def test_passes_take_turns_in_the_same_memory(roots, segments):
    split = split_of([roots["segment"]], segments, memory_bytes=1)
    passes = [[chunk.streams[0].features.data_ptr() for chunk, _ in split.chunks()] for _ in range(2)]
    assert set(passes[0]) == set(passes[1])
    assert len(set(passes[0])) == 2


def test_splits_of_any_size_share_the_memory_that_chunks_are_read_into(roots, segments):
    resident_splits = [split_of([roots[name]], segments) for name in roots]
    buffers = BufferPool()
    chunked_splits = [split_of([roots[name]], segments, memory_bytes=1, buffers=buffers) for name in roots]
    for _ in range(2):
        for chunked, resident in zip(chunked_splits, resident_splits, strict=True):
            assert_same(windows_of(chunked), windows_of(resident))
            assert len(buffers.free) == 2


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted as Linux lists them")
def test_reading_ahead_is_one_thread_and_no_team_of_openmps(tmp_path):
    """With a second team of threads, those of training no longer wait for each other by spinning: steps take twice."""

    def num_threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    rows = labelled_rows(VIDEOS[:2], 4, np.random.default_rng(0))
    segments = read_segments(write_csv(tmp_path / "train.csv", rows))
    steps = {video_id: np.ones((50_000, 4)) for video_id in VIDEOS[:2]}  # torch shares work on more than 32,768
    write_dense(tmp_path / "dense", steps)
    split = split_of([tmp_path / "dense"], segments, memory_bytes=1, context=1e6)
    num_torch_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.ones(100_000).add_(1)
        baseline = num_threads()
        assert {num_threads() - baseline for _ in split.chunks()} == {1}
    finally:
        torch.set_num_threads(num_torch_threads)


# ---- one video never sees another


@given(
    context=st.floats(0, 30),
    neighbours=st.integers(0, 5),
    memory_bytes=st.sampled_from([1, EVERYTHING]),
    data=st.data(),
)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_hold_steps_of_their_own_video_only(roots, segments, context, neighbours, memory_bytes, data):
    names = data.draw(st.permutations(["segment", "dense"]))
    inputs = {"context": context, "neighbours": neighbours, "fusion": "late"}
    windows_by_name = windows_of(
        split_of([roots[name] for name in names], segments, memory_bytes=memory_bytes, **inputs)
    )
    for name, windows in windows_by_name.items():
        for features, _, own in windows:
            assert set(features[:, 0, 0]) == {VIDEOS.index(name.rsplit("_", 1)[0])}
            assert own.any()


def test_the_rows_of_a_segments_video_are_known(roots, segments):
    split = split_of([roots["segment"], roots["dense"]], segments)
    ((chunk, _),) = split.chunks()
    for stream in chunk.streams:
        for segment in range(len(chunk)):
            rows = stream.features[stream.video_first[segment] : stream.video_stop[segment], 0, 0]
            video = VIDEOS.index(split.segments.table.video_id.iloc[int(chunk.index[segment])])
            assert set(rows.tolist()) == {video}
            assert len(rows) == (stream.features[:, 0, 0] == video).sum()


# ---- what is wrong with a file


@pytest.fixture
def own_sets(segments, tmp_path) -> dict[str, Path]:
    """Sets to spoil: segments of two steps, and whole videos."""
    write_features(tmp_path / "segment", segments, {name: np.ones((2, 4)) for name in segments.narration_id})
    write_dense(tmp_path / "dense", {video_id: np.ones((NUM_STEPS, 4)) for video_id in VIDEOS})
    return {"segment": tmp_path / "segment", "dense": tmp_path / "dense"}


def spoil(path: Path, change: Callable[[h5py.File], object]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def set_value(row: int, value: float) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file["features"][row, 0, 3] = value

    return change


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_by_file_and_segment(own_sets, segments, value):
    spoil(own_sets["segment"] / "P02_101.h5", set_value(3, value))
    with h5py.File(own_sets["segment"] / "P02_101.h5") as file:
        name = file["segments/narration_id"].asstr()[1]
    with pytest.raises(DataError, match=rf"P02_101\.h5: features of segment {name} are not finite; delete the file"):
        split_of([own_sets["segment"]], segments)


def test_a_value_that_is_not_finite_in_a_dense_set_is_named_by_its_segment(own_sets, segments):
    spoil(own_sets["dense"] / "P02_101.h5", set_value(8, np.nan))  # 1.7 s; segment 0 starts at 1.37 s
    with pytest.raises(DataError, match=r"P02_101\.h5: features of segment P02_101_0 are not finite"):
        split_of([own_sets["segment"], own_sets["dense"]], segments)


def test_a_value_that_is_not_finite_in_no_segment_is_named_by_its_step(own_sets, segments):
    spoil(own_sets["dense"] / "P02_101.h5", set_value(2, np.nan))
    with pytest.raises(DataError, match=r"P02_101\.h5: features of step 2 are not finite"):
        split_of([own_sets["dense"]], segments)


@pytest.mark.parametrize("value", [65504, -65504, 6e-8, -0.0])
def test_any_finite_value_is_taken(own_sets, segments, value):
    spoil(own_sets["segment"] / "P02_101.h5", set_value(3, value))
    split_of([own_sets["segment"]], segments)


def test_a_value_that_is_not_finite_in_a_view_not_looked_at_is_no_matter(segments, tmp_path):
    steps = {name: np.ones((2, 2, 4)) for name in segments.narration_id}
    write_features(tmp_path / "set", segments, steps, views=("centre", "flip"))
    spoil(tmp_path / "set/P02_101.h5", set_value(3, np.nan))
    split_of([tmp_path / "set"], segments, view=("flip",))
    with pytest.raises(DataError, match="are not finite"):
        split_of([tmp_path / "set"], segments, view=("flip", "centre"))


@pytest.mark.parametrize("memory_bytes", [1, EVERYTHING])
@pytest.mark.parametrize(
    "array", [np.ones((8, 1, 5), np.float16), np.ones((8, 2, 4), np.float16), np.ones((1, 1, 4), np.float16)]
)
def test_features_of_another_shape_are_refused(own_sets, segments, array, memory_bytes):
    def change(file: h5py.File) -> None:
        del file["features"]
        file["features"] = array

    spoil(own_sets["segment"] / "P02_101.h5", change)
    with pytest.raises(DataError, match=r"P02_101\.h5: features are float16 \(.*delete the file"):
        windows_of(split_of([own_sets["segment"]], segments, memory_bytes=memory_bytes))


# ---- reading ahead


def test_a_file_is_checked_once_until_it_changes(own_sets, segments, monkeypatch):
    read_videos = []

    def read(root: Path, video_id: str, **options) -> np.ndarray:
        read_videos.append(video_id)
        return read_features(root, video_id, **options)

    monkeypatch.setattr("heads.data.reading.read_features", read)
    split = split_of([own_sets["segment"]], segments, memory_bytes=1)
    windows_of(split)
    assert sorted(read_videos) == sorted(VIDEOS)
    path = own_sets["segment"] / "P03_01.h5"
    path.write_bytes(path.read_bytes())
    windows_of(split)
    assert read_videos[len(VIDEOS) :] == ["P03_01"]


def test_a_file_that_is_spoilt_between_epochs_is_an_error_of_ours(own_sets, segments):
    split = split_of([own_sets["segment"]], segments, memory_bytes=1)
    assert len(windows_of(split)) == 14
    spoil(own_sets["segment"] / "P04_101.h5", set_value(0, np.nan))
    with pytest.raises(DataError, match=r"P04_101\.h5: features of segment P04_101_\d are not finite"):
        windows_of(split)


def test_what_was_read_before_an_error_is_given(own_sets, segments):
    split = split_of([own_sets["segment"]], segments, memory_bytes=1)
    (own_sets["segment"] / "P03_01.h5").unlink()
    chunks = split.chunks()
    video_ids = [set(split.segments.table.video_id.iloc[next(chunks)[0].index.numpy()]) for _ in range(2)]
    assert video_ids == [{"P01_01"}, {"P02_101"}]
    with pytest.raises(DataError, match=r"P03_01\.h5: no such file"):
        next(chunks)
