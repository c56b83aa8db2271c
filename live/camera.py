"""A camera, and a thread that reads it: of its pictures at most one waits, and a newer one takes its place."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from extract.decode.planes import PlaneBatch
from features.errors import DataError

# A picture that takes longer does not come any more. Some cameras need seconds for their first one.
SILENCE_S = 5.0


class Camera(Protocol):
    """What gives pictures, one after the other."""

    def read(self) -> np.ndarray | None:
        """Wait for the next picture and return it, (H, W, 3) uint8 BGR; None if there are no more."""

    def close(self) -> None:
        """Let go of the device."""


class OpenCvCamera:
    """A camera of this machine.

    Raises:
        DataError: OpenCV is not installed, or there is no such camera.
    """

    def __init__(self, number: int) -> None:
        try:
            import cv2
        except ImportError as error:
            raise DataError(f"a camera needs opencv-python ({error}): pip install '.[watch]'.") from error
        # OpenCV would say the same as the error below, in several lines. Its version 5 has the switch elsewhere than 4.
        (cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel)(0)
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            hint = " (ls /dev/video* shows the cameras)" if sys.platform.startswith("linux") else ""
            raise DataError(f"camera:{number}: no such camera, or another program uses it{hint}.")

    def read(self) -> np.ndarray | None:
        """Wait for the next picture and return it, (H, W, 3) uint8 BGR; None if there are no more."""
        is_read, picture = self._capture.read()
        return picture if is_read else None

    def close(self) -> None:
        """Let go of the device."""
        self._capture.release()


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A picture of a camera, (H, W, 3) uint8 BGR, and when it came, in seconds of `time.monotonic`."""

    second: float
    picture: np.ndarray


class LatestPicture:
    """Reads a camera in a thread of its own, used in a `with` statement, which ends it.

    At most one picture waits to be taken. One that is not taken before the next comes is dropped.

    Attributes:
        num_read, num_dropped: how many pictures have come, and how many of them were dropped.
    """

    def __init__(self, camera: Camera, name: str, *, silence_s: float = SILENCE_S) -> None:
        self._camera, self._name, self._silence_s = camera, name, silence_s
        self._has_changed = threading.Condition()
        self._waiting: Snapshot | None = None
        self._has_ended = False
        self._began = time.monotonic()
        self.num_read = self.num_dropped = 0
        # A camera that hangs would keep the process from ending.
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)

    def __enter__(self) -> LatestPicture:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._has_changed:
            self._has_ended = True
        self._thread.join(timeout=1.0)
        if not self._thread.is_alive():
            self._camera.close()

    def _read(self) -> None:
        while not self._has_ended:
            picture = self._camera.read()
            with self._has_changed:
                if picture is None:
                    self._has_ended = True
                else:
                    self.num_read += 1
                    self.num_dropped += self._waiting is not None
                    self._waiting = Snapshot(time.monotonic(), picture)
                self._has_changed.notify()

    def take(self) -> Snapshot:
        """Wait for a picture that has not been taken yet, and return it.

        Raises:
            DataError: the camera has stopped, or gives no picture for `silence_s`.
        """
        with self._has_changed:
            self._has_changed.wait_for(lambda: self._waiting is not None or self._has_ended, self._silence_s)
            snapshot, self._waiting = self._waiting, None
        if snapshot is not None:
            return snapshot
        after = f"after {self.num_read} pictures in {time.monotonic() - self._began:.0f} s"
        if self._has_ended:
            raise DataError(f"{self._name}: the camera stopped {after}; is it still plugged in?")
        raise DataError(f"{self._name}: the camera gave no picture for {self._silence_s:.0f} s, {after}.")


def planes_of_bgr(picture: np.ndarray) -> PlaneBatch:
    """Return a picture of a camera, (H, W, 3) uint8 BGR, as planes in BT.601; an odd last row or column is left out."""
    import cv2

    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    planes = cv2.cvtColor(picture[:height, :width], cv2.COLOR_BGR2YUV_I420).reshape(-1)
    luma, chroma = planes[: height * width], planes[height * width :]
    return PlaneBatch(luma.reshape(1, height, width), chroma.reshape(1, 2, height // 2, width // 2))
