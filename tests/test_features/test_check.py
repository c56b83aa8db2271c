"""A look at a whole feature set: what is there and what is missing is counted, and whatever is wrong is found."""

from __future__ import annotations

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
    make_featureset,
    row,
    video,
    with_regions,
    write_rows,
    write_set,
)

from features.annotations import Segments, read_segments
from features.check import info, verify
from features.errors import DataError
from features.failures import Failure, write_failures
from features.store import VideoFeatures, write_video


def problems(root: Path) -> list[str]:
    return list(verify(root))


def change_hdf5(path: Path, change: Callable[[h5py.File], None]) -> None:
    """Change a stored file from outside, checksums and all."""
    with h5py.File(path, "r+") as file:
        change(file)


def replace_array(name: str, values: np.ndarray) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)

    return change


# ---- verify


@pytest.mark.parametrize("lengths", [[3, 1, 4], []], ids=["segment", "dense"])
def test_sound_set_has_no_problems(tmp_path: Path, lengths: list[int]) -> None:
    first, second = video("P01_01", lengths=lengths), video("P01_02", lengths=lengths)
    write_set(tmp_path, first, second, **({} if lengths else {"sampling": DENSE}))
    assert problems(tmp_path) == []


def test_regions_that_are_missing_or_too_many_are_found(tmp_path: Path) -> None:
    for name, features, changes in (("with", with_regions(video()), REGIONS), ("without", video(), {})):
        write_set(tmp_path / name, features, **changes)
        assert problems(tmp_path / name) == []
    assert info(tmp_path / "without").regions == {}
    expected = with_regions(video()).has_region.sum(axis=0).tolist()
    assert info(tmp_path / "with").regions == dict(zip(REGIONS["cells"], expected, strict=True))
    change_hdf5(tmp_path / "with/P01_01.h5", lambda file: file.__delitem__("has_region"))
    change_hdf5(tmp_path / "without/P01_01.h5", lambda file: file.update({"has_region": np.ones((8, 1), bool)}))
    for name, expected in (("with", "lacks has_region bool (N, 2)"), ("without", "has a has_region, which only sets")):
        [problem] = problems(tmp_path / name)
        assert f"{name}/P01_01.h5: {expected}" in problem


def test_empty_set_has_no_problems(tmp_path: Path) -> None:
    write_set(tmp_path)
    assert problems(tmp_path) == []


def test_no_feature_set_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a feature set"):
        problems(tmp_path)


@pytest.mark.parametrize("name", ["features", "seconds", "frame", "segments/offset", "segments/narration_id"])
def test_flipped_byte_in_an_array_is_found(tmp_path: Path, name: str) -> None:
    write_set(tmp_path, video())
    path = tmp_path / "P01_01.h5"
    with h5py.File(path) as file:
        position = file[name].id.get_chunk_info(0).byte_offset + 1
    content = bytearray(path.read_bytes())
    content[position] ^= 0x01
    path.write_bytes(content)
    (problem,) = problems(tmp_path)
    assert problem.startswith(f"{path}: damaged")


def test_damaged_file_does_not_hide_the_next_one(tmp_path: Path) -> None:
    write_set(tmp_path, video("P01_01"), video("P01_02"))
    for video_id in ("P01_01", "P01_02"):
        (tmp_path / f"{video_id}.h5").write_bytes(b"no HDF5 at all")
    assert [problem.split(": ")[0] for problem in problems(tmp_path)] == [
        str(tmp_path / "P01_01.h5"),
        str(tmp_path / "P01_02.h5"),
    ]


def test_file_cut_short_is_found(tmp_path: Path) -> None:
    write_set(tmp_path, video())
    path = tmp_path / "P01_01.h5"
    path.write_bytes(path.read_bytes()[:-100])
    (problem,) = problems(tmp_path)
    assert problem.startswith(f"{path}: ")


def test_file_that_is_not_marked_complete_is_found(tmp_path: Path) -> None:
    write_set(tmp_path, video())
    change_hdf5(tmp_path / "P01_01.h5", lambda file: file.attrs.__delitem__("complete"))
    (problem,) = problems(tmp_path)
    assert "P01_01.h5: not marked complete" in problem


def test_file_of_other_settings_is_found(tmp_path: Path) -> None:
    write_set(tmp_path)
    write_video(tmp_path, video(), make_featureset(backbone="another"))
    (problem,) = problems(tmp_path)
    assert "P01_01.h5: made with other settings than featureset.json" in problem


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_value_that_is_not_finite_is_found_by_its_row(tmp_path: Path, value: float) -> None:
    write_set(tmp_path, video())

    def change(file: h5py.File) -> None:
        file["features"][5, 0, 3] = value

    change_hdf5(tmp_path / "P01_01.h5", change)
    assert problems(tmp_path) == ["P01_01.h5: 1 of 8 steps are NaN or infinite, the first is row 5."]


def test_features_of_another_width_are_found(tmp_path: Path) -> None:
    write_set(tmp_path, video())
    change_hdf5(tmp_path / "P01_01.h5", replace_array("features", np.zeros((8, 1, 9), np.float16)))
    assert problems(tmp_path) == ["P01_01.h5: features are 9 wide, featureset.json says 8."]


def test_a_view_that_the_record_does_not_name_is_found(tmp_path: Path) -> None:
    write_set(tmp_path, video(views=2), views=("centre", "flip"))
    record = tmp_path / "featureset.json"
    record.write_text(record.read_text().replace('"flip"', '"left"'))
    assert problems(tmp_path) == ["P01_01.h5: featureset.json does not name the view 'flip'."]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("features", np.zeros((8, 1, 8), np.float32)),
        ("features", np.zeros((7, 1, 8), np.float16)),
        ("seconds", np.zeros(9)),
        ("segments/offset", np.array([0, 3, 4, 9])),
        ("segments/offset", np.array([0, 4, 3, 8])),
    ],
)
def test_arrays_that_do_not_fit_together_are_found(tmp_path: Path, name: str, values: np.ndarray) -> None:
    write_set(tmp_path, video())
    change_hdf5(tmp_path / "P01_01.h5", replace_array(name, values))
    (problem,) = problems(tmp_path)
    assert "P01_01" in problem


@pytest.mark.parametrize("second", [-1.0, np.nan])
def test_times_that_do_not_ascend_are_found(tmp_path: Path, second: float) -> None:
    write_set(tmp_path, video())

    def change(file: h5py.File) -> None:
        file["seconds"][6] = second  # in the middle of the last segment

    change_hdf5(tmp_path / "P01_01.h5", change)
    assert problems(tmp_path) == ["P01_01.h5: the seconds of its steps do not ascend."]


def test_times_may_go_back_where_a_segment_starts(tmp_path: Path) -> None:
    """Segments overlap, and come in the order of their ids."""
    features = video(lengths=[2, 2])
    features.seconds[:] = [5.0, 6.0, 1.0, 2.0]
    write_set(tmp_path, features)
    assert problems(tmp_path) == []


def test_segment_in_two_files_is_found(tmp_path: Path) -> None:
    write_set(tmp_path, video("P01_01"), video("P01_02", narration_id=("P01_02_0", "P01_01_1", "P01_02_2")))
    assert problems(tmp_path) == ["P01_02.h5: segment P01_01_1 is in P01_01.h5 as well."]


def test_segment_twice_in_a_file_is_found(tmp_path: Path) -> None:
    write_set(tmp_path, video(narration_id=("P01_01_0", "P01_01_1", "P01_01_0")))
    assert problems(tmp_path) == ["P01_01.h5: a segment is in the file twice."]


def test_file_without_segments_in_a_set_of_segments_is_found(tmp_path: Path) -> None:
    write_set(tmp_path, video(lengths=[]))
    assert problems(tmp_path) == ["P01_01.h5: the file holds no segments, though the set is sampled by segment."]


@pytest.mark.parametrize("second", [-1.0, np.nan, 1.0])
def test_times_of_a_dense_file_that_do_not_strictly_ascend_are_found(tmp_path: Path, second: float) -> None:
    dense = video(lengths=[])
    dense.seconds[6] = second  # 1.0 is the time of row 5
    write_set(tmp_path, dense, sampling=DENSE)
    assert problems(tmp_path) == ["P01_01.h5: the seconds of its steps do not ascend."]


def test_segments_in_a_dense_file_are_found(tmp_path: Path) -> None:
    write_set(tmp_path, video(lengths=[4]), sampling=DENSE)
    assert problems(tmp_path) == ["P01_01.h5: the file holds segments, though the set is dense."]


# ---- info


@pytest.fixture
def segments(tmp_path: Path) -> Segments:
    """Two segments of each of three videos."""
    rows = [row(index, video_id=video_id) for video_id in ("P01_01", "P01_02", "P02_101") for index in range(2)]
    return read_segments(write_rows(tmp_path / "own.csv", rows, columns=COLUMNS))


def test_what_is_there_is_counted(tmp_path: Path) -> None:
    featureset = write_set(tmp_path / "set", video("P01_01", lengths=[3, 1]), video("P01_02", lengths=[2]))
    counts = info(tmp_path / "set")
    assert counts.featureset == featureset
    assert (counts.complete_videos, counts.complete_segments) == (2, 3)
    assert (counts.failed_videos, counts.failed_segments) == (0, 0)
    assert counts.size_bytes == sum(path.stat().st_size for path in (tmp_path / "set").glob("*.h5"))


def test_what_is_missing_is_unknown_without_annotations(tmp_path: Path) -> None:
    write_set(tmp_path / "set", video())
    counts = info(tmp_path / "set")
    assert (counts.missing_videos, counts.missing_segments) == (None, None)


def test_what_neither_is_there_nor_failed_is_missing(tmp_path: Path, segments: Segments) -> None:
    write_set(tmp_path / "set", video("P01_01", lengths=[3]))
    write_failures(tmp_path / "set", "P01_02", [Failure("P01_02_0", "Undecodable", "frame 7")])
    counts = info(tmp_path / "set", segments)
    assert (counts.complete_videos, counts.complete_segments) == (1, 1)
    assert (counts.failed_videos, counts.failed_segments) == (1, 1)
    assert (counts.missing_videos, counts.missing_segments) == (1, 4)


def test_nothing_is_missing_of_a_complete_set(tmp_path: Path, segments: Segments) -> None:
    write_set(tmp_path / "set", *(video(video_id, lengths=[2, 2]) for video_id in ("P01_01", "P01_02", "P02_101")))
    counts = info(tmp_path / "set", segments)
    assert (counts.missing_videos, counts.missing_segments) == (0, 0)


def test_everything_is_missing_of_an_empty_set(tmp_path: Path, segments: Segments) -> None:
    write_set(tmp_path / "set")
    counts = info(tmp_path / "set", segments)
    assert (counts.missing_videos, counts.missing_segments) == (3, 6)


def test_damaged_file_is_not_counted_as_there(tmp_path: Path) -> None:
    write_set(tmp_path, video())
    (tmp_path / "P01_01.h5").write_bytes(b"no HDF5 at all")
    with pytest.raises(DataError, match=r"P01_01\.h5: damaged"):
        info(tmp_path)


def test_damaged_record_of_failures_is_an_error(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / "failures").mkdir()
    (tmp_path / "failures/P01_01.json").write_text("{")
    with pytest.raises(DataError, match=r"P01_01\.json: not a JSON file"):
        info(tmp_path)


def dense(video_id: str, seconds: np.ndarray) -> VideoFeatures:
    """Features of a dense set with steps at these times."""
    features = video(video_id, lengths=[len(seconds)])
    no_segments = {"narration_id": (), "offset": np.zeros(1, np.int64), "start_s": np.zeros(0), "stop_s": np.zeros(0)}
    return replace(features, seconds=seconds, **no_segments)


def test_steps_of_a_dense_set_are_counted(tmp_path: Path) -> None:
    write_set(tmp_path, video("P01_01", lengths=[]), video("P01_02", lengths=[]), sampling=DENSE)
    counts = info(tmp_path)
    assert (counts.complete_videos, counts.complete_steps, counts.complete_segments) == (2, 24, None)


def test_segments_that_a_dense_set_covers_are_counted(tmp_path: Path, segments: Segments) -> None:
    """Segments last from 0 to 1 s and from 2 to 3 s: one video covers both, one has a hole, one is not there."""
    steps = 0.1 + 0.2 * np.arange(15)  # to 3 s
    steps_with_hole = steps[(steps < 2.2) | (steps > 2.4)]
    write_set(tmp_path / "set", dense("P01_01", steps), dense("P01_02", steps_with_hole), sampling=DENSE)
    counts = info(tmp_path / "set", segments)
    assert (counts.complete_videos, counts.complete_steps, counts.complete_segments) == (2, 29, 3)
    assert (counts.missing_videos, counts.missing_segments) == (1, 3)


def test_segment_past_the_end_of_a_dense_file_is_missing(tmp_path: Path, segments: Segments) -> None:
    write_set(tmp_path / "set", dense("P01_01", 0.1 + 0.2 * np.arange(5)), sampling=DENSE)
    counts = info(tmp_path / "set", segments)
    assert (counts.complete_segments, counts.missing_segments) == (1, 5)


def test_segment_of_a_dense_set_that_failed_is_not_complete(tmp_path: Path, segments: Segments) -> None:
    write_set(tmp_path / "set", dense("P01_01", 0.1 + 0.2 * np.arange(15)), sampling=DENSE)
    write_failures(tmp_path / "set", "P01_01", [Failure("P01_01_1", "Undecodable", "frame 7")])
    counts = info(tmp_path / "set", segments)
    assert (counts.complete_segments, counts.failed_segments, counts.missing_segments) == (1, 1, 4)
