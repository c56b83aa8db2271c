"""The segments of one video as intervals of time, and the steps that cover them. Pure arithmetic: reads no file."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from features.annotations import Segments
from features.errors import DataError
from features.views import CENTRE


@dataclass(frozen=True, eq=False)
class SegmentTimes:
    """The segments of one video: S ids, and where each starts and stops, (S,) float64 in seconds of the video."""

    narration_id: tuple[str, ...]
    start_s: np.ndarray
    stop_s: np.ndarray


NO_SEGMENTS = SegmentTimes((), np.zeros(0), np.zeros(0))


def segment_times(segments: Segments) -> SegmentTimes:
    """Return the ids and intervals of the segments of a video."""
    table = segments.table
    return SegmentTimes(tuple(segments.narration_id), table.start_s.to_numpy(), table.stop_s.to_numpy())


@dataclass(frozen=True, eq=False)
class VideoTimes:
    """The content of a video's file without the features.

    Attributes:
        segments: the K segments that the file lists; a dense set lists none.
        offset: (K + 1,) int64; the steps of segment k are rows offset[k]:offset[k + 1].
        seconds: (N,) float64, the centre of each step in the video.
        views: names of the views that the file holds.
        has_region: (N, cells) bool, as in `features.store.VideoFeatures`.
    """

    segments: SegmentTimes
    offset: np.ndarray
    seconds: np.ndarray
    views: tuple[str, ...] = (CENTRE,)
    has_region: np.ndarray | None = None


# How far a segment may reach beyond the first or last step of a dense set: a video never ends exactly at a step.
_EDGE_S = 1.0


def covered(seconds: np.ndarray, start_s: np.ndarray, stop_s: np.ndarray, every_s: float) -> np.ndarray:
    """Return for each interval whether steps cover it without a gap, (S,) bool.

    A step covers the `every_s` seconds around its centre.

    Args:
        seconds: (N,) float64, at least one step; steps are `every_s` or a multiple of it apart.

    >>> covered(np.array([0.1, 0.3, 0.9, 1.1]), np.array([0.05, 0.35]), np.array([0.35, 1.0]), 0.2).tolist()
    [True, False]
    """
    start, stop = seconds[0] - every_s / 2, seconds[-1] + every_s / 2
    has_step = np.zeros(round((stop - start) / every_s) + 1, dtype=np.int64)  # per part of every_s seconds
    has_step[np.round((seconds - seconds[0]) / every_s).astype(int) + 1] = 1
    before = np.cumsum(has_step)  # steps before each part
    num_parts = len(has_step) - 1
    # Borders of segments and of steps often coincide except for rounding.
    first = np.clip(np.floor((start_s - start) / every_s + 1e-6), 0, num_parts - 1).astype(int)
    last = np.clip(np.ceil((stop_s - start) / every_s - 1e-6), first + 1, num_parts).astype(int)
    within = (start_s >= start - _EDGE_S) & (stop_s <= stop + max(_EDGE_S, every_s))
    return within & (before[last] - before[first] == last - first)


def need_same_times(path: Path, annotated: SegmentTimes, stored: SegmentTimes) -> None:
    """Check that the segments in a file were sampled from the intervals that the annotations give now.

    Raises:
        DataError: the annotations have changed since; the message names the first such segment.
    """
    intervals = {name: interval for name, *interval in zip(*astuple(stored), strict=True)}
    for name, *interval in zip(*astuple(annotated), strict=True):
        if intervals.get(name, interval) != interval:
            was, now = (f"{start:.2f} to {stop:.2f} s" for start, stop in (intervals[name], interval))
            raise DataError(
                f"{path}: segment {name} was extracted from {was}, the annotations now say {now}; delete the "
                "file to extract it again, or extract into another folder."
            )


def is_partition(offset: np.ndarray, num_steps: int) -> bool:
    """Return whether (S + 1,) offsets cut the steps into S runs of at least one."""
    return offset[0] == 0 and offset[-1] == num_steps and bool((np.diff(offset) > 0).all())
