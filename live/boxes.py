"""The boxes of hands and of what they hold, which the gallery of a report draws over its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from extract.regions.boxes import REGIONS, VideoBoxes
from extract.regions.crops import MIN_SCORE, Regions, boxes_at
from extract.regions.source import find_boxes
from features.errors import DataError
from heads.report.gallery import Box

# As `extract run --regions` smooths and holds them, without the margin.
_REGIONS = Regions("hands+objects")
# "hands" is the union of the others.
_DRAWN = ("left", "right", "held")


class HandBoxes:
    """Reads the boxes of one video after the other.

    Attributes:
        missing: video -> why it has none.

    Raises:
        DataError: there is nothing at `path`, a table is wrong, or there are no boxes of any of these videos.
    """

    def __init__(self, path: Path, video_ids: Iterable[str]) -> None:
        self._files = find_boxes(path, video_ids, min_score=MIN_SCORE)
        self._latest: tuple[str, VideoBoxes | None] = ("", None)
        self.missing: dict[str, str] = {}

    def at(self, video_id: str, seconds: Sequence[float]) -> list[tuple[Box, ...]]:
        """Return the boxes of a video at some moments; ask for all moments of a video one after the other."""
        if self._latest[0] != video_id:
            self._latest = (video_id, self._boxes_of(video_id))
        boxes = self._latest[1]
        if boxes is None:
            return [()] * len(seconds)
        return [_drawn(of_frame) for of_frame in boxes_at(boxes, np.array(seconds), _REGIONS)]

    def _boxes_of(self, video_id: str) -> VideoBoxes | None:
        try:
            return self._files.read(video_id)
        except DataError as error:
            self.missing[video_id] = str(error)
            return None


def _drawn(boxes: np.ndarray) -> tuple[Box, ...]:
    """Return the boxes (4, 4) of the regions of a frame that there are, by name."""
    sides = {name: boxes[REGIONS.index(name)].tolist() for name in _DRAWN}
    return tuple(
        Box(name, left=left, top=top, width=right - left, height=bottom - top)
        for name, (left, top, right, bottom) in sides.items()
        if not np.isnan(left)
    )
