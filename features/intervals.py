"""Segments of one video as intervals of time, and the steps that belong to them. Reads no file."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from features.annotations import Segments
from features.errors import DataError


@dataclass(frozen=True, eq=False)
class SegmentTimes:
    """Segments of one video: S ids, and the interval of each, (S,) float64 seconds of the video."""

    narration_id: tuple[str, ...]
    start_s: np.ndarray
    stop_s: np.ndarray


NO_SEGMENTS = SegmentTimes((), np.zeros(0), np.zeros(0))


def segment_times(segments: Segments) -> SegmentTimes:
    """Return ids and intervals of the segments of a video."""
    table = segments.table
    return SegmentTimes(tuple(segments.narration_id), table.start_s.to_numpy(), table.stop_s.to_numpy())


@dataclass(frozen=True, eq=False)
class VideoTimes:
    """What a video's file says of its steps, but for the features themselves.

    Attributes:
        segments: K of them; none in a dense set.
        offset: (K + 1,) int64; the steps of segment k are rows offset[k]:offset[k + 1].
        seconds: (N,) float64, the centre of each step in the video.
    """

    segments: SegmentTimes
    offset: np.ndarray
    seconds: np.ndarray


# How far a segment may pass the steps of a dense set at either end. A video's own ends are never exactly at a step.
_EDGE_S = 1.0


def covered(seconds: np.ndarray, start_s: np.ndarray, stop_s: np.ndarray, every_s: float) -> np.ndarray:
    """Tell for each interval whether none of the steps that belong to it is missing, (S,) bool.

    Each step stands for `every_s` seconds round it, and an interval has the steps for all of its moments.

    Args:
        seconds: (N,) float64, at least one, `every_s` apart or a multiple of that.

    >>> covered(np.array([0.1, 0.3, 0.9, 1.1]), np.array([0.05, 0.35]), np.array([0.35, 1.0]), 0.2).tolist()
    [True, False]
    """
    start, stop = seconds[0] - every_s / 2, seconds[-1] + every_s / 2
    there = np.zeros(round((stop - start) / every_s) + 1, dtype=np.int64)
    there[np.round((seconds - seconds[0]) / every_s).astype(int) + 1] = 1
    before = np.cumsum(there)  # steps before each part
    num_parts = len(there) - 1
    # Borders of segments and of steps often coincide, but for rounding.
    first = np.clip(np.floor((start_s - start) / every_s + 1e-6), 0, num_parts - 1).astype(int)
    last = np.clip(np.ceil((stop_s - start) / every_s - 1e-6), first + 1, num_parts).astype(int)
    within = (start_s >= start - _EDGE_S) & (stop_s <= stop + max(_EDGE_S, every_s))
    return within & (before[last] - before[first] == last - first)


def need_same_times(path: Path, asked: SegmentTimes, stored: SegmentTimes) -> None:
    """Check that the segments a file holds were sampled from the intervals they are asked for with.

    Raises:
        DataError: the annotations have changed since; the message names the first such segment.
    """
    there = {name: interval for name, *interval in zip(*astuple(stored), strict=True)}
    for name, *interval in zip(*astuple(asked), strict=True):
        if there.get(name, interval) != interval:
            was, now = (f"{start:.2f} to {stop:.2f} s" for start, stop in (there[name], interval))
            raise DataError(
                f"{path}: segment {name} was extracted from {was}, the annotations now say {now}; delete the "
                "file to extract it again, or extract into a folder of its own."
            )


def is_partition(offset: np.ndarray, num_steps: int) -> bool:
    """Return whether (S + 1,) offsets cut the steps into S runs of at least one."""
    return offset[0] == 0 and offset[-1] == num_steps and bool((np.diff(offset) > 0).all())
