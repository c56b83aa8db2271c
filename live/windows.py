"""Windows that slide over a video: what `heads watch` takes for its segments. Pure arithmetic: reads no file."""

from __future__ import annotations

import math

import numpy as np

from features.errors import OptionError
from features.intervals import SegmentTimes


def need_window(window_s: float, every_s: float) -> None:
    """Check the length of a window, and the time from one window to the next.

    Raises:
        OptionError: one of them is not above 0, or windows would leave time between them.
    """
    for option, value in (("--window", window_s), ("--every", every_s)):
        if not (math.isfinite(value) and value > 0):
            raise OptionError(option, f"{value} is not a number of seconds above 0.")
    if every_s > window_s:
        message = f"{every_s:g} s is more than --window {window_s:g} s, so some time would be in no window."
        raise OptionError("--every", message)


def sliding_windows(end_s: float, *, window_s: float, every_s: float) -> SegmentTimes:
    """Return the windows over a video that lasts until `end_s`, named w0, w1 and so on; at least one.

        |-- w0 --|
           |-- w1 --|
              |-- w2 --|
               |-- w3 --|        the last one ends with the video

    A video that is shorter than a window is one window. Times are whole milliseconds, so that annotation files can hold
    them.

    >>> windows = sliding_windows(3.1, window_s=2, every_s=0.5)
    >>> windows.start_s.tolist(), windows.stop_s.tolist()
    ([0.0, 0.5, 1.0, 1.1], [2.0, 2.5, 3.0, 3.1])
    """
    end_s = max(math.floor(1000 * end_s) / 1000, 0.001)
    last_s = max(0.0, round(end_s - window_s, 3))
    start_s = np.round(np.arange(math.ceil(last_s / every_s - 1e-6)) * every_s, 3)
    start_s = np.append(start_s, last_s)
    stop_s = np.minimum(np.round(start_s + window_s, 3), end_s)
    return SegmentTimes(tuple(f"w{number}" for number in range(len(start_s))), start_s, stop_s)


def middles(windows: SegmentTimes) -> np.ndarray:
    """Return the middle of each window, (S,) seconds."""
    return (windows.start_s + windows.stop_s) / 2


def window_at(windows: SegmentTimes, second: float) -> int:
    """Return the number of the window whose middle is nearest to a moment; of two as near, the earlier."""
    return int(np.abs(middles(windows) - second).argmin())


def chosen(windows: SegmentTimes, names: frozenset[str]) -> SegmentTimes:
    """Return the windows with these names, in their order."""
    rows = [row for row, name in enumerate(windows.narration_id) if name in names]
    return SegmentTimes(tuple(windows.narration_id[row] for row in rows), windows.start_s[rows], windows.stop_s[rows])
