"""The window of `heads watch`, on a screen in memory."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from xvfb import XVFB, screen

from features.errors import DataError
from live.screen import Screen

needs_screen = pytest.mark.skipif(
    XVFB is None or importlib.util.find_spec("cv2") is None, reason="needs Xvfb and opencv-python"
)


@needs_screen
def test_the_window_shows_the_video_with_bars_and_a_timeline(trained, tmp_path):
    video = next(trained.videos.rglob("P04_01.mp4"))
    command = [Path(sys.executable).with_name("heads"), "watch", trained.run("by_segment"), video]
    command += ["--device", "cpu", "--workers", "1", "--actions", tmp_path / "a.csv"]
    # Where no program manages windows, as here, Qt waits for ever in one of ten for word that it may draw.
    for _ in range(5):
        shown, later, printed = watched_on_a_screen([*map(str, command)], tmp_path)
        if shown is not None:
            break
    assert shown is not None, printed
    assert later is not None, "the video goes on"
    window = lit(shown).astype(int)
    width = window.shape[1]
    panel, beside = window[:90, : round(0.4 * width)], window[:90, round(0.5 * width) :]
    assert panel.mean() < 0.7 * beside.mean(), "bars on a dark panel"
    assert (panel.min(axis=2) > 240).sum() > 200, "and white text"
    timeline = window[-30:]
    assert (np.ptp(timeline, axis=2) > 60).mean() > 0.3, "coloured segments"
    assert (timeline == 255).all(axis=(0, 2)).any(), "and the white line of the moment"


def lit(shown: np.ndarray) -> np.ndarray:
    """Return the smallest part of a screen with all that is not black."""
    if not shown.any():
        return shown[:0]
    rows, columns = (np.flatnonzero(shown.any(axis=(axis, 2))) for axis in (1, 0))
    return shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def watched_on_a_screen(command: list[str], folder: Path) -> tuple[np.ndarray | None, np.ndarray | None, str]:
    """Return what a command shows, and then; and what it printed."""
    with screen(folder) as display, open(folder / "printed", "w+") as printed:
        environment = {**os.environ, "DISPLAY": display.display, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, env=environment, stdout=printed, stderr=subprocess.STDOUT)
        try:
            shown = wait_for_picture(display, process)
            later = wait_for_picture(display, process, other_than=shown)
        finally:
            process.terminate()
            process.wait(timeout=20)
        printed.seek(0)
        return shown, later, printed.read()


def wait_for_picture(display, process, *, other_than: np.ndarray | None = None) -> np.ndarray | None:
    """Return what is on the screen once the whole window is, with another picture; None if the process ends before.

    A small video is enlarged, so that text is sharp.
    """
    for _ in range(900):
        shown = display.screenshot()
        is_whole = lit(shown).shape == (5 * 72, 5 * 128, 3)  # at first only the pointer is there
        if is_whole and (other_than is None or (shown != other_than).any()):
            return shown
        if process.poll() is not None:
            return None
        time.sleep(0.2)
    return None


class KeysOfPeople(types.ModuleType):
    """OpenCV with a key that is typed and a window that is open or closed: no test can type."""

    WINDOW_AUTOSIZE = WINDOW_GUI_NORMAL = WND_PROP_VISIBLE = 1
    error = RuntimeError
    key, is_visible = -1, 1.0

    def namedWindow(self, *_: object) -> None:  # noqa: N802 - OpenCV's names
        """Open nothing."""

    destroyWindow = imshow = namedWindow  # noqa: N815

    def waitKey(self, _: int) -> int:  # noqa: N802
        return self.key

    def getWindowProperty(self, *_: object) -> float:  # noqa: N802
        return self.is_visible


def test_q_ends_it_and_so_does_closing_the_window(monkeypatch):
    cv2 = KeysOfPeople("cv2")
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    monkeypatch.setenv("DISPLAY", ":0")
    window = Screen("a video", instead="nothing")
    window.show(np.zeros((4, 4, 3), np.uint8))
    cv2.is_visible = 0.0
    assert window.wants_more(0.0), "it is not there yet"
    cv2.is_visible = 1.0
    assert window.wants_more(0.0)
    cv2.key = ord("x")
    assert window.wants_more(0.0)
    cv2.key = ord("q")
    assert not window.wants_more(0.0)
    cv2.key, cv2.is_visible = -1, 0.0
    assert not window.wants_more(0.0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the conflict is Linux's")
def test_after_av_opencv_is_not_asked_for_a_window(monkeypatch):
    """It would hang, and could not be interrupted."""
    monkeypatch.setitem(sys.modules, "av", types.ModuleType("av"))
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(DataError, match="import cv2 first"):
        Screen("a video", instead="nothing")
