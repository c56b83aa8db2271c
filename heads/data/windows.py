"""Windows of a fixed length that segments share: where they lie, and which segments each holds. Index arithmetic only.

In training, windows are drawn so that each segment is in one of them. In evaluation, they lie on a grid, and a segment
is in all that hold it.

    seconds     0         10        20        30
    segments      aaa  bbbb  cc   ddddd   ee
    training    [---a---b---c---]                    the next window begins anew, with the first segment that is left
                            [---d-----e---]
    evaluation  [---------------]
                  [---------------]                  and so on, every `hop_s` seconds
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A window in training is filled with segments up to a share of it that is drawn from here on. So windows hold other
# segments in each epoch, and have room to be moved.
_LEAST_FILLED = 0.75


@dataclass(frozen=True, eq=False)
class SharedWindows:
    """W windows, and the Q pairs of a window and a segment that it holds; pairs are in the order of their windows.

    Attributes:
        middle_s: (W,) float64, the middle of each window, in seconds of its video.
        window, segment: (Q,) int64, the window and the segment of each pair.
    """

    middle_s: np.ndarray
    window: np.ndarray
    segment: np.ndarray

    def ordered(self, order: np.ndarray) -> SharedWindows:
        """Return the windows in another order, (W,) indices."""
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        pairs = np.argsort(rank[self.window], kind="stable")
        return SharedWindows(self.middle_s[order], rank[self.window][pairs], self.segment[pairs])


def drawn_windows(
    video: np.ndarray, start_s: np.ndarray, stop_s: np.ndarray, window_s: float, draws: np.ndarray
) -> SharedWindows:
    """Return windows that together hold each segment exactly once, whole where it is no longer than a window.

    In each video, from its start or from its end, a window takes the first segment that no window has yet, and then all
    others that end within a share of its length, which is drawn. Then the window is moved at random as far as it still
    holds all of its segments. A segment longer than the window has it to itself, in its middle.

    Args:
        video: (S,) int64, the number of each segment's video.
        start_s, stop_s: (S,) float64, in seconds of the video.
        draws: (S + 1, 2) numbers from 0 to 1.
    """
    if draws[-1, 0] < 0.5:
        mirrored = drawn_windows(video, -stop_s, -start_s, window_s, np.concatenate([draws[:-1], [[1.0, 1.0]]]))
        return SharedWindows(-mirrored.middle_s, mirrored.window, mirrored.segment)
    order = np.lexsort((stop_s, start_s, video))
    videos, starts, stops = video[order].tolist(), start_s[order].tolist(), stop_s[order].tolist()
    shares, moves = draws[:-1].T.tolist()
    window_of = [-1] * len(videos)
    middles: list[float] = []
    for first, (own_video, start, stop) in enumerate(zip(videos, starts, stops, strict=True)):
        if window_of[first] >= 0:
            continue
        is_first = first == 0 or videos[first - 1] != own_video
        share = shares[first] if is_first else _LEAST_FILLED + (1 - _LEAST_FILLED) * shares[first]
        most, last = max(start + share * window_s, stop), stop
        if stop - start > window_s:
            most = -np.inf
        window_of[first] = len(middles)
        for other in range(first + 1, len(videos)):
            if videos[other] != own_video or starts[other] > most:
                break
            if window_of[other] < 0 and stops[other] <= most:
                window_of[other] = len(middles)
                last = max(last, stops[other])
        room = max(0.0, window_s - (last - start))
        middles.append((start + last) / 2 + (moves[first] - 0.5) * room)
    window = np.array(window_of)
    pairs = np.argsort(window, kind="stable")
    return SharedWindows(np.array(middles), window[pairs], order[pairs])


def windows_on_grid(
    video: np.ndarray, start_s: np.ndarray, stop_s: np.ndarray, window_s: float, hop_s: float
) -> SharedWindows:
    """Return all windows that begin at a multiple of `hop_s` and hold a segment whole, with all segments they hold.

    A segment that none of these holds has a window of its own, with the segment in its middle. So the windows that a
    segment is in depend on no other segment. A window may begin before the video does.
    """
    first = np.ceil((stop_s - window_s) / hop_s - 1e-9).astype(np.int64)
    count = np.maximum(np.floor(start_s / hop_s + 1e-9).astype(np.int64) - first + 1, 0)
    segment = np.repeat(np.arange(len(video)), count)
    number = np.arange(len(segment)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    keys, window = np.unique(np.stack([video[segment], number], axis=1), axis=0, return_inverse=True)
    alone = np.flatnonzero(count == 0)
    window = np.concatenate([window.reshape(-1), len(keys) + np.arange(len(alone))])
    middle_s = np.concatenate([keys[:, 1] * hop_s + window_s / 2, (start_s[alone] + stop_s[alone]) / 2])
    pairs = np.argsort(window, kind="stable")
    return SharedWindows(middle_s, window[pairs], np.concatenate([segment, alone])[pairs])
