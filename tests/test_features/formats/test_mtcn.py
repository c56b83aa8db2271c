"""MTCN's HDF5 files: ten clips of each segment, with the centres that its clips had."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from feature_files import names_in
from published_features import SEGMENTS, VIDEOS, video_of, write_mtcn

from features.errors import DataError, OptionError
from features.failures import read_failures
from features.featureset import read_featureset
from features.importing import ImportSummary, import_features
from features.store import read_video
from features.windows import windows_by_segment

TRAIN = [name for name in SEGMENTS if video_of(name) != "P02_101"]


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[Path, dict]:
    """The folder of MTCN's two labelled files, and their arrays."""
    folder = tmp_path_factory.mktemp("mtcn")
    train = write_mtcn(folder / "audiovisual_slowfast_features_train.hdf5", TRAIN)
    validation = write_mtcn(
        folder / "audiovisual_slowfast_features_val.hdf5", [name for name in SEGMENTS if name not in TRAIN]
    )
    return folder, {group: {**train[group], **validation[group]} for group in train}


def imported(path: Path, out: Path, annotations: Path, part: str | None = "visual") -> ImportSummary:
    return import_features("mtcn", path, out=out, annotations=annotations, part=part)


@pytest.mark.parametrize("part", ["visual", "audio"])
def test_values_and_intervals_are_those_of_the_files(tmp_path, published, annotations, part) -> None:
    folder, arrays = published
    summary = imported(folder, tmp_path, annotations, part)
    assert (summary.segments, summary.done, summary.kept, summary.failed) == (6, 6, 0, 0)
    featureset = read_featureset(tmp_path)
    assert (featureset.dim, featureset.imported) == (2304, {"format": "mtcn", "part": part, "clips": 10})
    for video_id in VIDEOS:
        video = read_video(tmp_path, video_id, digest=featureset.digest)
        for index, name in enumerate(video.narration_id):
            rows = slice(*video.offset[index : index + 2])
            np.testing.assert_array_equal(video.features[rows, 0], arrays[f"{part}_features"][name])
            assert (video.start_s[index], video.stop_s[index]) == SEGMENTS[name]
        assert "audiovisual_slowfast_features" in video.source["file"]


def test_seconds_are_the_centres_of_ten_clips_of_64_frames_at_60_per_second(tmp_path, published, annotations) -> None:
    """By hand: 4 s hold a clip of 1.067 s and 2.933 s besides; 0.4 s are shorter than a clip; 2.5 s hold 1.433 s."""
    imported(published[0], tmp_path, annotations)
    video = read_video(tmp_path, "P01_01", digest=read_featureset(tmp_path).digest)
    seconds = video.seconds.reshape(3, 10).round(4)
    assert video.narration_id == ("P01_01_0", "P01_01_1", "P01_01_2")
    assert seconds[0].tolist() == [1.5333, 1.8267, 2.12, 2.4133, 2.7067, 3.0, 3.2933, 3.5867, 3.88, 4.1733]
    assert seconds[1].tolist() == [4.4] * 10
    assert seconds[2, [0, 1, 9]].tolist() == [7.0333, 7.1767, 8.3233]
    assert (video.frame == np.floor(video.seconds * 59.94)).all()


def test_windows_hold_the_clips_of_a_segment_and_of_its_neighbours(tmp_path, published, annotations) -> None:
    imported(published[0], tmp_path, annotations)
    video = read_video(tmp_path, "P01_01", digest=read_featureset(tmp_path).digest)
    windows = windows_by_segment(video.segments, video.offset, video.segments, neighbours=1)
    assert (windows.first.tolist(), windows.stop.tolist()) == ([0, 0, 10], [20, 30, 30])
    assert (windows.inner_first.tolist(), windows.inner_stop.tolist()) == ([0, 10, 20], [10, 20, 30])


def test_a_second_import_reads_nothing_again_and_another_file_adds_to_the_set(tmp_path, published, annotations) -> None:
    folder, _ = published
    train, validation = (folder / f"audiovisual_slowfast_features_{split}.hdf5" for split in ("train", "val"))
    first = imported(train, tmp_path, annotations)
    assert (first.done, first.missing_videos) == (4, ("P02_101",))
    before = (tmp_path / "P01_01.h5").stat().st_mtime_ns
    assert imported(train, tmp_path, annotations).kept == 4
    assert imported(validation, tmp_path, annotations).done == 2
    assert (tmp_path / "P01_01.h5").stat().st_mtime_ns == before
    assert names_in(tmp_path) == ["P01_01.h5", "P01_02.h5", "P02_101.h5", "featureset.json"]


def test_a_missing_id_is_recorded_and_found_later(tmp_path, published, annotations) -> None:
    folder, _ = published
    path = tmp_path / "part.hdf5"
    path.write_bytes((folder / "audiovisual_slowfast_features_train.hdf5").read_bytes())
    with h5py.File(path, "a") as file:
        del file["visual_features/P01_01_1"]
    summary = imported(path, tmp_path / "set", annotations)
    assert (summary.done, summary.failed, summary.failed_videos) == (3, 1, ("P01_01",))
    (failure,) = read_failures(tmp_path / "set", "P01_01")
    assert (failure.error, failure.message) == ("NotInSource", f"{path}: holds no features of segment P01_01_1")
    again = imported(folder, tmp_path / "set", annotations)
    assert (again.done, again.kept, again.failed) == (3, 3, 0)
    assert read_failures(tmp_path / "set", "P01_01") == []
    imported(folder, tmp_path / "whole", annotations)
    for root in ("set", "whole"):
        video = read_video(tmp_path / root, "P01_01", digest=read_featureset(tmp_path / root).digest)
        assert (video.narration_id, len(video.features)) == (("P01_01_0", "P01_01_1", "P01_01_2"), 30)


def changed(path: Path, source: Path, name: str, array: np.ndarray) -> Path:
    """Return a copy of a file with another array for a segment."""
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "a") as file:
        del file[f"visual_features/{name}"]
        file[f"visual_features/{name}"] = array
    return path


@pytest.mark.parametrize(
    ("value", "reason"), [(7e4, "70000, beyond the largest float16, 65504"), (np.nan, "nan, not finite")]
)
def test_a_value_that_float16_does_not_hold_is_an_error_that_names_the_segment(
    tmp_path, published, annotations, value, reason
) -> None:
    array = published[1]["visual_features"]["P01_02_0"].copy()
    array[3, 5] = value
    source = published[0] / "audiovisual_slowfast_features_train.hdf5"
    path = changed(tmp_path / "bad.hdf5", source, "P01_02_0", array)
    with pytest.raises(DataError) as error:
        imported(path, tmp_path / "set", annotations)
    assert str(error.value).startswith(f"{path}, segment P01_02_0: row 3 has the value {reason}")
    assert names_in(tmp_path / "set") == ["P01_01.h5", "featureset.json"]


def test_another_number_of_clips_is_recorded(tmp_path, published, annotations) -> None:
    source = published[0] / "audiovisual_slowfast_features_train.hdf5"
    path = changed(tmp_path / "bad.hdf5", source, "P01_02_0", np.zeros((9, 2304), np.float32))
    assert imported(path, tmp_path / "set", annotations).failed == 1
    (failure,) = read_failures(tmp_path / "set", "P01_02")
    assert (failure.error, failure.message) == (
        "WrongRows",
        f"{path}, segment P01_02_0: 9 rows, not one for each of 10 clips.",
    )
    assert not (tmp_path / "set/P01_02.h5").exists()


def test_a_file_that_is_cut_short_is_one_line_and_writes_nothing(tmp_path, published, annotations) -> None:
    content = (published[0] / "audiovisual_slowfast_features_train.hdf5").read_bytes()
    path = tmp_path / "cut.hdf5"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut\.hdf5: .*truncated") as error:
        imported(path, tmp_path / "set", annotations)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set").exists()


def test_a_file_of_something_else_says_what_it_has(tmp_path, annotations) -> None:
    path = tmp_path / "other.hdf5"
    with h5py.File(path, "w") as file:
        file["features/P01_01_0"] = np.zeros((10, 8))
    with pytest.raises(DataError, match="has no group visual_features; it has features"):
        imported(path, tmp_path / "set", annotations)


def test_the_part_has_to_be_named(tmp_path, published, annotations) -> None:
    with pytest.raises(OptionError, match="--part: is needed: mtcn has visual, audio"):
        imported(published[0], tmp_path / "set", annotations, part=None)
    with pytest.raises(OptionError, match="did you mean 'visual'"):
        imported(published[0], tmp_path / "set", annotations, part="visal")
