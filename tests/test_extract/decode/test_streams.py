"""Files of several video streams: the one that a player shows is decoded, or the one that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from encode import number_in, number_picture, write_video
from odd_videos import joined

from extract.decode.container import VideoError
from extract.decode.probing import probe
from extract.decode.video import decode, decode_task

REAL, PROXY, COVER = 0, 1000, 2000  # the first numbers that are painted in each stream


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> dict[str, Path]:
    """A video, a smaller one of other numbers, and a larger one of a single frame."""
    folder = tmp_path_factory.mktemp("films")
    return {
        "real": write_video(folder / "real.mp4", picture=_painted(REAL, 2)),
        "proxy": write_video(folder / "proxy.mp4", picture=_painted(PROXY, 1), codec="mpeg4"),
        "cover": write_video(folder / "cover.mp4", picture=_painted(COVER, 4), num_frames=1),
    }


def _painted(first: int, scale: int) -> Callable[[int], np.ndarray]:
    return lambda number: number_picture(first + number).repeat(scale, axis=0).repeat(scale, axis=1)


def _numbers(path: Path, stream: int | None = None) -> list[int]:
    """Return the numbers painted in the frames that are decoded."""
    info = probe(path, stream=stream)
    planes = [planes.y.copy() for _, planes in decode(decode_task(info, np.arange(len(info.pts))))]
    return [number_in(y[:: y.shape[0] // 48, :: y.shape[0] // 48]) for y in planes]


# Streams in the order of the file, and which of them is marked as the default.
FILES = {
    "one frame first": (("cover", "real"), None),
    "one frame first, marked": (("cover", "real"), 0),
    "proxy first, the real one marked": (("proxy", "real"), 1),
    "proxy last": (("real", "proxy"), 0),
    "all three": (("proxy", "cover", "real"), 2),
}


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("case", FILES)
def test_stream_that_a_player_shows_is_taken(films, tmp_path, case, ending):
    names, marked = FILES[case]
    path = joined([films[name] for name in names], tmp_path / f"P01_01.{ending}", marked=marked)
    assert _numbers(path) == list(range(REAL, REAL + 60))


def test_of_streams_that_are_not_marked_the_largest_is_taken(films, tmp_path):
    path = joined([films["proxy"], films["real"]], tmp_path / "P01_01.mkv")
    assert _numbers(path) == list(range(REAL, REAL + 60))


def test_small_stream_is_taken_if_it_alone_is_marked(films, tmp_path):
    path = joined([films["real"], films["proxy"]], tmp_path / "P01_01.mkv", marked=1)
    assert _numbers(path) == list(range(PROXY, PROXY + 60))


def test_stream_that_is_asked_for_is_taken(films, tmp_path):
    path = joined([films["proxy"], films["real"]], tmp_path / "P01_01.mp4", marked=1)
    assert _numbers(path, stream=0) == list(range(PROXY, PROXY + 60))


def test_attached_picture_does_not_count(films, tmp_path):
    path = tmp_path / "P01_01.mkv"
    with av.open(str(films["real"])) as source, av.open(str(path), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        cover = target.add_stream("mjpeg", rate=30)
        cover.width, cover.height, cover.pix_fmt = 256, 192, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(_painted(COVER, 4)(0), format="rgb24").reformat(format="yuvj420p")
        frame.pts = 0
        target.mux([*cover.encode(frame), *cover.encode(None)])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                target.mux(packet)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    assert _numbers(path) == list(range(REAL, REAL + 60))


def test_file_says_which_stream_was_taken_and_which_were_not(films, tmp_path):
    path = joined([films["proxy"], films["real"]], tmp_path / "P01_01.mp4", marked=1)
    assert probe(path).source["stream"] == "1 (h264 128x96); not taken: 0 (mpeg4 64x48)"


def test_stream_that_is_not_there_is_refused_with_those_that_are(films):
    with pytest.raises(VideoError, match=r"real\.mp4: no video stream 3 .*--stream.* 0 \(h264 128x96\)"):
        probe(films["real"], stream=3)
