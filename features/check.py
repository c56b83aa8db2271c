"""Check a whole feature set: what it holds, what it lacks, and whether any file is damaged. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.annotations import Segments
from features.errors import DataError
from features.failures import failed_video_ids, read_failures
from features.featureset import FeatureSet, read_featureset
from features.intervals import NO_SEGMENTS, VideoTimes, segment_times
from features.store import (
    VideoFeatures,
    held_segments,
    need_regions,
    read_times,
    read_video,
    video_ids,
    video_path,
)


@dataclass(frozen=True)
class Info:
    """What a feature set is, and how much of it has been extracted.

    Attributes:
        complete_videos, complete_steps: how many videos and steps have features.
        complete_segments: how many segments have features. For a dense set, which lists no segments, this is how many
            of the given segments its steps cover; None if no segments were given.
        failed_videos, failed_segments: how many have a record in failures/.
        missing_videos, missing_segments: how many of the given segments (and of their videos) have neither features
            nor a record; None if no segments were given.
        size_bytes: the size of all video files together.
        views: name of a view -> how many videos have it.
        regions: name of a cell -> how many steps have its region; none in a set without regions.
    """

    featureset: FeatureSet
    complete_videos: int
    complete_segments: int | None
    complete_steps: int
    failed_videos: int
    failed_segments: int
    missing_videos: int | None
    missing_segments: int | None
    size_bytes: int
    views: Mapping[str, int]
    regions: Mapping[str, int]


def info(root: Path, segments: Segments | None = None) -> Info:
    """Return how much a feature set holds and, if `segments` are given, how many of them it lacks.

    Raises:
        DataError: the folder is not a feature set, or a file in it is damaged.
    """
    root = Path(root)
    featureset = read_featureset(root)
    videos, failed_videos = video_ids(root), failed_video_ids(root)
    times = {video: read_times(root, video, digest=featureset.digest) for video in videos}
    annotated = {} if segments is None else {video: segment_times(rows) for video, rows in segments.by_video()}
    complete = {
        name
        for video in videos
        for name in held_segments(
            root, video, featureset, annotated.get(video, NO_SEGMENTS), times=times[video]
        ).narration_id
    }
    failed = {failure.narration_id for video in failed_videos for failure in read_failures(root, video)}
    missing_videos = missing_segments = None
    if segments is not None:
        missing_segments = len(set(segments.narration_id) - complete - failed)
        missing_videos = len(set(segments.table.video_id) - set(videos) - set(failed_videos))
    is_known = segments is not None or featureset.sampling.kind == "segment"
    return Info(
        featureset=featureset,
        complete_videos=len(videos),
        complete_segments=len(complete) if is_known else None,
        complete_steps=sum(len(video.seconds) for video in times.values()),
        failed_videos=len(failed_videos),
        failed_segments=len(failed),
        missing_videos=missing_videos,
        missing_segments=missing_segments,
        size_bytes=sum((root / f"{video}.h5").stat().st_size for video in videos),
        views={view: sum(view in video.views for video in times.values()) for view in featureset.views},
        regions=_count_regions(root, featureset, times),
    )


def _count_regions(root: Path, featureset: FeatureSet, times: Mapping[str, VideoTimes]) -> dict[str, int]:
    counts = np.zeros(len(featureset.cells), dtype=int)
    for video_id, video in times.items():
        need_regions(video_path(root, video_id), featureset, video.has_region)
        if video.has_region is not None:
            counts += video.has_region.sum(axis=0)
    return {} if featureset.regions is None else dict(zip(featureset.cells, counts.tolist(), strict=True))


def verify(root: Path, videos: Iterable[str] | None = None) -> Iterator[str]:
    """Read every byte of a feature set and yield one message per problem.

    Checked: every file opens and its checksums are right; it was made with the settings of featureset.json; shapes and
    counts agree; it has `has_region` if the set has regions, and only then; times ascend (within each segment, or over
    the whole file of a dense set); no value is NaN or infinite; no segment is in two files.

    Args:
        videos: the ids of the videos to check, in this order; all videos by default.

    Raises:
        DataError: the folder is not a feature set.
    """
    featureset = read_featureset(root)
    video_of: dict[str, str] = {}
    for video_id in video_ids(root) if videos is None else videos:
        try:
            video = read_video(root, video_id, digest=featureset.digest)
            need_regions(video_path(root, video_id), featureset, video.has_region)
        except DataError as error:
            yield str(error)
            continue
        yield from (f"{video_id}.h5: {problem}" for problem in _problems(video, featureset))
        for name in video.narration_id:
            if video_of.setdefault(name, video_id) != video_id:
                yield f"{video_id}.h5: segment {name} is in {video_of[name]}.h5 as well."


def _problems(video: VideoFeatures, featureset: FeatureSet) -> Iterator[str]:
    if video.features.shape[2] != featureset.dim:
        yield f"features are {video.features.shape[2]} wide, featureset.json says {featureset.dim}."
    if unnamed := [view for view in video.views if view not in featureset.views]:
        yield f"featureset.json does not name the view {unnamed[0]!r}."
    is_dense = featureset.sampling.kind == "dense"
    if not is_dense and not video.narration_id:
        yield "the file holds no segments, though the set is sampled by segment."
    if is_dense and video.narration_id:
        yield "the file holds segments, though the set is dense."
    if len(set(video.narration_id)) != len(video.narration_id):
        yield "a segment is in the file twice."
    invalid = ~np.isfinite(video.features).all(axis=(1, 2))
    if invalid.any():
        yield f"{invalid.sum()} of {len(invalid)} steps are NaN or infinite, the first is row {int(invalid.argmax())}."
    starts_segment = np.zeros(len(video.seconds), dtype=bool)
    starts_segment[video.offset[:-1]] = True
    gaps = np.diff(video.seconds)
    # A short segment may show a frame twice, so its times may repeat; those of a dense set may not.
    backwards = gaps <= 0 if is_dense else (gaps < 0) & ~starts_segment[1:]
    if backwards.any() or not np.isfinite(video.seconds).all():
        yield "the seconds of its steps do not ascend."
