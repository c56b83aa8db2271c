"""Which steps of a video belong to a segment, and which lie around it. Index arithmetic only: reads no file.

A window is a run of rows: the segment's own steps, and on both sides its context.

    rows    0  1  2  3  4  5  6  7  8
               c  c  S  S  S  c            first 1, inner_first 3, inner_stop 6, stop 7
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.intervals import SegmentTimes


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of S segments in the steps of one video.

    Attributes:
        rows: (N,) int64, the rows of the video's file that are kept, in the order in which windows count them.
        first, stop: (S,) int64, the window of each segment among the kept rows.
        inner_first, inner_stop: (S,) int64, the segment's own part of it, at least one row.
    """

    rows: np.ndarray
    first: np.ndarray
    stop: np.ndarray
    inner_first: np.ndarray
    inner_stop: np.ndarray

    def __repr__(self) -> str:
        return f"Windows({len(self.first)} segments in {len(self.rows)} rows)"


def windows_by_segment(
    stored: SegmentTimes, offset: np.ndarray, asked: SegmentTimes, *, neighbours: int = 0
) -> Windows:
    """Return the windows of segments in a set sampled by segment; the context is that of the segments next to each.

    Args:
        stored: the segments that the video's file holds, K of them.
        offset: (K + 1,) int64; the steps of stored segment k are rows offset[k]:offset[k + 1].
        asked: segments that are all stored.
        neighbours: how many segments before, and how many after, in the order of their start; fewer at the ends of
            the video.
    """
    by_start = np.lexsort((np.array(stored.narration_id), stored.stop_s, stored.start_s))
    wanted = set(asked.narration_id)
    if not neighbours:
        by_start = np.array([index for index in by_start if stored.narration_id[index] in wanted])
    place = {stored.narration_id[index]: rank for rank, index in enumerate(by_start.tolist())}
    rank = np.array([place[name] for name in asked.narration_id])
    borders = np.concatenate([[0], np.cumsum(offset[by_start + 1] - offset[by_start])])
    return Windows(
        rows=np.concatenate([np.arange(offset[index], offset[index + 1]) for index in by_start]),
        first=borders[np.maximum(rank - neighbours, 0)],
        stop=borders[np.minimum(rank + neighbours, len(by_start) - 1) + 1],
        inner_first=borders[rank],
        inner_stop=borders[rank + 1],
    )


def windows_by_time(seconds: np.ndarray, asked: SegmentTimes, *, context_s: float = 0.0) -> Windows:
    """Return the windows of segments in the steps of a dense set; the context is what lies `context_s` around each.

    Args:
        seconds: (N,) float64, ascending, at least one.

    A segment between two steps has the one that is nearest to its middle.
    """
    middle = (asked.start_s + asked.stop_s) / 2
    right = np.searchsorted(seconds, middle).clip(max=len(seconds) - 1)
    left = (right - 1).clip(min=0)
    nearest = np.where(middle - seconds[left] <= seconds[right] - middle, left, right)

    def interval(margin_s: float) -> tuple[np.ndarray, np.ndarray]:
        first = np.searchsorted(seconds, asked.start_s - margin_s, side="left")
        stop = np.searchsorted(seconds, asked.stop_s + margin_s, side="right")
        return np.minimum(first, nearest), np.maximum(stop, nearest + 1)

    inner_first, inner_stop = interval(0.0)
    first, stop = interval(context_s)
    return Windows(np.arange(len(seconds)), first, stop, inner_first, inner_stop)
