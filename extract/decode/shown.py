"""Which pictures a stream shows, and when, where its packets do not tell. It is told what a decoder did; pure numbers.

sent     packets   0   1   2   3   4   5      1 gives no picture, such as a hidden reference
shown    packets   0   3   2   5              in this order; the decoder reports damage for packet 4
frames             0   1   2   3   4          the pictures that are shown, and the damaged one at its time
"""

from __future__ import annotations

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

    A file may give its pictures the times of other pictures, or none. Pictures are shown in the order of their times,
    so the first picture is given the earliest of these times, and so on. Times ascend strictly, but for -inf (pictures
    before the first that has a time) and inf (damaged packets after the last time).

    Args:
        times: (P,) float64 seconds of the packets; NaN where a packet has none.

    Raises:
        TimesError: no picture has a time, or the times jump back further than pictures are ever reordered.
    """
    known = np.flatnonzero(np.isfinite(times))
    if not len(known):
        raise TimesError(NO_TIMES)
    shown = np.array(list(dict.fromkeys(decoded.shown)), dtype=np.int64)
    damaged = np.array(decoded.damaged, dtype=np.int64)
    packets = np.concatenate([shown, damaged])
    of_damaged = np.interp(damaged, known, times[known], left=-np.inf, right=np.inf)
    seconds = np.concatenate([_times_in_order(times[shown]), of_damaged])
    by_time = np.argsort(seconds, kind="stable")
    packets, seconds = packets[by_time], seconds[by_time]
    if not np.isfinite(seconds).any():
        raise TimesError(NO_TIMES)
    # Of two pictures at one time, the later one is put a trifle later.
    for index in np.flatnonzero(np.isfinite(seconds[1:]) & (seconds[1:] == seconds[:-1])) + 1:
        seconds[index] = np.nextafter(seconds[index - 1], np.inf)
    return packets, seconds


def _times_in_order(seconds: np.ndarray) -> np.ndarray:
    """Return the times of pictures in the order of showing, (N,), from those that the file has for them, or NaN.

    Pictures between two known times are spread evenly.
    """
    known = np.flatnonzero(np.isfinite(seconds))
    if not len(known):
        return np.full(len(seconds), -np.inf)
    order = np.argsort(seconds[known], kind="stable")
    is_far = np.abs(order - np.arange(len(order))) > MAX_REORDER
    if is_far.any():
        raise TimesError(f"the times of its pictures jump back near {seconds[known][is_far][0]:.2f} s.")
    times = seconds[known][order]
    every_s = (times[-1] - times[0]) / max(1, known[-1] - known[0])
    numbers = np.arange(len(seconds))
    in_order = np.interp(numbers, known, times, left=-np.inf)
    return np.where(numbers > known[-1], times[-1] + (numbers - known[-1]) * every_s, in_order)


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
