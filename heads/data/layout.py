"""Feature sets as heads read them, and the steps that each segment has in them. Reads times, not features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from features.annotations import Segments
from features.errors import DataError, OptionError, first_few, unknown_name
from features.featureset import FeatureSet, read_featureset
from features.intervals import NO_SEGMENTS, SegmentTimes, VideoTimes, segment_times
from features.store import read_held_segments, video_ids
from features.views import is_random
from features.windows import Windows, windows_by_segment, windows_by_time
from heads.config import InputSettings


@dataclass(frozen=True)
class Source:
    """One feature set that heads read.

    Attributes:
        views: names of the views that are read. Every video needs the first, which is that of evaluation, and the
            others are read where a video has them.
    """

    root: Path
    featureset: FeatureSet
    views: tuple[str, ...]

    @property
    def is_dense(self) -> bool:
        """Whether its steps are spread over whole videos."""
        return self.featureset.sampling.kind == "dense"

    @property
    def has_regions(self) -> bool:
        """Whether its cells are regions, which a step can lack."""
        return self.featureset.regions is not None

    @property
    def cells(self) -> int:
        """Number of cells that a step holds side by side: 4 for tokens "grid2"."""
        return len(self.featureset.cells)

    @property
    def row_bytes(self) -> int:
        """Memory of a step."""
        return len(self.views) * self.featureset.dim * 2


def open_sources(roots: Sequence[Path], inputs: InputSettings) -> tuple[Source, ...]:
    """Open feature sets, in the order given, and check that they have what the input settings need.

    Raises:
        OptionError: a feature set or a view is given twice, no set has a view, or no set can have the kind of context.
        DataError: a folder is no feature set.
    """
    if len({Path(root).resolve() for root in roots}) < len(roots):
        raise OptionError("--features", "a feature set is given twice.")
    if len(set(inputs.view)) < len(inputs.view):
        raise OptionError("--view", "a view is given twice.")
    sets = {Path(root): read_featureset(root) for root in roots}
    known = {view for featureset in sets.values() for view in featureset.views}
    for name in inputs.view:
        if name not in known:
            raise unknown_name("--view", "view", name, known)
    sources = tuple(
        Source(root, featureset, _views(root, featureset, inputs.view)) for root, featureset in sets.items()
    )
    dense = [source.is_dense for source in sources]
    if inputs.context and not any(dense):
        raise OptionError(
            "--context", "needs a dense feature set (extract run --every 0.2); sets by segment have --neighbours."
        )
    if inputs.neighbours and all(dense):
        raise OptionError("--neighbours", "needs a feature set by segment; dense sets have --context.")
    if inputs.fusion == "early" and inputs.has_context and len(set(dense)) > 1:
        raise OptionError("--fusion", "early: with context, all feature sets have to be dense, or all by segment.")
    return sources


def _views(root: Path, featureset: FeatureSet, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the views to read: `names`, or by default the first, and all if there are random augmentations.

    A set with a single view has no other to choose.
    """
    if len(featureset.views) == 1:
        return featureset.views
    if not names:
        return featureset.views if any(map(is_random, featureset.views)) else featureset.views[:1]
    for name in names:
        if name not in featureset.views:
            raise unknown_name("--view", f"view of {root}", name, featureset.views)
    return names


def with_first_view(sources: Sequence[Source]) -> tuple[Source, ...]:
    """Return feature sets with one view to read, that of evaluation."""
    return tuple(replace(source, views=source.views[:1]) for source in sources)


@dataclass(frozen=True, eq=False)
class VideoLayout:
    """What is read of one video.

    Attributes:
        index: (S,) int64, positions of its segments in the split.
        seconds: of each source, (N,) float64, the times of the rows that are read.
        windows: of each source, the windows of the segments in these rows.
        views: of each source, the views that are read of this video; the source may have more.
        has_region: of each source, (N, cells) bool, which cells of the rows have their region; None without regions.
    """

    video_id: str
    index: np.ndarray
    seconds: tuple[np.ndarray, ...]
    windows: tuple[Windows, ...]
    views: tuple[tuple[str, ...], ...]
    has_region: tuple[np.ndarray | None, ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """The segments that have features in every feature set, and the position of these features.

    Attributes:
        segments: S of them, in the order of the annotations.
        num_missing: number of segments of the annotations that have not.
        videos: the videos with at least one of these segments.
    """

    segments: Segments
    num_missing: int
    sources: tuple[Source, ...]
    videos: tuple[VideoLayout, ...]


def lay_out(sources: tuple[Source, ...], segments: Segments, inputs: InputSettings, *, allow_missing: bool) -> Layout:
    """Return the steps that each segment has in every feature set. Reads times, not features.

    Args:
        allow_missing: continue with the segments that have features in all sets.

    Raises:
        DataError: segments have no features (all of them, or any without `allow_missing`), were extracted from
            another interval than the annotations say, or a file is damaged.
    """
    by_video = {
        video_id: (rows, index)
        for (video_id, rows), index in zip(segments.by_video(), _positions(segments), strict=True)
    }
    times: dict[tuple[int, str], VideoTimes] = {}
    has_features = np.ones((len(sources), len(segments)), dtype=bool)
    for number, source in enumerate(sources):
        extracted = set(video_ids(source.root))
        for video_id, (rows, index) in by_video.items():
            held = NO_SEGMENTS
            if video_id in extracted:
                times[number, video_id], held = read_held_segments(
                    source.root, video_id, source.featureset, segment_times(rows), views=source.views[:1]
                )
            names = set(held.narration_id)
            has_features[number, index] = [name in names for name in rows.narration_id]
    _need_features(sources, segments, has_features, allow_missing=allow_missing)
    kept = _in_all(has_features)
    position_of = np.cumsum(kept) - 1  # in the split
    videos = []
    for video_id, (rows, index) in by_video.items():
        if kept[index].any():
            intervals = segment_times(rows.where(kept[index]))
            video_times = [times[number, video_id] for number in range(len(sources))]
            windows = tuple(
                _windows(source, stored, intervals, inputs) for source, stored in zip(sources, video_times, strict=True)
            )
            seconds = tuple(stored.seconds[window.rows] for stored, window in zip(video_times, windows, strict=True))
            views = tuple(
                tuple(view for view in source.views if view in stored.views)
                for source, stored in zip(sources, video_times, strict=True)
            )
            has_region = tuple(
                None if stored.has_region is None else stored.has_region[window.rows]
                for stored, window in zip(video_times, windows, strict=True)
            )
            videos.append(VideoLayout(video_id, position_of[index[kept[index]]], seconds, windows, views, has_region))
    return Layout(segments.where(kept), int((~kept).sum()), sources, tuple(videos))


def _positions(segments: Segments) -> list[np.ndarray]:
    """Return the positions of each video's segments in the table, videos in the order of `by_video`."""
    indices = {str(video_id): index for video_id, index in segments.table.groupby("video_id").indices.items()}
    return [np.asarray(indices[video_id]) for video_id in sorted(indices)]


def _in_all(has_features: np.ndarray) -> np.ndarray:
    """Return (S,) bool, true for the segments with features in all sources, from (sources, S) bool."""
    return np.logical_and.reduce(has_features, axis=0)


def _windows(source: Source, times: VideoTimes, intervals: SegmentTimes, inputs: InputSettings) -> Windows:
    if source.is_dense:
        return windows_by_time(times.seconds, intervals, context_s=inputs.context)
    return windows_by_segment(times.segments, times.offset, intervals, neighbours=inputs.neighbours)


def _need_features(
    sources: tuple[Source, ...], segments: Segments, has_features: np.ndarray, *, allow_missing: bool
) -> None:
    is_any_complete = _in_all(has_features).any()
    for source, present in zip(sources, has_features, strict=True):
        if not present.all() and (not allow_missing or not present.any()):
            remedy = "extract them" + (", or --allow-missing to do without" if is_any_complete else "")
            raise DataError(
                f"{source.root}: no features for {(~present).sum()} of {len(segments)} segments of {segments.source} "
                f"({first_few(segments.narration_id[~present])}); {remedy}."
            )
    if not is_any_complete:
        names = ", ".join(str(source.root) for source in sources)
        raise DataError(f"{names}: no segment of {segments.source} has features in all of these.")
