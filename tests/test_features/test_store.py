"""The store: what goes in comes out, a video is there whole or not at all, and nothing wrong is taken or given."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from feature_files import (
    COLUMNS,
    DENSE,
    REGIONS,
    finished,
    kill_when_stopped,
    make_featureset,
    names_in,
    python,
    row,
    video,
    with_regions,
    write_rows,
    write_set,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from features.annotations import Segments, read_segments
from features.direct import find_features, read_unchanged
from features.errors import DataError
from features.intervals import need_same_times, segment_times
from features.merging import merge
from features.reading import open as open_set
from features.store import (
    VideoFeatures,
    held_segments,
    read_features,
    read_held_segments,
    read_rows,
    read_times,
    read_video,
    video_ids,
    with_views,
    write_video,
)

# Writes a video of some megabytes; with "stop", halts when the file is whole but not yet in its place.
WRITE_LARGE = """
import sys, time
from pathlib import Path
from feature_files import make_featureset, video
from features.errors import DataError
from features.store import write_video

def stop(event, arguments):
    if event == "os.rename":
        print("stopped", flush=True)
        time.sleep(60)

root, mode = Path(sys.argv[1]), sys.argv[2]
if mode == "stop":
    sys.addaudithook(stop)
try:
    write_video(root, video(lengths=[1000], dim=2048), make_featureset(dim=2048))
except DataError as error:
    sys.exit(f"DataError {error}")
"""
ONE_MEGABYTE = (1_000_000, 1_000_000)


def arrays_of(features: VideoFeatures) -> dict[str, object]:
    """Everything of a video's features, down to the bit."""
    arrays = {name: getattr(features, name) for name in ("features", "seconds", "frame", "offset", "start_s", "stop_s")}
    exact = {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}
    names = {name: getattr(features, name) for name in ("video_id", "fps", "narration_id", "views")}
    return {**names, **exact}


# ---- there and back


@st.composite
def video_features(draw: st.DrawFn) -> VideoFeatures:
    """Videos of ragged segments, or dense, of any width and number of views; every finite bit pattern may occur."""
    lengths = draw(st.lists(st.integers(1, 90), max_size=6))
    num_steps = sum(lengths) or draw(st.integers(1, 200))
    num_views, dim = draw(st.integers(1, 4)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bits = rng.integers(0, 2**16, (num_steps, num_views, dim), dtype=np.uint16).view(np.float16)
    names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,30}", fullmatch=True)
    start_s = rng.uniform(0, 4000, len(lengths))
    return VideoFeatures(
        video_id="P01_01",
        fps=draw(st.floats(1, 240)),
        features=np.where(np.isfinite(bits), bits, np.float16(0)),
        seconds=rng.uniform(0, 4000, num_steps),
        frame=rng.integers(0, 2**31, num_steps).astype(np.int32),
        narration_id=tuple(draw(st.lists(names, min_size=len(lengths), max_size=len(lengths), unique=True))),
        offset=np.cumsum([0, *lengths], dtype=np.int64),
        start_s=start_s,
        stop_s=start_s + rng.uniform(0.1, 300, len(lengths)),
        views=tuple(f"view{index}" for index in range(num_views)),
    )


@settings(max_examples=40, deadline=None)
@given(video_features())
def test_every_bit_comes_back(tmp_path_factory, features: VideoFeatures) -> None:
    root = tmp_path_factory.mktemp("set")
    dim = features.features.shape[2]
    featureset = make_featureset(dim=dim, views=features.views)
    write_video(root, features, featureset)
    assert arrays_of(read_video(root, "P01_01", digest=featureset.digest)) == arrays_of(features)
    array = read_unchanged(find_features(root, "P01_01", digest=featureset.digest))
    assert array.tobytes() == features.features.tobytes()


def test_dense_video_without_segments_comes_back(tmp_path: Path) -> None:
    dense = video(lengths=[])
    featureset = write_set(tmp_path, dense, sampling=DENSE)
    features = read_video(tmp_path, "P01_01", digest=featureset.digest)
    assert arrays_of(features) == arrays_of(dense)
    assert features.narration_id == ()


def test_file_is_laid_out_as_the_design_says(tmp_path: Path) -> None:
    features = video(lengths=[3, 1, 4], views=2)
    featureset = write_set(tmp_path, features, views=("centre", "flip"))
    with h5py.File(tmp_path / "P01_01.h5") as file:
        np.testing.assert_array_equal(file["features"], features.features)
        assert [(file[name].dtype, file[name].shape) for name in ("features", "seconds", "frame")] == [
            (np.float16, (8, 2, 8)),
            (np.float64, (8,)),
            (np.int32, (8,)),
        ]
        assert list(file["views"].asstr()) == ["centre", "flip"]
        assert list(file["segments/narration_id"].asstr()) == ["P01_01_0", "P01_01_1", "P01_01_2"]
        assert file["segments/offset"][:].tolist() == [0, 3, 4, 8]
        assert dict(file.attrs) == {
            "video_id": "P01_01",
            "fps": 60000 / 1001,
            "digest": featureset.digest,
            "complete": 1,
        }


def test_every_array_of_a_file_carries_a_checksum(tmp_path: Path) -> None:
    write_set(tmp_path, video())
    names = []
    with h5py.File(tmp_path / "P01_01.h5") as file:
        file.visititems(
            lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) and not node.fletcher32 else None
        )
    assert names == []


def test_dense_file_has_no_segments_group(tmp_path: Path) -> None:
    write_set(tmp_path, video(lengths=[]), sampling=DENSE)
    with h5py.File(tmp_path / "P01_01.h5") as file:
        assert "segments" not in file


def test_same_features_give_the_same_bytes_later_and_elsewhere(tmp_path: Path) -> None:
    write_set(tmp_path / "first", video())
    time.sleep(1.1)  # HDF5's times count whole seconds
    write_set(tmp_path / "second", video())
    assert (tmp_path / "first/P01_01.h5").read_bytes() == (tmp_path / "second/P01_01.h5").read_bytes()


# ---- whole or not at all


def test_videos_are_listed_by_id_without_what_is_unfinished(tmp_path: Path) -> None:
    write_set(tmp_path, video("P02_101"), video("P01_01"))
    (tmp_path / ".P03_01.h5.elsewhere.1.tmp").write_bytes(b"half")
    (tmp_path / ".P03_01.h5").write_bytes(b"hidden")
    assert video_ids(tmp_path) == ["P01_01", "P02_101"]


def kill_in_the_middle_of_writing(root: Path) -> None:
    kill_when_stopped(python(WRITE_LARGE, root, "stop"))


def test_killed_write_is_never_visible(tmp_path: Path) -> None:
    kill_in_the_middle_of_writing(tmp_path)
    assert video_ids(tmp_path) == []
    assert not list(tmp_path.glob("*.h5"))


def test_write_killed_between_two_bytes_is_never_visible(tmp_path: Path) -> None:
    """The kernel kills the process at its first byte beyond a megabyte, in the middle of the array."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, ONE_MEGABYTE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    # Python ignores the signal from its start on, so the default is set again where the code runs.
    code = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n" + WRITE_LARGE
    exit_code, _, _ = finished(python(code, tmp_path, "run", preexec_fn=limit))
    assert exit_code == -signal.SIGXFSZ
    assert not list(tmp_path.glob("*.h5"))


def test_next_write_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    kill_in_the_middle_of_writing(tmp_path)
    assert [name.endswith(".tmp") for name in names_in(tmp_path)] == [True]
    write_video(tmp_path, video(), make_featureset())
    assert names_in(tmp_path) == ["P01_01.h5"]


def test_video_written_again_replaces_the_old_one(tmp_path: Path) -> None:
    featureset = write_set(tmp_path, video(seed=0))
    write_video(tmp_path, video(seed=1), featureset)
    features = read_video(tmp_path, "P01_01", digest=featureset.digest)
    np.testing.assert_array_equal(features.features, video(seed=1).features)


def test_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    process = python(
        WRITE_LARGE, tmp_path, "run", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, ONE_MEGABYTE)
    )
    code, _, err = finished(process)
    assert (code, err) == (1, f"DataError {tmp_path / 'P01_01.h5'}: cannot be written: File too large.\n")


def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_video(tmp_path, video(), make_featureset())
    content_before = (tmp_path / "P01_01.h5").read_bytes()
    finished(
        python(WRITE_LARGE, tmp_path, "run", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, ONE_MEGABYTE))
    )
    assert names_in(tmp_path) == ["P01_01.h5"]
    assert (tmp_path / "P01_01.h5").read_bytes() == content_before


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError) as error:
        write_video(tmp_path / "file" / "set", video(), make_featureset())
    assert str(error.value) == f"{tmp_path / 'file' / 'set' / 'P01_01.h5'}: cannot be written: Not a directory."


# ---- what is not taken


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_not_written(tmp_path: Path, value: float) -> None:
    features = video(views=2)
    features.features[5, 1, 3] = value
    with pytest.raises(DataError, match=r"P01_01: features are not finite"):
        write_video(tmp_path, features, make_featureset(views=("centre", "flip")))
    assert names_in(tmp_path) == []


def test_refused_features_leave_the_old_file(tmp_path: Path) -> None:
    featureset = write_set(tmp_path, video())
    features = video()
    features.features[0] = np.nan
    with pytest.raises(DataError):
        write_video(tmp_path, features, featureset)
    assert arrays_of(read_video(tmp_path, "P01_01", digest=featureset.digest)) == arrays_of(video())


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (video(dim=9), "features are 9 wide, not 8"),
        (video(views=2), "view 'flip' is none of the set's, which are centre"),
    ],
    ids=["width", "view"],
)
def test_features_that_the_record_does_not_know_are_not_written(tmp_path: Path, features, message: str) -> None:
    with pytest.raises(DataError, match=f"P01_01: {message}"):
        write_video(tmp_path, features, make_featureset())
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.zeros((8, 8), np.float16)}, r"features are float16 \(8, 8\), not float16 \(N, V, D\)"),
        ({"features": np.zeros((8, 1, 8), np.float32)}, r"features are float32 \(8, 1, 8\)"),
        ({"features": np.zeros((8, 2, 8), np.float16)}, "2 views are named centre"),
        ({"seconds": np.zeros(7)}, r"seconds has shape \(7,\), not \(8,\)"),
        ({"frame": np.zeros(9, np.int32)}, r"frame has shape \(9,\), not \(8,\)"),
        ({"start_s": np.zeros(2)}, r"start_s has shape \(2,\), not \(3,\)"),
        ({"stop_s": np.zeros(4)}, r"stop_s has shape \(4,\), not \(3,\)"),
        ({"offset": np.array([0, 3, 8])}, r"offset has shape \(3,\), not \(4,\)"),
        ({"offset": np.array([0, 3, 4, 9])}, "offset does not cut 8 steps into segments"),
        ({"offset": np.array([1, 3, 4, 8])}, "offset does not cut 8 steps into segments"),
        ({"offset": np.array([0, 3, 3, 8])}, "offset does not cut 8 steps into segments"),
        ({"offset": np.array([0, 4, 3, 8])}, "offset does not cut 8 steps into segments"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=f"P01_01: {message}"):
        video(**changes)


# ---- what is not given


@pytest.mark.parametrize("complete", [None, 0])
def test_file_that_is_not_marked_complete_is_not_read(tmp_path: Path, complete: int | None) -> None:
    featureset = write_set(tmp_path, video())
    with h5py.File(tmp_path / "P01_01.h5", "r+") as file:
        del file.attrs["complete"]
        if complete is not None:
            file.attrs["complete"] = complete
    with pytest.raises(DataError, match=r"P01_01\.h5: not marked complete"):
        read_video(tmp_path, "P01_01", digest=featureset.digest)


@pytest.mark.parametrize("name", ["features", "seconds", "frame", "segments/offset", "segments/narration_id"])
def test_file_that_lacks_an_array_is_not_read(tmp_path: Path, name: str) -> None:
    featureset = write_set(tmp_path, video())
    with h5py.File(tmp_path / "P01_01.h5", "r+") as file:
        del file[name]
    with pytest.raises(DataError, match=r"P01_01\.h5: not of this schema"):
        read_video(tmp_path, "P01_01", digest=featureset.digest)


def test_file_of_something_else_is_named(tmp_path: Path) -> None:
    featureset = write_set(tmp_path)
    (tmp_path / "P01_01.h5").write_bytes(b"no HDF5 at all")
    with pytest.raises(DataError, match=r"P01_01\.h5: damaged"):
        read_video(tmp_path, "P01_01", digest=featureset.digest)


def test_file_cut_anywhere_is_not_read(tmp_path: Path) -> None:
    featureset = write_set(tmp_path, video())
    path = tmp_path / "P01_01.h5"
    content = path.read_bytes()
    for length in range(0, len(content), len(content) // 60):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"P01_01\.h5"):
            read_video(tmp_path, "P01_01", digest=featureset.digest)


@pytest.fixture(scope="module")
def flip_outcomes(tmp_path_factory) -> list[tuple[int, str]]:
    """What reading gives where one byte is wrong: every so many bytes, in the arrays and in HDF5's own tables.

    Returns:
        (place, outcome) with outcome "refused", "the same", "other ..." or the name of an error.
    """
    root = tmp_path_factory.mktemp("flipped")
    featureset = write_set(root, video())
    path = root / "P01_01.h5"
    content, expected = path.read_bytes(), arrays_of(read_video(root, "P01_01", digest=featureset.digest))
    outcomes = []
    for position in range(0, len(content), 23):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            actual = arrays_of(read_video(root, "P01_01", digest=featureset.digest))
        except DataError:
            outcomes.append((position, "refused"))
        except Exception as error:  # noqa: BLE001 - that there is none is what is tested
            outcomes.append((position, repr(error)))
        else:
            different = [name for name in expected if actual[name] != expected[name]]
            outcomes.append((position, f"other {', '.join(different)}" if different else "the same"))
    return outcomes


def test_flipped_byte_is_refused_by_an_error_of_ours(flip_outcomes: list[tuple[int, str]]) -> None:
    assert [pair for pair in flip_outcomes if not pair[1].startswith(("refused", "the same", "other"))] == []


def test_flipped_byte_never_changes_what_is_read(flip_outcomes: list[tuple[int, str]]) -> None:
    assert [pair for pair in flip_outcomes if pair[1].startswith("other")] == []


# ---- times and features, each alone


@pytest.fixture(scope="module")
def two_views(tmp_path_factory) -> Path:
    """A set of two videos and two views; P02_101 has a segment fewer than P01_01."""
    root = tmp_path_factory.mktemp("set")
    first = video("P01_01", lengths=[3, 1, 4], views=2, seed=1)
    second = video("P02_101", lengths=[2, 5], views=2, seed=2)
    write_set(root, first, second, views=("centre", "flip"))
    return root


TWO_VIEWS = make_featureset(views=("centre", "flip")).digest


def segments_of(folder: Path, *rows: dict[str, str]) -> Segments:
    return read_segments(write_rows(folder / "own.csv", rows, columns=COLUMNS))


def test_times_are_those_of_the_whole_file(two_views: Path) -> None:
    features = read_video(two_views, "P01_01", digest=TWO_VIEWS)
    times = read_times(two_views, "P01_01", digest=TWO_VIEWS)
    assert times.segments.narration_id == features.narration_id
    arrays = (times.segments.start_s, times.segments.stop_s, times.offset, times.seconds)
    for array, expected in zip(
        arrays, (features.start_s, features.stop_s, features.offset, features.seconds), strict=True
    ):
        np.testing.assert_array_equal(array, expected)


def test_times_of_a_dense_file_name_no_segments(tmp_path: Path) -> None:
    dense = video(lengths=[])
    featureset = write_set(tmp_path, dense, sampling=DENSE)
    times = read_times(tmp_path, "P01_01", digest=featureset.digest)
    assert (times.segments.narration_id, times.offset.tolist()) == ((), [0])
    np.testing.assert_array_equal(times.seconds, dense.seconds)


def test_features_alone_are_those_of_the_whole_file(two_views: Path) -> None:
    features = read_video(two_views, "P02_101", digest=TWO_VIEWS)
    stored = read_features(two_views, "P02_101", digest=TWO_VIEWS)
    np.testing.assert_array_equal(stored.features, features.features)
    assert stored.views == ("centre", "flip")


def test_views_are_read_by_name(two_views: Path) -> None:
    whole = read_video(two_views, "P01_01", digest=TWO_VIEWS)
    flipped = read_video(two_views, "P01_01", digest=TWO_VIEWS, views=["flip", "centre"])
    assert flipped.views == ("flip", "centre")
    np.testing.assert_array_equal(flipped.features, whole.features[:, ::-1])
    rows = read_rows(two_views, "P01_01", slice(3, 8), digest=TWO_VIEWS, view="flip")
    np.testing.assert_array_equal(rows, whole.features[3:8, 1])


def test_files_of_one_set_may_hold_different_views(tmp_path: Path) -> None:
    featureset = write_set(tmp_path, video(views=2), video("P02_101"), views=("centre", "flip"))
    assert [read_video(tmp_path, name, digest=featureset.digest).views for name in ("P01_01", "P02_101")] == [
        ("centre", "flip"),
        ("centre",),
    ]
    own = segment_times(segments_of(tmp_path, row(0, video_id="P02_101")))
    for views, expected in (((), 3), (("centre",), 3), (("centre", "flip"), 0)):
        held = held_segments(tmp_path, "P02_101", featureset, own, views=views)
        assert len(held.narration_id) == expected
    with pytest.raises(DataError, match=r"P02_101\.h5: has no view 'flip', only centre; extract it \(--views flip\)"):
        read_video(tmp_path, "P02_101", digest=featureset.digest, views=["flip"])


def test_a_file_that_lists_no_views_holds_those_of_the_digest(tmp_path: Path) -> None:
    views = ("flip", "centre")
    featureset = write_set(tmp_path, replace(video(views=2), views=views), views=views, digest_views=views)
    with h5py.File(tmp_path / "P01_01.h5", "r+") as file:
        del file["views"]
    assert read_video(tmp_path, "P01_01", digest=featureset.digest).views == views
    assert find_features(tmp_path, "P01_01", digest=featureset.digest).views == views


def test_a_long_video_is_read_again_in_parts(tmp_path: Path) -> None:
    features = video(lengths=[64 * 64 * 2 + 5])
    featureset = write_set(tmp_path, features)
    array = read_unchanged(find_features(tmp_path, "P01_01", digest=featureset.digest))
    np.testing.assert_array_equal(array, features.features)


@pytest.mark.parametrize(
    "layout",
    [{}, {"chunks": (3, 1, 8), "fletcher32": True}, {"compression": "gzip", "fletcher32": True}, {"shuffle": True}],
    ids=["contiguous", "cut across", "compressed", "shuffled"],
)
def test_features_that_lie_otherwise_have_no_place(tmp_path: Path, layout: dict) -> None:
    features = video(lengths=[70, 30], views=2)
    featureset = write_set(tmp_path, features, views=("centre", "flip"))
    with h5py.File(tmp_path / "P01_01.h5", "r+") as file:
        del file["features"]
        file.create_dataset("features", data=features.features, **layout)
    assert find_features(tmp_path, "P01_01", digest=featureset.digest) is None


def test_features_of_which_a_part_was_never_written_have_no_place(tmp_path: Path) -> None:
    features = video(lengths=[200])
    featureset = write_set(tmp_path, features)
    with h5py.File(tmp_path / "P01_01.h5", "r+") as file:
        del file["features"]
        layout = {"chunks": (64, 1, 8), "fletcher32": True}
        file.create_dataset("features", features.features.shape, np.float16, **layout)[64:128] = 1
    assert find_features(tmp_path, "P01_01", digest=featureset.digest) is None


@pytest.mark.parametrize("change", ["written", "replaced", "removed"])
def test_what_has_changed_is_not_read_without_checksums(tmp_path: Path, change: str) -> None:
    featureset = write_set(tmp_path, video(lengths=[100]))
    location = find_features(tmp_path, "P01_01", digest=featureset.digest)
    assert read_unchanged(location) is not None
    if change == "written":
        with h5py.File(location.path, "r+") as file:
            file["features"][0] = 1
    else:
        location.path.unlink()
    if change == "replaced":
        write_set(tmp_path, video(lengths=[100]))
    assert read_unchanged(location) is None


# ---- regions


@pytest.mark.parametrize("lengths", [[3, 1, 4], []], ids=["segment", "dense"])
def test_regions_come_back_with_the_steps(tmp_path: Path, lengths: list[int]) -> None:
    stored = with_regions(video(lengths=lengths, views=2))
    sampling = {} if lengths else {"sampling": DENSE}
    featureset = write_set(tmp_path, stored, views=("centre", "flip"), **REGIONS, **sampling)
    for result in (
        read_video(tmp_path, "P01_01", digest=featureset.digest, views=["flip"]),
        read_times(tmp_path, "P01_01", digest=featureset.digest),
    ):
        assert result.has_region.dtype == bool
        np.testing.assert_array_equal(result.has_region, stored.has_region)


@pytest.mark.parametrize("has_region", [None, np.ones((8, 3), bool)], ids=["missing", "of other cells"])
def test_a_set_with_regions_takes_no_file_without(tmp_path: Path, has_region: np.ndarray | None) -> None:
    with pytest.raises(DataError, match=r"P01_01\.h5: .*has_region.* bool \(N, 2\)"):
        write_set(tmp_path, video(has_region=has_region), **REGIONS)
    assert names_in(tmp_path) == ["featureset.json"]


def test_a_set_without_regions_takes_no_file_with_some(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"P01_01\.h5: has a has_region, which only sets with regions have"):
        write_set(tmp_path, with_regions(video()))


@pytest.mark.parametrize("has_region", [np.ones((7, 2), bool), np.ones((8, 2))], ids=["of other steps", "no bool"])
def test_regions_are_yes_or_no_for_each_step(has_region: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"has_region is \w+ \(\d, 2\), not bool \(8, cells\)"):
        video(has_region=has_region)


@pytest.mark.parametrize("is_there", [True, False], ids=["one too many", "missing"])
def test_a_file_with_the_regions_of_another_set_is_refused(tmp_path: Path, is_there: bool) -> None:
    features, record = (video(), {}) if is_there else (with_regions(video()), REGIONS)
    featureset = write_set(tmp_path, features, **record)
    with h5py.File(tmp_path / "P01_01.h5", "r+") as file:
        if is_there:
            file["has_region"] = np.ones((8, 1), bool)
        else:
            del file["has_region"]
    own = segment_times(segments_of(tmp_path, row(0)))
    for refusing in (
        lambda: read_held_segments(tmp_path, "P01_01", featureset, own),
        lambda: open_set(tmp_path)["P01_01"],
        lambda: merge([tmp_path], tmp_path / "out"),
    ):
        with pytest.raises(DataError, match=r"P01_01\.h5: .*has_region.*delete it and run the extraction again"):
            refusing()


def test_regions_of_other_steps_are_refused(tmp_path: Path) -> None:
    featureset = write_set(tmp_path, with_regions(video()), **REGIONS)
    with h5py.File(tmp_path / "P01_01.h5", "r+") as file:
        del file["has_region"]
        file["has_region"] = np.ones((7, 2), bool)
    with pytest.raises(DataError, match=r"P01_01\.h5: has_region is of 7 steps, not 8"):
        read_times(tmp_path, "P01_01", digest=featureset.digest)


def test_a_video_that_gains_views_keeps_its_regions() -> None:
    stored = with_regions(video())
    other = replace(with_regions(video(seed=3)), views=("flip",))
    whole = with_views(stored, other)
    assert whole.views == ("centre", "flip")
    np.testing.assert_array_equal(whole.has_region, stored.has_region)
    for changed in (replace(other, has_region=~other.has_region), replace(other, has_region=None)):
        with pytest.raises(DataError, match="have other regions than those of flip"):
            with_views(stored, changed)


READERS = {"video": read_video, "times": read_times, "features": read_features}
every_reader = pytest.mark.parametrize("reader", READERS.values(), ids=READERS)


@every_reader
def test_file_that_is_not_there_is_named(tmp_path: Path, reader: Callable) -> None:
    with pytest.raises(DataError, match=r"P01_01\.h5: no such file; extract this video first"):
        reader(tmp_path, "P01_01", digest="any")


@every_reader
def test_file_of_other_settings_is_refused(two_views: Path, reader: Callable) -> None:
    with pytest.raises(DataError, match=r"P01_01\.h5: made with other settings"):
        reader(two_views, "P01_01", digest=make_featureset(backbone="another").digest)


@every_reader
def test_file_without_what_is_read_is_not_of_this_schema(tmp_path: Path, reader: Callable) -> None:
    featureset = write_set(tmp_path, video())
    with h5py.File(tmp_path / "P01_01.h5", "r+") as file:
        for name in ("features", "seconds", "segments/start_s"):
            del file[name]
    with pytest.raises(DataError, match=r"P01_01\.h5: not of this schema"):
        reader(tmp_path, "P01_01", digest=featureset.digest)


def test_times_of_segments_beyond_the_steps_are_refused(tmp_path: Path) -> None:
    featureset = write_set(tmp_path, video())
    with h5py.File(tmp_path / "P01_01.h5", "r+") as file:
        file["segments/offset"][3] = 9
    with pytest.raises(DataError, match=r"P01_01\.h5: offset does not cut 8 steps into segments"):
        read_times(tmp_path, "P01_01", digest=featureset.digest)


@pytest.mark.parametrize("edge", ["start", "stop"])
def test_segment_whose_interval_has_changed_is_refused(two_views: Path, tmp_path: Path, edge: str) -> None:
    stored_times = read_times(two_views, "P01_01", digest=TWO_VIEWS).segments
    changed_row = row(2, **{f"{edge}_timestamp": "00:00:04.25"})
    requested_times = segment_times(segments_of(tmp_path, row(0), changed_row))
    with pytest.raises(DataError, match=r"P01_01\.h5: segment P01_01_2 was extracted from 4\.00 to 5\.00 s") as error:
        need_same_times(two_views / "P01_01.h5", requested_times, stored_times)
    assert "4.25" in str(error.value)


def test_times_are_compared_where_both_have_the_segment(two_views: Path, tmp_path: Path) -> None:
    stored_times = read_times(two_views, "P02_101", digest=TWO_VIEWS).segments
    requested_times = segment_times(segments_of(tmp_path, row(0, video_id="P02_101"), row(9, video_id="P02_101")))
    need_same_times(two_views / "P02_101.h5", requested_times, stored_times)
