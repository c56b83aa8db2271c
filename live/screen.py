"""A window on the screen that shows pictures, by OpenCV. Beside live/camera.py, cv2 is imported here alone."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Protocol

import numpy as np

from features.errors import DataError

# Qt, which OpenCV's wheels for Linux draw windows with, ends the process where there is no screen.
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")


_SMALLEST_WIDTH = 640  # pixels


def enlargement(width: int) -> int:
    """Return by which whole number pictures of a width are enlarged, so that text over small ones is sharp.

    >>> enlargement(128), enlargement(640), enlargement(1920)
    (5, 1, 1)
    """
    return max(1, _SMALLEST_WIDTH // width)


class Shown(Protocol):
    """What shows pictures: a `Screen`, or what a test or a measurement has in its place."""

    def show(self, picture: np.ndarray) -> None:
        """Show a picture, (H, W, 3) uint8 RGB."""

    def wants_more(self, wait_s: float) -> bool:
        """Wait, and return whether more pictures are wanted."""


class Screen:
    """A window, used in a `with` statement, which closes it.

    It has to be made before av is imported: both bring a library for windows, and OpenCV hangs for ever if it meets
    av's (PyAV-Org/PyAV#978, opencv/opencv#29195).

    Args:
        instead: what to do where there is no screen, for the error.

    Raises:
        DataError: OpenCV is not installed, cannot open windows, or there is no screen.
    """

    def __init__(self, title: str, *, instead: str) -> None:
        is_linux = sys.platform.startswith("linux")
        if is_linux and not any(os.environ.get(name) for name in _SCREENS):
            raise DataError(f"there is no screen to open a window on (DISPLAY is not set); {instead}.")
        if is_linux and "av" in sys.modules and "cv2" not in sys.modules:
            raise DataError("av was imported before OpenCV, whose windows would hang then; import cv2 first.")
        os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")  # of fonts, though nothing is written by Qt
        try:
            import cv2
        except ImportError as error:  # not installed, or a library of the system is missing
            raise DataError(f"a window needs opencv-python ({error}): pip install '.[watch]'; {instead}.") from error
        self._cv2, self._title = cv2, title
        self._is_shown = self._was_open = False
        try:
            cv2.namedWindow(title)  # which loads the library
            cv2.destroyWindow(title)
        except cv2.error as error:
            raise DataError(
                f"this OpenCV cannot open windows (is it opencv-python-headless?): pip install '.[watch]'; {instead}."
            ) from error

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_shown:
            self._cv2.destroyAllWindows()

    def show(self, picture: np.ndarray) -> None:
        """Show a picture, (H, W, 3) uint8 RGB."""
        if not self._is_shown:
            self._cv2.namedWindow(self._title, self._cv2.WINDOW_AUTOSIZE | self._cv2.WINDOW_GUI_NORMAL)
        self._cv2.imshow(self._title, picture[:, :, ::-1])
        self._is_shown = True

    def wants_more(self, wait_s: float) -> bool:
        """Wait, at least a millisecond, while the window is drawn; return False once q was typed or it was closed."""
        key = self._cv2.waitKey(max(1, round(1000 * wait_s))) & 0xFF
        is_open = self._cv2.getWindowProperty(self._title, self._cv2.WND_PROP_VISIBLE) >= 1
        # On a busy machine it takes a while until a new window is there, which is not the same as closed.
        self._was_open |= is_open
        return key != ord("q") and (is_open or not self._was_open)
