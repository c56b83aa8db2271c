"""`heads watch` on a camera: pictures are dropped rather than queued, and a camera that fails is named in one line."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
from paced_camera import PacedCamera

from features.errors import DataError
from live.camera import LatestPicture, OpenCvCamera, planes_of_bgr
from live.stream import LiveModel, open_live, watch_camera

cv2 = pytest.importorskip("cv2")


class SteppedCamera:
    """A camera whose next picture comes when the test says so; picture n has the value n."""

    def __init__(self, num_pictures: int) -> None:
        self._left = num_pictures
        self._steps = threading.Semaphore(0)
        self.number = -1
        self.is_closed = False

    def step(self, num: int = 1) -> None:
        """Let so many pictures come, and wait until the last of them was handed on."""
        target = self.number + num
        self._steps.release(num)
        while self.number < target or self._steps._value:
            time.sleep(0.001)
        time.sleep(0.02)

    def read(self) -> np.ndarray | None:
        self._steps.acquire(timeout=10)
        self.number += 1
        return None if self.number >= self._left else np.full((4, 4, 3), self.number, np.uint8)

    def close(self) -> None:
        self.is_closed = True


def test_at_most_one_picture_waits_and_dropped_ones_are_counted():
    camera = SteppedCamera(9)
    with LatestPicture(camera, "camera:0") as pictures:
        camera.step()
        assert pictures.take().picture[0, 0, 0] == 0
        camera.step(5)
        assert pictures.take().picture[0, 0, 0] == 5, "the newest"
        assert (pictures.num_read, pictures.num_dropped) == (6, 4)
        camera.step(4)  # the last one is the end
        assert pictures.take().picture[0, 0, 0] == 8
        with pytest.raises(DataError, match="camera:0: the camera stopped after 9 pictures") as caught:
            pictures.take()
    assert "\n" not in str(caught.value)
    assert camera.is_closed


def test_a_camera_that_gives_no_more_pictures_is_named():
    camera = SteppedCamera(3)
    with LatestPicture(camera, "camera:0", silence_s=0.1) as pictures:
        camera.step()
        pictures.take()
        with pytest.raises(DataError, match=r"gave no picture for 0 s, after 1 pictures"):
            pictures.take()
        camera.step()


def test_a_camera_that_is_not_there_is_named_in_one_line(capfd):
    with pytest.raises(DataError, match="camera:99: no such camera") as caught:
        OpenCvCamera(99)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_runs_with_context_are_refused(trained):
    with pytest.raises(DataError, match="shared-seed0: was trained with --window 3, and of a camera"):
        open_live(trained.run("shared"), device="cpu")
    with pytest.raises(DataError, match=r"dense-seed0: was trained with --context 0\.5"):
        open_live(trained.run("dense"), device="cpu")


class CountingScreen:
    """Takes pictures for some seconds, `slow_s` for each; remembers the process's memory along the way."""

    def __init__(self, seconds: float, *, slow_s: float) -> None:
        self._end = time.monotonic() + seconds
        self._slow_s = slow_s
        self.resident: list[int] = []
        self.last = np.zeros(0)

    def show(self, picture: np.ndarray) -> None:
        self.last = picture
        time.sleep(self._slow_s)
        with open("/proc/self/statm") as file:
            self.resident.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))

    def wants_more(self, wait_s: float) -> bool:
        return time.monotonic() < self._end


@pytest.fixture(scope="module")
def model(trained) -> LiveModel:
    return open_live(trained.run("by_segment"), device="cpu")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from Linux's /proc")
def test_a_slow_screen_costs_pictures_and_no_memory(trained, model):
    video = next(trained.videos.rglob("P04_01.mp4"))
    camera = PacedCamera(video, fps=30, size=(360, 640))
    screen = CountingScreen(8.0, slow_s=0.1)
    report = watch_camera(model, camera, screen, name="camera:0")
    assert camera.is_closed
    num_shown = len(screen.resident)
    assert report.num_dropped > 0.3 * report.num_read
    assert num_shown + report.num_dropped == pytest.approx(report.num_read, abs=1), "one more may wait"
    assert report.num_windows > 0
    assert report.most_kept <= 30 * 3.0, "what lies within a window and half a second"
    # Were pictures kept, there would be 15 MB of them per second.
    half = screen.resident[num_shown // 2]
    assert max(screen.resident[num_shown // 2 :]) - half < 25e6
    assert screen.last.shape == (360, 640, 3)


def test_a_camera_shows_the_video_that_it_films(trained, model):
    """The actions of the last seconds are those that the same run has for a file of the same pictures."""
    from live.recent import RecentPictures, features_now, now
    from live.watch import watch_video

    video = next(trained.videos.rglob("P04_01.mp4"))
    seen = watch_video(trained.run("by_segment"), video, device="cpu", workers=1)
    recent = RecentPictures(model.backbones, model.views, 2.0)
    import av

    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            if frame.time < 2.0:
                recent.add(frame.time, planes_of_bgr(frame.to_ndarray(format="bgr24")))
    window = now(recent.snapshot(), 2.0)
    assert window is not None
    (digest,) = model.backbones
    features = features_now(recent.snapshot(), window, digest, model.backbones[digest], model.views[digest])
    predictions = model.watched.root.predict({digest: features}, window, model.device)
    # A camera's pictures have been RGB, which rounds their colours.
    np.testing.assert_allclose(predictions.verb[0], seen.predictions.verb[0], atol=0.05)
    np.testing.assert_allclose(predictions.noun[0], seen.predictions.noun[0], atol=0.05)
