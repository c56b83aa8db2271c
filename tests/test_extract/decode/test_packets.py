"""What is left undecoded is never missed: the same pixels as by a full decode, over many kinds of streams."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from encode import planes_of_all, without_start, write_video

from extract.decode.packets import needed_packets
from extract.decode.probing import VideoInfo, probe
from extract.decode.video import decode, decode_task

NUM_FRAMES = 120
_X265 = "log-level=none:pools=none:frame-threads=1:keyint=24:min-keyint=24:bframes=4:"
# Encoder, its settings, format of the pixels, and whether anything may be left out.
KINDS = {
    "B-pyramid": ("libx264", {"x264-params": "keyint=24:bframes=3:b-pyramid=normal"}, "yuv420p", True),
    "no B-pyramid": ("libx264", {"x264-params": "keyint=24:bframes=3:b-pyramid=none"}, "yuv420p", True),
    "open GOP": ("libx264", {"x264-params": "keyint=24:bframes=3:open-gop=1"}, "yuv420p", True),
    "intra refresh": ("libx264", {"x264-params": "keyint=24:bframes=3:intra-refresh=1"}, "yuv420p", True),
    "slices": ("libx264", {"x264-params": "keyint=24:slices=3"}, "yuv420p", True),
    "headers repeated": ("libx264", {"x264-params": "keyint=24:repeat-headers=1"}, "yuv420p", True),
    "temporal direct": ("libx264", {"x264-params": "keyint=24:ref=8:bframes=8:direct=temporal"}, "yuv420p", True),
    "10 bit": ("libx264", {"x264-params": "keyint=24"}, "yuv420p10le", True),
    "4:4:4": ("libx264", {"x264-params": "keyint=24"}, "yuv444p", True),
    "interlaced": ("libx264", {"x264-params": "keyint=24:interlaced=1"}, "yuv420p", False),
    "HEVC": ("libx265", {"x265-params": _X265 + "open-gop=0"}, "yuv420p", True),
    "HEVC open GOP": ("libx265", {"x265-params": _X265 + "open-gop=1"}, "yuv420p", True),
    "HEVC temporal layers": ("libx265", {"x265-params": _X265 + "temporal-layers=3"}, "yuv420p", True),
    "HEVC 10 bit": ("libx265", {"x265-params": _X265 + "open-gop=0"}, "yuv420p10le", True),
    "MPEG-4 of odd size": ("mpeg4", {"bf": "2", "g": "24", "odd": ""}, "yuv420p", False),
    "4:4:4 of odd size": ("libx264", {"x264-params": "keyint=24", "odd": ""}, "yuv444p", True),
    "MPEG-4": ("mpeg4", {"bf": "2", "g": "24"}, "yuv420p", False),
}


def _write(path: Path, codec: str, options: dict[str, str], pix_fmt: str) -> Path:
    """Encode a picture that moves over a random texture, so that pictures are predicted from each other."""
    options = dict(options)
    width, height = (97, 65) if options.pop("odd", None) is not None else (96, 64)
    texture = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options={"threads": "1", **options})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        for number in range(NUM_FRAMES):
            x, y = int(100 + 90 * np.sin(number / 20)), int(80 + 70 * np.cos(number / 33))
            frame = av.VideoFrame.from_ndarray(texture[y : y + height, x : x + width].copy(), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory) -> tuple[Path, list[list[np.ndarray]], bool]:
    codec, options, pix_fmt, leaves_out = KINDS[request.param]
    path = _write(tmp_path_factory.mktemp("kind") / "P01_01.mp4", codec, options, pix_fmt)
    return path, planes_of_all(path), leaves_out


def _need_same(info: VideoInfo, frames: np.ndarray, pictures: list[list[np.ndarray]]) -> None:
    """Decode the wanted frames and compare every pixel with those of a full decode."""
    decoded_frames = []
    for frame, planes in decode(decode_task(info, frames)):
        decoded_frames.append(frame)
        for plane, expected in zip((planes.y, planes.u, planes.v), pictures[frame], strict=True):
            np.testing.assert_array_equal(plane, expected)
    assert decoded_frames == frames.tolist()


def test_wanted_frames_are_those_of_a_full_decode(kind):
    path, pictures, _ = kind
    info = probe(path)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        frames = np.flatnonzero(rng.random(NUM_FRAMES) < (0.02, 0.05, 0.1, 0.3)[seed % 4])
        if len(frames):
            _need_same(info, frames, pictures)


def test_each_frame_alone_is_that_of_a_full_decode(kind):
    path, pictures, _ = kind
    info = probe(path)
    for frame in range(0, NUM_FRAMES, 5):
        _need_same(info, np.array([frame]), pictures)


def test_what_nothing_wanted_depends_on_is_left_out_where_that_is_proven(kind):
    path, _, leaves_out = kind
    info = probe(path)
    assert info.packets.proven == leaves_out
    pts = info.pts[[10, 100]]
    assert (needed_packets(info.packets, pts).sum() < 90) == leaves_out


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_hidden_start_is_minded(codec, ending, tmp_path):
    full_video = write_video(tmp_path / "whole.mp4", codec=codec, num_frames=90)
    path = without_start(full_video, tmp_path / f"P01_01.{ending}", num_frames=10, fps=30)
    pictures = planes_of_all(path)
    info = probe(path)
    assert len(info.pts) == len(pictures)
    for frame in range(0, len(pictures), 5):
        _need_same(info, np.array([frame]), pictures)
