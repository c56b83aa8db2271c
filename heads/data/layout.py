"""Feature sets as heads read them, and which steps each segment has in them. Reads times, and no features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.annotations import Segments
from features.errors import DataError, OptionError, first_few, unknown_name
from features.featureset import FeatureSet, read_featureset
from features.intervals import SegmentTimes, VideoTimes, need_same_times, segment_times
from features.store import held_segments, read_times, video_ids, video_path
from features.windows import Windows, windows_by_segment, windows_by_time
from heads.config import InputSettings


@dataclass(frozen=True)
class Source:
    """One feature set that heads read.

    Attributes:
        views: which of its views are read, as indices; the first is that of evaluation.
    """

    root: Path
    featureset: FeatureSet
    views: tuple[int, ...]

    @property
    def is_dense(self) -> bool:
        """Whether its steps are spread over whole videos."""
        return self.featureset.sampling.kind == "dense"

    @property
    def cells(self) -> int:
        """How many cells of a map a step holds side by side: 4 for tokens "grid2"."""
        side = self.featureset.tokens.removeprefix("grid")
        return int(side) ** 2 if side.isdecimal() else 1

    @property
    def row_bytes(self) -> int:
        """How much memory a step takes."""
        return len(self.views) * self.featureset.dim * 2


def open_sources(roots: Sequence[Path], inputs: InputSettings) -> tuple[Source, ...]:
    """Open feature sets, in the order given, and check that what is to be seen of them can be.

    Raises:
        OptionError: a feature set or a view is given twice, a view is in none of them, or a kind of context fits none.
        DataError: one is no feature set.
    """
    if len({Path(root).resolve() for root in roots}) < len(roots):
        raise OptionError("--features", "a feature set is given twice.")
    if len(set(inputs.view)) < len(inputs.view):
        raise OptionError("--view", "a view is given twice.")
    sets = {Path(root): read_featureset(root) for root in roots}
    known = {view for each in sets.values() for view in each.views}
    for name in inputs.view:
        if name not in known:
            raise unknown_name("--view", "view", name, known)
    sources = tuple(Source(root, each, _views(root, each, inputs.view)) for root, each in sets.items())
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


def _views(root: Path, featureset: FeatureSet, names: tuple[str, ...]) -> tuple[int, ...]:
    """Give the places of views by name; a set of one view has no other to choose."""
    if not names or len(featureset.views) == 1:
        return (0,)
    for name in names:
        if name not in featureset.views:
            raise unknown_name("--view", f"view of {root}", name, featureset.views)
    return tuple(featureset.views.index(name) for name in names)


@dataclass(frozen=True, eq=False)
class VideoLayout:
    """What is read of one video: the places of its segments in the split, and times and windows in each source."""

    video_id: str
    index: np.ndarray
    seconds: tuple[np.ndarray, ...]
    windows: tuple[Windows, ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """Which segments have features in every feature set, and where these are.

    Attributes:
        segments: S of them, in the order of the annotations.
        num_missing: how many segments of the annotations have not.
        parts: a video each.
    """

    segments: Segments
    num_missing: int
    sources: tuple[Source, ...]
    parts: tuple[VideoLayout, ...]


def lay_out(sources: tuple[Source, ...], segments: Segments, inputs: InputSettings, *, allow_missing: bool) -> Layout:
    """Find out which steps each segment has in every feature set. Reads times, and no features.

    Args:
        allow_missing: go on with the segments that have features in all of them.

    Raises:
        DataError: segments have no features (all of them, or any without `allow_missing`), were extracted from
            another interval than the annotations say, or a file is damaged.
    """
    by_video = {
        video_id: (rows, index) for (video_id, rows), index in zip(segments.by_video(), _places(segments), strict=True)
    }
    times: dict[tuple[int, str], VideoTimes] = {}
    has = np.ones((len(sources), len(segments)), dtype=bool)
    for place, source in enumerate(sources):
        there = set(video_ids(source.root))
        for video_id, (rows, index) in by_video.items():
            have: set[str] = set()
            if video_id in there:
                times[place, video_id], have = _times(source, video_id, segment_times(rows))
            has[place, index] = [name in have for name in rows.narration_id]
    _need_features(sources, segments, has, allow_missing=allow_missing)
    kept = has.all(axis=0)
    place_of = np.cumsum(kept) - 1  # in the split
    parts = []
    for video_id, (rows, index) in by_video.items():
        if kept[index].any():
            asked = segment_times(rows.where(kept[index]))
            found = [times[place, video_id] for place in range(len(sources))]
            windows = tuple(_windows(source, one, asked, inputs) for source, one in zip(sources, found, strict=True))
            seconds = tuple(one.seconds[each.rows] for one, each in zip(found, windows, strict=True))
            parts.append(VideoLayout(video_id, place_of[index[kept[index]]], seconds, windows))
    return Layout(segments.where(kept), int((~kept).sum()), sources, tuple(parts))


def _places(segments: Segments) -> list[np.ndarray]:
    """Give the places of each video's segments in the table, videos in the order of `by_video`."""
    return [index for _, index in sorted(segments.table.groupby("video_id").indices.items())]


def _times(source: Source, video_id: str, asked: SegmentTimes) -> tuple[VideoTimes, set[str]]:
    """Read the times of a video, and give which of the segments asked for have features in it."""
    found = read_times(source.root, video_id, digest=source.featureset.digest)
    held = held_segments(source.root, video_id, source.featureset, asked, times=found)
    need_same_times(video_path(source.root, video_id), asked, held)
    return found, set(held.narration_id)


def _windows(source: Source, times: VideoTimes, asked: SegmentTimes, inputs: InputSettings) -> Windows:
    if source.is_dense:
        return windows_by_time(times.seconds, asked, context_s=inputs.context)
    return windows_by_segment(times.segments, times.offset, asked, neighbours=inputs.neighbours)


def _need_features(sources: tuple[Source, ...], segments: Segments, has: np.ndarray, *, allow_missing: bool) -> None:
    for source, present in zip(sources, has, strict=True):
        if not present.all() and (not allow_missing or not present.any()):
            remedy = "extract them" + (", or --allow-missing to do without" if has.all(axis=0).any() else "")
            raise DataError(
                f"{source.root}: no features for {(~present).sum()} of {len(segments)} segments of {segments.source} "
                f"({first_few(segments.narration_id[~present])}); {remedy}."
            )
    if not has.all(axis=0).any():
        names = ", ".join(str(source.root) for source in sources)
        raise DataError(f"{names}: no segment of {segments.source} has features in all of these.")
