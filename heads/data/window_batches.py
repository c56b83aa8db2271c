"""Batches of windows that segments share: the steps of each window, and a query for each segment that it holds.

Which windows there are is heads/data/windows.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from features.device import moved
from heads.config import Augmentation, InputSettings
from heads.data.chunks import Chunk, Stream
from heads.data.rows import Rows, gathered, thinned, with_view
from heads.data.steps import Batch, Queries, evenly_spaced
from heads.data.windows import SharedWindows, drawn_windows, windows_on_grid

_WINDOWS_AT_ONCE = 1024
# Seconds from one video to the next on the time line that puts all videos of a chunk one after the other; longer than
# any video and its windows.
_VIDEO_S = 2.0**20
# Steps at the very border of a window belong to the window that they begin. Times are rounded, by less than this.
_BORDER_S = 1e-3
_SHORTEST_S = 0.01  # of a segment whose ends are moved


def window_batches(
    chunk: Chunk,
    order: torch.Tensor,
    batch_size: int,
    *,
    inputs: InputSettings,
    device: torch.device,
    augmentation: Augmentation | None,
    views: Sequence[int] | None,
) -> Iterator[Batch]:
    """Return windows with these segments, until they hold `batch_size` or more at a time.

    In training (with `augmentation`), each segment is in one window. In evaluation, it is in all that hold it, and
    comes as often.

    Args:
        order: (S,) int64, positions in the chunk; in training, windows have the order of the first segment of each.
        views: of each feature set, the number of the view to read in evaluation; the first by default.
    """
    assert inputs.window is not None
    assert inputs.window_hop is not None
    segments = _Segments(chunk, order)
    if augmentation is None:
        windows = windows_on_grid(segments.video, segments.start_s, segments.stop_s, inputs.window, inputs.window_hop)
    else:
        draws = torch.rand(len(order) + 1, 2, dtype=torch.float64).numpy()
        windows = drawn_windows(segments.video, segments.start_s, segments.stop_s, inputs.window, draws)
        windows = windows.ordered(_first_segments(windows).argsort())
        segments.move_ends(augmentation.jitter)
    timelines = [_TimeLine(stream) for stream in chunk.streams]
    first_of = np.searchsorted(windows.window, np.arange(len(windows.middle_s)))  # the first pair of each window
    batch_of = first_of // batch_size
    for first in range(0, len(first_of), _WINDOWS_AT_ONCE):
        block = slice(first, min(first + _WINDOWS_AT_ONCE, len(first_of)))
        positions = order[torch.from_numpy(windows.segment[first_of[block]])]  # of a segment of each window
        middle_s = windows.middle_s[block]
        sizes = np.unique(batch_of[block], return_counts=True)[1].tolist()
        pieces = []
        for number, (stream, timeline) in enumerate(zip(chunk.streams, timelines, strict=True)):
            rows = timeline.rows(positions, middle_s, inputs)
            if augmentation is not None and augmentation.step_dropout:
                rows = thinned(rows, augmentation)
            view = None if augmentation is not None else 0 if views is None else views[number]
            pieces.append(with_view(rows, stream, positions, view).split(sizes, stream.features.device))
        queries = _queries(windows, segments, block, sizes, device)
        for (index, own_queries), *by_stream in zip(queries, *pieces, strict=True):
            streams = (gathered(stream, rows, device) for stream, rows in zip(chunk.streams, by_stream, strict=True))
            yield Batch(tuple(streams), index, own_queries)


class _Segments:
    """The segments that are asked for.

    Attributes:
        index: (S,) int64, their positions in the split.
        video: (S,) int64, the row that their video begins with in the first stream.
        start_s, stop_s: (S,) float64, in seconds of their video.
    """

    def __init__(self, chunk: Chunk, order: torch.Tensor) -> None:
        self.index = chunk.index[order]
        self.video = chunk.streams[0].video_first[order].numpy()
        self.start_s, self.stop_s = chunk.intervals[order].T.numpy()

    def move_ends(self, jitter: float) -> None:
        """Move start and stop of each segment at random, by up to this share of its length."""
        if jitter:
            length = self.stop_s - self.start_s
            start, stop = (torch.rand(2, len(length), dtype=torch.float64) * 2 - 1).numpy() * jitter * length
            self.start_s = self.start_s + start
            self.stop_s = np.maximum(self.stop_s + stop, self.start_s + _SHORTEST_S)


class _TimeLine:
    """The steps of a stream in the order of time, video after video.

    Sets by segment have the steps of each segment together. Where segments overlap, these are not in order.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._firsts = stream.video_first.unique()
        video = torch.searchsorted(self._firsts, torch.arange(len(stream.seconds)), right=True) - 1
        seconds = video * _VIDEO_S + stream.seconds.double()
        self._order = None
        if not stream.is_dense:
            self._order = seconds.argsort(stable=True)
            seconds = seconds[self._order]
        self._seconds = seconds

    def rows(self, positions: torch.Tensor, middle_s: np.ndarray, inputs: InputSettings) -> Rows:
        """Return the rows of windows, thinned evenly if there are more than `max_steps`; a window may have none.

        Args:
            positions: (W,) int64, a segment of each window, which tells the window's video.
            middle_s: (W,) float64, in seconds of the video.
        """
        assert inputs.window is not None
        video = torch.searchsorted(self._firsts, self._stream.video_first[positions])
        middle = video * _VIDEO_S + torch.from_numpy(middle_s)
        first, stop = (
            torch.searchsorted(self._seconds, middle + end - _BORDER_S)
            for end in (-inputs.window / 2, inputs.window / 2)
        )
        length = stop - first
        count = length if inputs.max_steps is None else length.clamp(max=inputs.max_steps)
        step = torch.arange(max(1, int(count.max())))
        mask = step < count[:, None]
        offset = step.expand(mask.shape)
        if not torch.equal(count, length):
            middle_row = torch.div(length.clamp(min=1) - 1, 2, rounding_mode="floor")
            offset = evenly_spaced(length.clamp(min=1), count.clamp(min=1), middle_row)
        rows = torch.where(mask, first[:, None] + offset, 0)
        if self._order is not None:
            rows = self._order[rows]
        seconds = (self._stream.seconds[rows].double() - torch.from_numpy(middle_s)[:, None]).float()
        return Rows(rows, mask, torch.where(mask, seconds, 0.0), mask)


def _first_segments(windows: SharedWindows) -> np.ndarray:
    """Return the first segment of each window in the order in which it was filled, (W,)."""
    return windows.segment[np.searchsorted(windows.window, np.arange(len(windows.middle_s)))]


def _queries(
    windows: SharedWindows, segments: _Segments, block: slice, sizes: list[int], device: torch.device
) -> Iterator[tuple[torch.Tensor, Queries]]:
    """Return the positions in the split and the queries of the segments of each batch of windows in a block."""
    borders = np.searchsorted(windows.window, [block.start, block.stop])
    window, segment = windows.window[slice(*borders)], windows.segment[slice(*borders)]
    count = np.bincount(window - block.start)
    slot = np.arange(len(window)) - np.repeat(np.cumsum(count) - count, count)
    intervals = torch.zeros(len(count), int(count.max()), 2)
    ends = np.stack([segments.start_s[segment], segments.stop_s[segment]], axis=1)
    intervals[window - block.start, slot] = torch.from_numpy(ends - windows.middle_s[window, None]).float()
    index = segments.index[segment]
    batch_first = np.repeat(np.cumsum(sizes) - sizes, sizes)  # the first window of each window's batch
    own_window = window - block.start - batch_first[window - block.start]
    nums = [int(part.sum()) for part in np.split(count, np.cumsum(sizes)[:-1])]
    widths = [int(part.max()) for part in np.split(count, np.cumsum(sizes)[:-1])]
    pieces = (
        moved(torch.from_numpy(np.ascontiguousarray(part)) if isinstance(part, np.ndarray) else part, device).split(num)
        for part, num in ((index, nums), (own_window, nums), (slot, nums), (intervals, sizes))
    )
    for width, own_index, row, column, own_intervals in zip(widths, *pieces, strict=True):
        yield own_index, Queries(own_intervals[:, :width], row * width + column)
