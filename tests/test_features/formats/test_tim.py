"""TIM's files: rows with several views, and the pickled table that says when each row is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from published_features import VIDEOS, drawn

from features.errors import DataError, OptionError
from features.failures import read_failures
from features.featureset import read_featureset
from features.importing import ImportSummary, import_features
from features.intervals import SegmentTimes
from features.store import VideoFeatures, read_video
from features.windows import windows_by_time

HOP_S, INTERVAL_S = 0.2, 1.0
SPLITS = {"train": ["P01_01", "P01_02"], "val": ["P02_101"]}


def intervals_of(videos: list[str]) -> pd.DataFrame:
    """Return the table of a split as make_framepickle.py makes it, but with its rows in another order."""
    rows = []
    for video_id in videos:
        start, index = 0.0, 1
        while start + INTERVAL_S < VIDEOS[video_id][0]:
            rows.append((f"{video_id}_{index}", video_id, float(f"{start:.2f}"), float(f"{start + INTERVAL_S:.2f}")))
            start, index = start + HOP_S, index + 1
    frame = pd.DataFrame(rows, columns=["narration_id", "video_id", "start_sec", "stop_sec"]).set_index("narration_id")
    frame["narration_sec"] = frame.start_sec + INTERVAL_S / 2
    frame["start_frame"] = (frame.start_sec * 60).round().astype(int)
    frame["stop_frame"] = (frame.stop_sec * 60).round().astype(int)
    return frame.sample(frac=1, random_state=0)


@pytest.fixture(scope="module")
def intervals(tmp_path_factory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("intervals")
    paths = []
    for split, protocol in (("train", 2), ("val", 5)):
        paths.append(folder / f"epic_100_{split}_visual_feature_intervals.pkl")
        intervals_of(SPLITS[split]).to_pickle(paths[-1], protocol=protocol)
    return tuple(paths)


def write(folder: Path, *, width: int = 2048, train_views: int = 4) -> dict[str, np.ndarray]:
    """Write {train,val}/{video}.npy, [N, A, D]; A is 1 in validation."""
    arrays = {}
    for split, videos in SPLITS.items():
        (folder / split).mkdir(parents=True)
        for number, video_id in enumerate(videos):
            shape = len(intervals_of([video_id])), train_views if split == "train" else 1, width
            arrays[video_id] = drawn(*shape, seed=number)
            np.save(folder / split / f"{video_id}.npy", arrays[video_id])
    return arrays


def imported(folder: Path, intervals: tuple[Path, ...], annotations: Path, part: str | None) -> ImportSummary:
    return import_features(
        "tim", folder / "files", out=folder / "set", annotations=annotations, part=part, intervals=intervals
    )


def video(root: Path, video_id: str = "P01_01") -> VideoFeatures:
    return read_video(root / "set", video_id, digest=read_featureset(root / "set").digest)


@pytest.mark.parametrize(
    ("part", "values"), [("omnivore", slice(0, 1024)), ("videomae", slice(1024, 2048)), ("merged", slice(None))]
)
def test_parts_of_merged_files(tmp_path, annotations, intervals, part, values) -> None:
    arrays = write(tmp_path / "files")
    summary = imported(tmp_path, intervals, annotations, part)
    assert (summary.done, summary.failed, summary.unknown) == (6, 0, ())
    for video_id in VIDEOS:
        np.testing.assert_array_equal(video(tmp_path, video_id).features, arrays[video_id][..., values])


@pytest.mark.parametrize(("part", "width", "views"), [("audio", 2304, 3), ("omnivore", 1024, 4)])
def test_files_list_their_own_views(tmp_path, annotations, intervals, part, width, views) -> None:
    write(tmp_path / "files", width=width, train_views=views)
    assert imported(tmp_path, intervals, annotations, part).done == 6
    names = ("centre", "augment1", "augment2", "augment3")[:views]
    assert (read_featureset(tmp_path / "set").views, read_featureset(tmp_path / "set").dim) == (names, width)
    assert (video(tmp_path).views, video(tmp_path, "P02_101").views) == (names, ("centre",))


def test_views_that_come_with_a_later_file_are_added_to_the_set(tmp_path, annotations, intervals) -> None:
    write(tmp_path / "files", width=1024)
    (tmp_path / "files/train").rename(tmp_path / "train")
    assert imported(tmp_path, intervals, annotations, "omnivore").done == 2
    assert read_featureset(tmp_path / "set").views == ("centre",)
    (tmp_path / "train").rename(tmp_path / "files/train")
    summary = imported(tmp_path, intervals, annotations, "omnivore")
    assert (summary.done, summary.kept) == (4, 2)
    assert read_featureset(tmp_path / "set").views == ("centre", "augment1", "augment2", "augment3")


def test_seconds_are_the_middles_of_intervals_and_windows_of_three_segments(tmp_path, annotations, intervals) -> None:
    """By hand, row t at 0.5 + 0.2 t s: 1.0 to 5.0 s holds rows 3 to 22, 4.0 to 4.4 s 18, 19, 6.5 to 9.0 s 30 to 42."""
    write(tmp_path / "files", width=1024)
    imported(tmp_path, intervals, annotations, "omnivore")
    seconds = video(tmp_path).seconds
    np.testing.assert_allclose(seconds, 0.5 + 0.2 * np.arange(56), atol=1e-9)
    segments = SegmentTimes(("a", "b", "c"), np.array([1.0, 4.0, 6.4999]), np.array([5.0, 4.4, 9.0]))
    windows = windows_by_time(seconds, segments)
    assert (windows.inner_first.tolist(), windows.inner_stop.tolist()) == ([3, 18, 30], [23, 20, 43])
    record = read_featureset(tmp_path / "set")
    assert (record.sampling.every_s, record.imported["interval"]) == (0.2, 1.0)


def test_another_number_of_rows_than_intervals_is_recorded(tmp_path, annotations, intervals) -> None:
    arrays = write(tmp_path / "files", width=1024)
    np.save(tmp_path / "files/train/P01_02.npy", arrays["P01_02"][1:])
    summary = imported(tmp_path, intervals, annotations, "omnivore")
    assert (summary.done, summary.failed) == (5, 1)
    (failure,) = read_failures(tmp_path / "set", "P01_02")
    assert str(failure.error) == "WrongRows"
    assert failure.message.endswith("P01_02.npy: 44 rows, but --intervals have 45 of its video.")


def test_a_video_without_intervals_is_recorded(tmp_path, annotations, intervals) -> None:
    write(tmp_path / "files", width=1024)
    assert imported(tmp_path, intervals[:1], annotations, "omnivore").failed == 2
    assert "--intervals have no rows of video P02_101" in read_failures(tmp_path / "set", "P02_101")[0].message


def test_what_is_missing_or_does_not_fit_is_one_line(tmp_path, annotations, intervals) -> None:
    write(tmp_path / "files", width=1024)
    with pytest.raises(OptionError, match="--intervals: is needed"):
        imported(tmp_path, (), annotations, "omnivore")
    with pytest.raises(OptionError, match="--part: is needed: tim has omnivore, videomae, merged, audio"):
        imported(tmp_path, intervals, annotations, None)
    with pytest.raises(DataError, match=r"an array of \(56, 4, 1024\), not of 2304 values; is --part right"):
        imported(tmp_path, intervals, annotations, "audio")
    with pytest.raises(DataError, match="is in another file of --intervals as well"):
        imported(tmp_path, (intervals[0], intervals[0]), annotations, "omnivore")
    other = tmp_path / "other.pkl"
    intervals_of(["P01_01"]).drop(columns="stop_sec").to_pickle(other)
    with pytest.raises(DataError, match="no column stop_sec; it has video_id"):
        imported(tmp_path, (other,), annotations, "omnivore")
