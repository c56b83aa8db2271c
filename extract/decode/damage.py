"""Which decoded frames can be trusted. Knows no video file: it is told what was sent to a decoder and what came back.

A decoder reports damage for the picture it hits. Pictures predicted from that one come without a word, and wrong. So
within a group of pictures, which begins with a key packet, everything that was sent after a damaged picture counts as
damaged too:

    sent    K  P  B  P  B | K  P ...
                  x  -  -   ok ok        x: damaged or never shown; -: possibly predicted from it
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class _Place:
    """Where a picture stands in the order of sending, and whether it is shown before its group's key picture.

    Such a leading picture may be predicted from the group before; only other leading ones are predicted from it.
    """

    index: int
    group: int
    is_leading: bool


class DamageLedger:
    """Keeps account of pictures, named by their presentation time stamps."""

    def __init__(self) -> None:
        self._place: dict[int, _Place] = {}
        self._awaited: list[int] = []  # a heap
        self._group = -1
        self._key_pts = 0
        # The first damaged picture of each group, by its place in the order of sending.
        self._first: dict[int, int] = {}
        self._first_leading: dict[int, int] = {}

    def sent(self, pts: int, *, is_key: bool, is_shown: bool) -> None:
        """Note a picture sent to the decoder, and whether it is one of those that come back."""
        if is_key or self._group < 0:
            self._group += 1
            self._key_pts = pts
        self._place[pts] = _Place(len(self._place), self._group, pts < self._key_pts)
        if is_shown:
            heapq.heappush(self._awaited, pts)

    def shown(self, pts: int, *, is_corrupt: bool) -> None:
        """Note a picture that came back. They come in order of time, so earlier ones that did not are lost."""
        while self._awaited and self._awaited[0] < pts:
            self.damaged(heapq.heappop(self._awaited))
        in_order = bool(self._awaited) and self._awaited[0] == pts
        if in_order:
            heapq.heappop(self._awaited)
        if is_corrupt or not in_order:
            self.damaged(pts)

    def damaged(self, pts: int) -> None:
        """Note a picture that the decoder refused, lost, or gave with errors."""
        place = self._place.get(pts)
        if place is not None:
            first = self._first_leading if place.is_leading else self._first
            first[place.group] = min(place.index, first.get(place.group, place.index))

    def finished(self) -> None:
        """Note that nothing more comes back."""
        while self._awaited:
            self.damaged(heapq.heappop(self._awaited))

    def is_sound(self, pts: int) -> bool:
        """Whether nothing that a picture may be predicted from is damaged, as far as is known by now."""
        place = self._place.get(pts)
        if place is None:
            return False
        sound = place.index < self._first.get(place.group, math.inf)
        if place.is_leading:
            sound &= place.index < self._first_leading.get(place.group, math.inf)
            sound &= place.group - 1 not in self._first
        return sound
