"""Which pictures a stream shows, and when, where its packets do not tell. It is told what a decoder did; pure numbers.

sent     packets   0   1   2   3   4   5      1 gives no picture, such as a hidden reference
shown    packets   0   3   2   5              in this order; the decoder reports damage for packet 4
frames             0   1   2   3   4          the pictures that are shown, and the damaged one at its time
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np

from extract.decode.packets import MAX_REORDER, Packets

NO_TIMES = "no frames with a presentation time in it; is it truncated?"


class TimesError(Exception):
    """The times of a stream's packets do not fit the order in which its pictures are shown; the message says how."""


@dataclass(frozen=True)
class Decoded:
    """What came of decoding a stream through, by the numbers of its packets in the order of decoding.

    Attributes:
        shown: the packets whose pictures were shown, in that order.
        damaged: the packets for which damage was reported, or that gave no picture though they should have.
    """

    shown: tuple[int, ...]
    damaged: tuple[int, ...]

    @property
    def is_in_order(self) -> bool:
        """Whether pictures are shown in the order in which they were sent."""
        return list(self.shown) == sorted(self.shown)


def order_of(decoded: Decoded, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the packets that give pictures, (N,) int64 in the order of showing, and the times of these, (N,) float64.

    Times ascend strictly, but for -inf (pictures before the first that has a time) and inf (damaged packets after the
    last time).

    Args:
        times: (P,) float64 seconds of the packets; NaN where a packet has none.

    Raises:
        TimesError: no picture has a time, or too many of the times contradict the order in which pictures are shown.
    """
    known = np.flatnonzero(np.isfinite(times))
    if not len(known):
        raise TimesError(NO_TIMES)
    shown = np.array(list(dict.fromkeys(decoded.shown)), dtype=np.int64)
    damaged = np.array(decoded.damaged, dtype=np.int64)
    of_damaged = np.interp(damaged, known, times[known], left=-np.inf, right=np.inf)
    packets = np.concatenate([shown, damaged])
    seconds = np.concatenate([_spread(_times_of_showing(shown, times)), of_damaged])
    by_time = np.argsort(seconds, kind="stable")
    packets, seconds = packets[by_time], seconds[by_time]
    if not np.isfinite(seconds).any():
        raise TimesError(NO_TIMES)
    # Of two pictures at one time, the later one is put a trifle later.
    for index in np.flatnonzero(np.isfinite(seconds[1:]) & (seconds[1:] == seconds[:-1])) + 1:
        seconds[index] = np.nextafter(seconds[index - 1], np.inf)
    return packets, seconds


def _times_of_showing(shown: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the time of each picture in the order of showing, (N,) ascending; NaN where it is not known.

    If the times are those of decoding, the first picture is given the earliest of them, and so on. Otherwise a time
    that contradicts the order is wrong: in a damaged stream, for example.
    """
    sent = times[np.sort(shown)]
    sent = sent[np.isfinite(sent)]
    seconds = times[shown].copy()
    known = np.flatnonzero(np.isfinite(seconds))
    if (np.diff(sent) >= 0).all():
        seconds[known] = sent
        return seconds
    kept = known[_ascending_part(seconds[known])]
    wrong = np.setdiff1d(known, kept)
    if len(wrong) > max(_MOST_WRONG * len(known), MAX_REORDER):
        raise TimesError(f"the times of its pictures jump back near {seconds[wrong[0]]:.2f} s.")
    seconds[wrong] = np.nan
    return seconds


# The share of times that may be wrong before none of them is believed.
_MOST_WRONG = 0.1


def _ascending_part(values: np.ndarray) -> np.ndarray:
    """Return the indices of the most values that ascend, or are equal, from each to the next, (M,) int64."""
    ends: list[float] = []  # the least value at which an ascending part of this length can end
    lengths = []
    for value in values.tolist():
        length = bisect.bisect_right(ends, value)
        ends[length : length + 1] = [value]
        lengths.append(length)
    part: list[int] = []
    wanted = len(ends) - 1
    for index in range(len(values) - 1, -1, -1):
        if lengths[index] == wanted and (not part or values[index] <= values[part[-1]]):
            part.append(index)
            wanted -= 1
    return np.array(part[::-1], dtype=np.int64)


def _spread(seconds: np.ndarray) -> np.ndarray:
    """Return times with those that are NaN spread evenly between the others, or after them; -inf before them."""
    known = np.flatnonzero(np.isfinite(seconds))
    if not len(known):
        return np.full(len(seconds), -np.inf)
    first, last = known[[0, -1]]
    every_s = (seconds[last] - seconds[first]) / max(1, last - first)
    numbers = np.arange(len(seconds))
    between = np.interp(numbers, known, seconds[known], left=-np.inf)
    return np.where(numbers > last, seconds[last] + (numbers - last) * every_s, between)


def ranked(packets: Packets, order: np.ndarray) -> Packets:
    """Return packets whose time stamps are the ranks of their pictures; those that give none have larger numbers.

    Args:
        order: (N,) the packets that give pictures, in the order of showing.
    """
    pts = len(order) + np.arange(len(packets.pts))
    pts[order] = np.arange(len(order))
    is_shown = pts < len(order)
    is_key = packets.is_key & is_shown  # no picture can be decoded from parameters alone
    return Packets(pts, is_shown, is_key, np.ones_like(is_key), proven=False)
