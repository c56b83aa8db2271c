"""Which decoded frames can be trusted. Reads no file: it is told what was sent to a decoder and what came back.

A decoder reports damage for the picture it hits. Pictures predicted from that one come back without a warning, and
wrong. So within a group of pictures, which begins with a key packet, everything that was sent after a damaged picture
counts as damaged too:

    sent    K  P  B  P  B | K  P ...
                  x  -  -   ok ok        x: damaged or never shown; -: possibly predicted from it
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class _SentPicture:
    """A picture that was sent to the decoder.

    Attributes:
        index: its position in the order of sending.
        group: the group of pictures that it belongs to.
        is_leading: it is shown before the key picture of its group. Such a picture may be predicted from the group
            before; only other leading pictures are predicted from it.
    """

    index: int
    group: int
    is_leading: bool


class DamageLedger:
    """Keeps track of pictures by their presentation time stamps."""

    def __init__(self) -> None:
        self._pictures: dict[int, _SentPicture] = {}
        self._last_shown: int | None = None
        self._awaited: list[int] = []  # a heap
        self._group = -1
        self._key_pts = 0
        # The index of the first damaged picture of each group.
        self._first: dict[int, int] = {}
        self._first_leading: dict[int, int] = {}

    def sent(self, pts: int, *, is_key: bool, is_shown: bool) -> None:
        """Note a picture sent to the decoder, and whether the decoder should give it back."""
        if is_key or self._group < 0:
            self._group += 1
            self._key_pts = pts
        self._pictures[pts] = _SentPicture(len(self._pictures), self._group, pts < self._key_pts)
        if is_shown:
            heapq.heappush(self._awaited, pts)

    def shown(self, pts: int, *, is_corrupt: bool) -> bool:
        """Note a picture that came back. They come in order of time, so earlier ones that did not come are lost.

        Returns False if it is another picture of the same packet, which does not count.
        """
        if pts == self._last_shown:
            return False
        self._last_shown = pts
        while self._awaited and self._awaited[0] < pts:
            self.damaged(heapq.heappop(self._awaited))
        in_order = bool(self._awaited) and self._awaited[0] == pts
        if in_order:
            heapq.heappop(self._awaited)
        if is_corrupt or not in_order:
            self.damaged(pts)
        return True

    def damaged(self, pts: int) -> None:
        """Note a picture that the decoder refused, lost, or gave with errors."""
        picture = self._pictures.get(pts)
        if picture is not None:
            first = self._first_leading if picture.is_leading else self._first
            first[picture.group] = min(picture.index, first.get(picture.group, picture.index))

    def finished(self) -> None:
        """Note that nothing more comes back."""
        while self._awaited:
            self.damaged(heapq.heappop(self._awaited))

    def is_sound(self, pts: int) -> bool:
        """Return whether nothing that a picture may be predicted from is damaged, as far as is known by now."""
        picture = self._pictures.get(pts)
        if picture is None:
            return False
        sound = picture.index < self._first.get(picture.group, math.inf)
        if picture.is_leading:
            sound &= picture.index < self._first_leading.get(picture.group, math.inf)
            sound &= picture.group - 1 not in self._first
        return sound
