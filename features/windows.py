"""Which steps of a video belong to a segment, and which surround it. Index arithmetic only: reads no file.

A window is a run of rows: the segment's own steps, with context (c) on both sides.

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
        rows: (N,) int64, the rows of the video's file that are kept, in the order that the indices below refer to.
        first, stop: (S,) int64, the window of each segment among the kept rows.
        inner_first, inner_stop: (S,) int64, the segment's own steps within its window, at least one.
    """

    rows: np.ndarray
    first: np.ndarray
    stop: np.ndarray
    inner_first: np.ndarray
    inner_stop: np.ndarray

    def __repr__(self) -> str:
        return f"Windows({len(self.first)} segments in {len(self.rows)} rows)"


def windows_by_segment(
    stored: SegmentTimes, offset: np.ndarray, segments: SegmentTimes, *, neighbours: int = 0
) -> Windows:
    """Return the windows of segments in a set sampled by segment; their context is the steps of neighbouring segments.

    Args:
        stored: the K segments that the video's file holds.
        offset: (K + 1,) int64; the steps of stored segment k are rows offset[k]:offset[k + 1].
        segments: S of the stored segments.
        neighbours: how many segments before and how many after, in the order of their start, are context; at the ends
            of the video there are fewer.
    """
    by_start = np.lexsort((np.array(stored.narration_id), stored.stop_s, stored.start_s))
    wanted = set(segments.narration_id)
    if not neighbours:
        by_start = np.array([index for index in by_start if stored.narration_id[index] in wanted])
    rank_of = {stored.narration_id[index]: rank for rank, index in enumerate(by_start.tolist())}
    rank = np.array([rank_of[name] for name in segments.narration_id])
    borders = np.concatenate([[0], np.cumsum(offset[by_start + 1] - offset[by_start])])
    return Windows(
        rows=np.concatenate([np.arange(offset[index], offset[index + 1]) for index in by_start]),
        first=borders[np.maximum(rank - neighbours, 0)],
        stop=borders[np.minimum(rank + neighbours, len(by_start) - 1) + 1],
        inner_first=borders[rank],
        inner_stop=borders[rank + 1],
    )


def windows_by_time(seconds: np.ndarray, segments: SegmentTimes, *, context_s: float = 0.0) -> Windows:
    """Return the windows of segments in a dense set; their context is the steps up to `context_s` seconds away.

    A segment that lies between two steps gets the step nearest to its middle.

    Args:
        seconds: (N,) float64, the centres of the steps, ascending, at least one.
    """
    middle = (segments.start_s + segments.stop_s) / 2
    after = np.searchsorted(seconds, middle).clip(max=len(seconds) - 1)
    before = (after - 1).clip(min=0)
    nearest = np.where(middle - seconds[before] <= seconds[after] - middle, before, after)

    def interval(margin_s: float) -> tuple[np.ndarray, np.ndarray]:
        first = np.searchsorted(seconds, segments.start_s - margin_s, side="left")
        stop = np.searchsorted(seconds, segments.stop_s + margin_s, side="right")
        return np.minimum(first, nearest), np.maximum(stop, nearest + 1)

    inner_first, inner_stop = interval(0.0)
    first, stop = interval(context_s)
    return Windows(np.arange(len(seconds)), first, stop, inner_first, inner_stop)
