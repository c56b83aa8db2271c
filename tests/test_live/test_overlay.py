"""What is drawn over a picture, and mp4s that are written of pictures."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from extract.decode.probing import probe
from features.errors import DataError
from live.actions import Action, ActionNames, ActionSegment
from live.overlay import Overlay, Timeline
from live.pictures import mp4_writer, pictures_of

NAMES = ActionNames({0: "take", 1: "turn-on"}, {0: "cup", 1: "tap"})
ACTIONS = [Action(1, 1, 0.75), Action(0, 0, 0.25), Action(0, 1, 0.0), Action(2, 9, 0.0), Action(3, 7, 0.0)]
TIMELINE = Timeline(20.0, [ActionSegment(0, 10, ACTIONS[0])], [ActionSegment(10, 20, ACTIONS[1])])


@pytest.fixture
def picture() -> np.ndarray:
    return np.full((360, 640, 3), 128, np.uint8)


def test_bars_are_as_long_as_actions_are_probable(picture):
    drawn = Overlay((360, 640), NAMES).draw(picture, 0.0, ACTIONS)
    assert (picture == 128).all(), "the picture itself stays as it is"
    changed = (drawn != picture).any(axis=2)
    panel_width = int(changed.any(axis=0).sum())
    assert not changed[:, panel_width:].any()
    # In the first line of pixels of a row there is no text: a bar, then the dark of the panel.
    row_height = int(changed.any(axis=1).sum()) // 5
    for row, action in enumerate(ACTIONS):
        line = drawn[row * row_height + 2, :panel_width].astype(int)
        length = int((np.ptp(line, axis=1) > 10).sum())
        assert length == pytest.approx(action.score * panel_width, abs=2)


def test_the_timeline_shows_true_and_predicted_segments_at_their_times(picture):
    overlay = Overlay((360, 640), NAMES, TIMELINE)
    drawn = overlay.draw(picture, 5.0, ACTIONS)
    height = 16
    true, predicted = (drawn[360 - rows * height + 2].astype(int) for rows in (2, 1))
    is_coloured = [np.flatnonzero(np.ptp(line, axis=1) > 10) for line in (true, predicted)]
    left = is_coloured[0][0]
    middle = left + (640 - left) / 2
    assert is_coloured[0][-1] == pytest.approx(middle, abs=3)
    assert is_coloured[1][0] == pytest.approx(middle, abs=3)
    assert is_coloured[1][-1] == pytest.approx(639, abs=3)
    cursor = np.flatnonzero((drawn[360 - 2 * height : 360] == 255).all(axis=(0, 2)))
    assert cursor.mean() == pytest.approx(left + (640 - left) / 4, abs=2)


def test_an_action_has_the_same_colour_in_bars_and_timeline(picture):
    drawn = Overlay((360, 640), NAMES, TIMELINE).draw(picture, 12.0, ACTIONS).astype(int)
    bar, segment = drawn[2, 100], drawn[360 - 2 * 16 + 2, 100]
    assert np.argsort(bar).tolist() == np.argsort(segment).tolist()
    assert np.abs(bar - segment).max() < 20


@pytest.mark.parametrize("size", [(72, 128), (40, 64), (360, 640), (1080, 1920)])
def test_every_size_of_picture_can_be_drawn_on(size):
    picture = np.zeros((*size, 3), np.uint8)
    drawn = Overlay(size, NAMES, TIMELINE).draw(picture, 19.99, ACTIONS, note="delay 84 ms")
    assert drawn.shape == picture.shape
    assert drawn.max() > 150, "there is text"


def written(path: Path, size: tuple[int, int], fps: float, times: np.ndarray) -> Path:
    """Write an mp4 with pictures of one colour each, of these times."""
    with mp4_writer(path, fps) as add:
        for number, second in enumerate(times):
            add(second, np.full((*size, 3), (200, 40 + number, 90), np.uint8))
    return path


@pytest.mark.parametrize(("fps", "size"), [(60000 / 1001, (72, 128)), (50.0, (72, 128)), (25.0, (45, 71))])
def test_an_mp4_has_the_pictures_at_their_times(tmp_path, fps, size):
    times = np.arange(30) / fps + 0.1
    path = written(tmp_path / "a.mp4", size, fps, times)
    info = probe(path)
    np.testing.assert_allclose(info.seconds, times, atol=1e-3)
    assert info.fps == pytest.approx(fps, rel=1e-6)
    pictures = [picture for _, picture in pictures_of(info)]
    assert pictures[0].shape == (*size, 3)
    for number, picture in enumerate(pictures):
        np.testing.assert_allclose(picture.mean(axis=(0, 1)), (200, 40 + number, 90), atol=4)


def test_uneven_times_are_kept(tmp_path):
    times = np.array([0.0, 0.02, 0.085, 0.1, 0.4])
    np.testing.assert_allclose(probe(written(tmp_path / "a.mp4", (72, 128), 50.0, times)).seconds, times, atol=1e-3)


def test_an_mp4_that_cannot_be_written_is_not_there(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/a\.mp4"):
        written(tmp_path / "file" / "a.mp4", (72, 128), 50.0, np.arange(3) / 50)
    (tmp_path / "file").unlink()
    with pytest.raises(AttributeError), mp4_writer(tmp_path / "b.mp4", 50.0) as add:
        add(0.0, None)
    assert list(tmp_path.iterdir()) == []


def test_colours_of_a_video_are_those_that_its_file_names(tmp_path):
    """A red of BT.709, which would be another red if it were taken for BT.601."""
    path = tmp_path / "red.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace = 1
        for _ in range(3):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for plane, value in zip(frame.planes, (63, 102, 240), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.colorspace = 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    _, picture = next(pictures_of(probe(path)))
    np.testing.assert_allclose(picture[24, 32], (255, 0, 0), atol=4)
