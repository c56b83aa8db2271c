"""A camera that is a video: its pictures come at a pace, again and again, as long as they are wanted."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import av
import numpy as np


class PacedCamera:
    """A camera as `live.camera.Camera` has them.

    Args:
        fps: pictures per second.
        num_pictures: how many come before the camera stops; None for no end.
        size: height and width of its pictures; None for those of the video.
    """

    def __init__(
        self, video: Path, *, fps: float = 30.0, num_pictures: int | None = None, size: tuple[int, int] | None = None
    ) -> None:
        with av.open(str(video)) as container:
            shown = itertools.islice(container.decode(video=0), 0, 300, 2)
            height, width = size or (None, None)
            self._pictures = [frame.to_ndarray(format="bgr24", width=width, height=height) for frame in shown]
        self._fps, self._left = fps, num_pictures
        self._numbers = itertools.count()
        self._began: float | None = None
        self.is_closed = False

    def read(self) -> np.ndarray | None:
        number = next(self._numbers)
        if self._left is not None and number >= self._left:
            return None
        if self._began is None:
            self._began = time.monotonic()
        time.sleep(max(0.0, self._began + number / self._fps - time.monotonic()))
        return self._pictures[number % len(self._pictures)]

    def close(self) -> None:
        self.is_closed = True
