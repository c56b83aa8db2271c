"""Feature sets with the same settings made one: those of two machines, or what a video has and what is new."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.errors import DataError
from features.failures import Failure, failed_video_ids, read_failures, write_failures
from features.featureset import FeatureSet, create_featureset, difference, read_featureset
from features.files import written_whole
from features.progress import progress
from features.store import (
    VideoFeatures,
    need_regions,
    opened,
    read_times,
    read_video,
    regions_of,
    same_regions,
    video_ids,
    video_path,
    write_video,
)


@dataclass(frozen=True)
class MergeSummary:
    """What a merged set holds: how many videos, of how many sets each, and how many segments still lack features."""

    videos: int
    shared: int
    failed: int


def merge(roots: Sequence[Path], out: Path) -> MergeSummary:
    """Write the videos of several feature sets into one folder. What the folder holds already is one more of the sets.

    A video that is in several sets gets the segments of all of them.

    Raises:
        DataError: the sets were made with other settings, a segment or a dense video differs between two of them, or a
            file is damaged or cannot be written. Videos that were written before that are kept.
    """
    sets = {root: read_featureset(root) for root in roots}
    first = sets[roots[0]]
    for root, featureset in sets.items():
        if featureset.digest != first.digest:
            raise DataError(f"{root}: made with other settings than {roots[0]} ({difference(first, featureset)}).")
    for featureset in sets.values():
        whole_set = create_featureset(out, featureset)  # with the views of all
    found = {video: [root for root in (out, *roots) if video_path(root, video).is_file()] for video in _all(roots)}
    with progress(found.items(), total=len(found), unit="videos", label="merge") as bar:
        for video_id, holders in bar:
            if len(holders) == 1:
                _copy(video_path(holders[0], video_id), video_path(out, video_id), whole_set)
                continue
            videos = [read_video(root, video_id, digest=whole_set.digest) for root in holders]
            for root, video in zip(holders, videos, strict=True):
                need_regions(video_path(root, video_id), whole_set, video.has_region)
            whole = videos[0]
            for root, video in zip(holders[1:], videos[1:], strict=True):
                whole = joined(whole, video, video_path(root, video_id))
            if holders[0] != out or len(whole.features) > len(videos[0].features):
                write_video(out, whole, whole_set)
    failed = sum(_merge_failures(out, roots, video_id, whole_set.digest) for video_id in _all(roots, failed_video_ids))
    return MergeSummary(len(found), sum(len(holders) > 1 for holders in found.values()), failed)


def _all(roots: Sequence[Path], ids: Callable[[Path], list[str]] = video_ids) -> list[str]:
    return sorted({video_id for root in roots for video_id in ids(root)})


def _copy(source: Path, path: Path, featureset: FeatureSet) -> None:
    with opened(source, featureset.digest) as file, written_whole(path) as temporary:
        need_regions(source, featureset, regions_of(file))
        shutil.copyfile(source, temporary)


def _merge_failures(out: Path, roots: Sequence[Path], video_id: str, digest: str) -> int:
    """Record the failures of segments that no set has features of, or not in these views; return how many they are."""
    failures: dict[str, Failure] = {}
    for root in (out, *roots):
        failures |= {failure.narration_id: failure for failure in read_failures(root, video_id)}
    if video_path(out, video_id).is_file():
        times = read_times(out, video_id, digest=digest)
        for name in set(times.segments.narration_id).intersection(failures):
            if set(failures[name].views) <= set(times.views):
                del failures[name]
    write_failures(out, video_id, list(failures.values()))
    return len(failures)


def joined(first: VideoFeatures, second: VideoFeatures, path: Path) -> VideoFeatures:
    """Return the features of a video with the segments of both, in the order of their times.

    Args:
        path: the file of the second, for messages.

    Raises:
        DataError: a segment, or the rows of a dense set, differ between the two.
    """
    if first.views != second.views:
        raise DataError(
            f"{path}: video {first.video_id} has the views {', '.join(second.views)}, in the other set "
            f"{', '.join(first.views)}; keep one of them."
        )
    if not first.narration_id or not second.narration_id:
        if _differ(first, slice(None), second, slice(None)) or first.narration_id or second.narration_id:
            raise DataError(f"{path}: video {first.video_id} has other features in the other set; keep one of them.")
        return first
    rows_of = {}
    for number, video in enumerate((first, second)):
        for index, name in enumerate(video.narration_id):
            rows = slice(int(video.offset[index]), int(video.offset[index + 1]))
            interval = float(video.start_s[index]), float(video.stop_s[index])
            if name not in rows_of:
                rows_of[name] = (*interval, name, number, rows)
                continue
            *known_interval, _, _, known_rows = rows_of[name]
            if tuple(known_interval) != interval or _differ(first, known_rows, second, rows):
                raise DataError(f"{path}: segment {name} has other features in the other set; keep one of them.")
    return _in_order((first, second), sorted(rows_of.values(), key=lambda row: row[:3]))


def _differ(first: VideoFeatures, first_rows: slice, second: VideoFeatures, second_rows: slice) -> bool:
    return not (
        np.array_equal(first.features[first_rows], second.features[second_rows])
        and np.array_equal(first.seconds[first_rows], second.seconds[second_rows])
        and same_regions(_regions(first, first_rows), _regions(second, second_rows))
    )


def _regions(video: VideoFeatures, rows: slice) -> np.ndarray | None:
    return None if video.has_region is None else video.has_region[rows]


def _sources(videos: Sequence[VideoFeatures]) -> dict[str, str]:
    """Return what the files say of where their content comes from; what differs, side by side."""
    texts: dict[str, dict[str, None]] = {}
    for video in videos:
        for name, text in video.source.items():
            texts.setdefault(name, {})[text] = None
    return {name: ", ".join(different) for name, different in texts.items()}


def _in_order(videos: Sequence[VideoFeatures], segments: list[tuple[float, float, str, int, slice]]) -> VideoFeatures:
    start_s, stop_s, names, numbers, rows = zip(*segments, strict=True)
    parts = list(zip(numbers, rows, strict=True))
    regions = [_regions(videos[number], part) for number, part in parts]
    return VideoFeatures(
        video_id=videos[0].video_id,
        fps=videos[0].fps,
        features=np.concatenate([videos[number].features[part] for number, part in parts]),
        seconds=np.concatenate([videos[number].seconds[part] for number, part in parts]),
        frame=np.concatenate([videos[number].frame[part] for number, part in parts]),
        narration_id=names,
        offset=np.cumsum([0, *[part.stop - part.start for part in rows]], dtype=np.int64),
        start_s=np.array(start_s),
        stop_s=np.array(stop_s),
        views=videos[0].views,
        source=_sources(videos),
        has_region=None
        if regions[0] is None
        else np.concatenate([of_rows for of_rows in regions if of_rows is not None]),
    )
