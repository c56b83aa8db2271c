"""RULSTM's LMDB databases: a row per frame at 30 per second, with gaps where keys are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from feature_files import names_in
from published_features import VIDEOS, drawn, frame_key, write_lmdb

from features.errors import DataError
from features.failures import read_failures
from features.featureset import read_featureset
from features.importing import ImportSummary, import_features
from features.intervals import SegmentTimes
from features.store import VideoFeatures, read_video
from features.windows import windows_by_time

# Frames 100 to 109 of P01_02 are missing: its segment from 0.5 to 2.0 s does not see that, another would.
FRAMES = {"P01_01": range(1, 361), "P01_02": [*range(1, 100), *range(110, 301)], "P02_101": range(1, 271)}


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    values = iter(drawn(sum(map(len, FRAMES.values())), 352))
    return {frame_key(video_id, number): next(values) for video_id, frames in FRAMES.items() for number in frames}


@pytest.fixture(scope="module")
def published(tmp_path_factory, rows: dict[str, np.ndarray]) -> Path:
    """The folder of the databases, with that of obj in it."""
    folder = tmp_path_factory.mktemp("rulstm")
    write_lmdb(folder / "obj_full", rows)
    return folder


def imported(path: Path, out: Path, annotations: Path, part: str = "obj") -> ImportSummary:
    return import_features("rulstm", path, out=out, annotations=annotations, part=part)


def video(root: Path, video_id: str) -> VideoFeatures:
    return read_video(root, video_id, digest=read_featureset(root).digest)


def test_rows_are_those_of_the_keys_at_30_per_second(tmp_path, published, rows, annotations) -> None:
    summary = imported(published, tmp_path, annotations)
    assert (summary.videos, summary.segments, summary.done, summary.unknown) == (3, 6, 6, ())
    assert read_featureset(tmp_path).imported["part"] == "obj"
    for video_id in VIDEOS:
        features = video(tmp_path, video_id)
        expected = [rows[frame_key(video_id, number)] for number in FRAMES[video_id]]
        np.testing.assert_array_equal(features.features[:, 0], expected)
        np.testing.assert_allclose(features.seconds, [(number - 1) / 30 for number in FRAMES[video_id]], atol=1e-12)


def test_windows_of_three_segments(tmp_path, published, annotations) -> None:
    """By hand: 1.0 to 5.0 s are rows 30 to 150, 4.0 to 4.4 s rows 120 to 132, and 6.5 to 9.0 s rows 195 to 270."""
    imported(published, tmp_path, annotations)
    segments = SegmentTimes(("a", "b", "c"), np.array([1.0, 4.0, 6.5]), np.array([5.0, 4.4, 9.0]))
    windows = windows_by_time(video(tmp_path, "P01_01").seconds, segments)
    assert (windows.inner_first.tolist(), windows.inner_stop.tolist()) == ([30, 120, 195], [151, 133, 271])


def test_missing_keys_are_a_gap_and_segments_there_fail(tmp_path, rows, annotations) -> None:
    there = {key: row for key, row in rows.items() if key < frame_key("P01_01", 125) or key > frame_key("P01_01", 140)}
    path = write_lmdb(tmp_path / "obj", there)
    summary = imported(path, tmp_path / "set", annotations)
    assert (summary.done, summary.failed) == (4, 2)
    failures = read_failures(tmp_path / "set", "P01_01")
    assert [(failure.narration_id, str(failure.error)) for failure in failures] == [
        ("P01_01_0", "NotInSource"),
        ("P01_01_1", "NotInSource"),
    ]
    assert "it lasts from 4.00 to 4.40 s" in failures[1].message
    assert 16 not in np.diff(video(tmp_path / "set", "P01_01").seconds * 30).round()
    assert imported(path, tmp_path / "set", annotations).kept == 4


def test_a_video_of_no_list_is_named_and_left_out(tmp_path, rows, annotations) -> None:
    more = {**rows, **{frame_key("P09_09", number): drawn(352) for number in (1, 2)}}
    assert imported(write_lmdb(tmp_path / "obj", more), tmp_path / "set", annotations).unknown == ("P09_09",)
    assert "P09_09.h5" not in names_in(tmp_path / "set")


def test_the_database_stays_as_it_is(tmp_path, published, annotations) -> None:
    before = (published / "obj_full/data.mdb").read_bytes()
    imported(published, tmp_path, annotations)
    assert names_in(published / "obj_full") == ["data.mdb"]
    assert (published / "obj_full/data.mdb").read_bytes() == before


@pytest.mark.parametrize("size", [0, 1000, 8192, 0.5, 0.999])
def test_a_database_that_is_cut_short_is_one_line(tmp_path, published, annotations, size) -> None:
    content = (published / "obj_full/data.mdb").read_bytes()
    path = tmp_path / "data.mdb"
    path.write_bytes(content[: int(size * len(content)) if isinstance(size, float) else size])
    with pytest.raises(DataError, match=r"data\.mdb: .*cut short") as error:
        imported(path, tmp_path / "set", annotations)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set").exists()


def test_a_part_of_another_width_is_refused(tmp_path, published, annotations) -> None:
    path = published / "obj_full/data.mdb"
    with pytest.raises(DataError, match="1408 bytes, not 1024 values of float32; is --part right"):
        imported(path, tmp_path, annotations, part="rgb")


def test_a_key_of_another_form_is_refused(tmp_path, annotations) -> None:
    path = write_lmdb(tmp_path / "obj", {"P01_01/frame_1.jpg": drawn(352)})
    with pytest.raises(DataError, match="is not of the form P01_101_frame_0000000123"):
        imported(path, tmp_path / "set", annotations)


def test_a_folder_without_a_database_is_named(tmp_path, annotations) -> None:
    with pytest.raises(DataError, match=r"holds no flow/data\.mdb"):
        imported(tmp_path, tmp_path / "set", annotations, part="flow")
