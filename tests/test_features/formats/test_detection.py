"""Dense features as ActionFormer's and OpenTAD's programs write them, with the times that each publication means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from published_features import VIDEOS, drawn

from features.errors import DataError, OptionError
from features.failures import read_failures
from features.featureset import read_featureset
from features.importing import import_features
from features.intervals import SegmentTimes
from features.store import VideoFeatures, read_video
from features.windows import windows_by_time

DIM = 8


def num_rows(video_id: str, clip: int, stride: int) -> int:
    """Return how many whole clips a video has at 30 frames per second."""
    return (int(VIDEOS[video_id][0] * 30) - clip) // stride + 1


def write_dense(folder: Path, suffix: str, *, clip: int = 32, stride: int = 16) -> dict[str, np.ndarray]:
    """Write a file per video, as numpy.savez(path, feats=...) or numpy.save; return the arrays."""
    folder.mkdir()
    arrays = {video_id: drawn(num_rows(video_id, clip, stride), DIM, seed=len(video_id)) for video_id in VIDEOS}
    for video_id, array in arrays.items():
        path = folder / f"{video_id}{suffix}"
        if suffix == ".npz":
            np.savez(path, feats=array)
        else:
            np.save(path, array)
    return arrays


def video(root: Path, video_id: str = "P01_01") -> VideoFeatures:
    return read_video(root, video_id, digest=read_featureset(root).digest)


@pytest.mark.parametrize(
    ("name", "part", "suffix"),
    [("actionformer", None, ".npz"), ("actionformer", None, ".npy"), ("opentad", "slowfast", ".npy")],
)
def test_slowfast_rows_lie_at_frames_16_32_48(tmp_path, annotations, name, part, suffix) -> None:
    arrays = write_dense(tmp_path / "files", suffix)
    summary = import_features(name, tmp_path / "files", out=tmp_path / "set", annotations=annotations, part=part)
    assert (summary.segments, summary.done, summary.failed) == (6, 6, 0)
    for video_id in VIDEOS:
        np.testing.assert_array_equal(video(tmp_path / "set", video_id).features[:, 0], arrays[video_id])
    assert video(tmp_path / "set").seconds[:3].tolist() == [16 / 30, 32 / 30, 48 / 30]
    record = read_featureset(tmp_path / "set")
    assert (record.sampling.kind, record.sampling.every_s, record.sampling.clip_frames) == ("dense", 16 / 30, 32)
    assert {key: record.imported[key] for key in ("fps", "stride", "offset")} == {"fps": 30, "stride": 16, "offset": 16}


def test_windows_of_three_segments(tmp_path, annotations) -> None:
    """By hand, row t at 0.533 (t + 1) s: 1.0 to 5.0 s holds rows 1 to 8, 4.0 to 4.4 s row 7, 6.5 to 9.0 s 12 to 15."""
    write_dense(tmp_path / "files", ".npz")
    import_features("actionformer", tmp_path / "files", out=tmp_path / "set", annotations=annotations)
    segments = SegmentTimes(("a", "b", "c"), np.array([1.0, 4.0, 6.5]), np.array([5.0, 4.4, 9.0]))
    windows = windows_by_time(video(tmp_path / "set").seconds, segments)
    assert (windows.inner_first.tolist(), windows.inner_stop.tolist()) == ([1, 7, 12], [9, 8, 16])


def test_internvideo2_rows_lie_at_frames_4_12_20(tmp_path, annotations) -> None:
    write_dense(tmp_path / "files", ".npy", clip=16, stride=8)
    import_features("opentad", tmp_path / "files", out=tmp_path / "set", annotations=annotations, part="internvideo2")
    assert video(tmp_path / "set").seconds[:3].tolist() == [4 / 30, 12 / 30, 20 / 30]


def test_the_offset_of_videomae_has_to_be_given(tmp_path, annotations) -> None:
    write_dense(tmp_path / "files", ".npy", clip=16, stride=8)

    def imported(**given) -> None:
        import_features(
            "opentad", tmp_path / "files", out=tmp_path / "set", annotations=annotations, part="videomae", **given
        )

    with pytest.raises(OptionError, match="--offset: is needed: the frame of row 0 of videomae features"):
        imported()
    imported(offset=8)
    assert video(tmp_path / "set").seconds[:2].tolist() == [8 / 30, 16 / 30]


def test_rows_past_the_end_are_recorded(tmp_path, annotations) -> None:
    """With a stride of 20 instead of 16, the last row of P02_101 lies 0.87 s past the end, the others' further."""
    write_dense(tmp_path / "files", ".npz")
    options = {"out": tmp_path / "set", "annotations": annotations}
    summary = import_features("actionformer", tmp_path / "files", stride=20, **options)
    assert (summary.done, summary.failed, summary.failed_videos) == (2, 4, ("P01_01", "P01_02"))
    (failure,) = read_failures(tmp_path / "set", "P01_02")
    assert str(failure.error) == "WrongRows"
    assert (
        "1 of its 17 rows lie past the end of the video: the last one at 11.20 s, and it lasts 10.00 s"
        in failure.message
    )


def test_segments_behind_the_last_row_are_recorded(tmp_path, annotations) -> None:
    arrays = write_dense(tmp_path / "files", ".npy")
    np.save(tmp_path / "files/P01_01.npy", arrays["P01_01"][:9])
    summary = import_features("actionformer", tmp_path / "files", out=tmp_path / "set", annotations=annotations)
    assert (summary.done, summary.failed) == (5, 1)
    (failure,) = read_failures(tmp_path / "set", "P01_01")
    assert (failure.narration_id, str(failure.error)) == ("P01_01_2", "NotInSource")
    assert "from 6.50 to 9.00 s, and the rows from 0.53 to 4.80 s do not cover it" in failure.message


def test_a_set_takes_no_rows_of_other_times(tmp_path, annotations) -> None:
    write_dense(tmp_path / "files", ".npz")
    options = {"out": tmp_path / "set", "annotations": annotations}
    import_features("actionformer", tmp_path / "files", **options)
    with pytest.raises(DataError, match=r"holds other features \(sampling is .*; imported is "):
        import_features("actionformer", tmp_path / "files", stride=15, **options)
    with pytest.raises(DataError, match=r"holds other features \(backbone is 'actionformer' there, 'mine' is wanted\)"):
        import_features("actionformer", tmp_path / "files", backbone="mine", **options)


@pytest.mark.parametrize(
    ("option", "value"), [("fps", 0.0), ("stride", -1.0), ("fps", float("nan")), ("offset", float("inf"))]
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, annotations, option, value) -> None:
    write_dense(tmp_path / "files", ".npz")
    with pytest.raises(OptionError, match=f"--{option}: "):
        import_features(
            "actionformer", tmp_path / "files", out=tmp_path / "set", annotations=annotations, **{option: value}
        )


def test_the_same_video_twice_is_refused(tmp_path, annotations) -> None:
    write_dense(tmp_path / "files", ".npz")
    write_dense(tmp_path / "files/more", ".npy")
    with pytest.raises(DataError, match="has the same name; import the folders one after the other"):
        import_features("actionformer", tmp_path / "files", out=tmp_path / "set", annotations=annotations)


def test_without_lengths_ends_are_not_checked_and_that_is_said(tmp_path, annotations) -> None:
    write_dense(tmp_path / "files", ".npz")
    csv = annotations / "EPIC_100_train.csv"
    assert import_features("actionformer", tmp_path / "files", out=tmp_path / "a", annotations=csv).has_lengths
    alone = tmp_path / "alone.csv"
    alone.write_bytes(csv.read_bytes())
    summary = import_features("actionformer", tmp_path / "files", out=tmp_path / "b", annotations=alone, stride=20)
    assert (summary.has_lengths, summary.failed, summary.unknown) == (False, 0, ("P02_101",))
