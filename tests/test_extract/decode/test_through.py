"""Streams whose packets do not tell when pictures are shown: each frame is a picture of a full decode, at its time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from encode import damage_packet, number_in, number_picture, write_video
from odd_videos import (
    every,
    from_second_key,
    hidden_vp8,
    not_coded_vop,
    packed,
    pictures_shown,
    rewritten,
    shown_when_decoded,
    with_divx_mark,
    with_packets_between,
)

from extract.decode.container import VideoError
from extract.decode.probing import VideoInfo, probe
from extract.decode.shown import Decoded
from extract.decode.through import decoded_through
from extract.decode.video import decode, decode_task
from extract.sampling import nearest_frames

FPS = 30


def _hidden(folder: Path) -> Path:
    return rewritten(write_video(folder / "plain.webm", codec="libvpx"), folder / "P01_01.webm", every(5, hidden_vp8))


def _not_coded(folder: Path) -> Path:
    plain = write_video(folder / "plain.mp4", codec="mpeg4", b_frames=0)
    return rewritten(plain, folder / "P01_01.mp4", with_packets_between(not_coded_vop(increment_bits=5), 4))


def _packed(folder: Path) -> Path:
    plain = write_video(folder / "plain.avi", codec="mpeg4", b_frames=1)
    return rewritten(plain, folder / "P01_01.avi", packed(increment_bits=5), extradata=with_divx_mark)


def _with_unit(unit: bytes, ending: str) -> Callable[[Path], Path]:
    """Return a maker of H.264 with access units that hold this NAL unit only."""

    def make(folder: Path) -> Path:
        plain = write_video(folder / f"plain.{ending}", b_frames=0)
        data = (b"\0\0\0\1" if ending == "ts" else len(unit).to_bytes(4, "big")) + unit
        return rewritten(plain, folder / f"P01_01.{ending}", with_packets_between(data, 5))

    return make


def _pts_of_decoding(codec: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        plain = write_video(folder / "plain.mp4", codec=codec)
        return rewritten(plain, folder / "P01_01.mp4", shown_when_decoded)

    return make


def _plain(codec: str, ending: str) -> Callable[[Path], Path]:
    tags = {"color_range": 2} if codec == "mjpeg" else {}  # it has no other range
    return lambda folder: write_video(folder / f"P01_01.{ending}", codec=codec, tags=tags)


_DELIMITER = b"\x09\xf0"
KINDS = {
    "VP8, hidden references": _hidden,
    "MPEG-4, pictures that are not coded": _not_coded,
    "MPEG-4 in avi, packed B-frames": _packed,
    "H.264 in mp4, delimiters alone": _with_unit(_DELIMITER, "mp4"),
    "H.264 in mkv, delimiters alone": _with_unit(_DELIMITER, "mkv"),
    "H.264 in mp4, pts = dts": _pts_of_decoding("libx264"),
    "HEVC in mp4, pts = dts": _pts_of_decoding("libx265"),
    "MPEG-4 in mp4, pts = dts": _pts_of_decoding("mpeg4"),
    **{
        f"{codec} in {ending}": _plain(codec, ending)
        for codec, ending in (
            *(("libx264", "ts"), ("libx264", "avi"), ("libx264", "m4v"), ("libx264", "mov"), ("libx265", "ts")),
            *(("mpeg4", "avi"), ("mpeg4", "ts"), ("libvpx", "webm"), ("libvpx-vp9", "webm")),
            *(("mpeg2video", "mpg"), ("mjpeg", "avi")),
        )
    },
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory) -> tuple[VideoInfo, list[list[np.ndarray]]]:
    path = KINDS[request.param](tmp_path_factory.mktemp("kind"))
    return probe(path), pictures_shown(path)


def _decoded(info: VideoInfo, frames: np.ndarray) -> dict[int, list[np.ndarray]]:
    tasks = decode(decode_task(info, frames))
    return {frame: [planes.y.copy(), planes.u.copy(), planes.v.copy()] for frame, planes in tasks}


def _need_pictures(info: VideoInfo, frames: np.ndarray, pictures: list[list[np.ndarray]]) -> None:
    decoded = _decoded(info, frames)
    assert list(decoded) == frames.tolist()
    for frame, planes in decoded.items():
        for plane, expected in zip(planes, pictures[frame], strict=True):
            np.testing.assert_array_equal(plane, expected)


def test_frames_are_the_pictures_of_a_full_decode(kind):
    info, pictures = kind
    assert len(info.seconds) == len(pictures) > 45
    _need_pictures(info, np.arange(len(pictures)), pictures)


def test_some_frames_are_those_of_a_full_decode(kind):
    info, pictures = kind
    for frames in ([7], [20, 21], [3, 40], [len(pictures) - 1]):
        _need_pictures(info, np.array(frames), pictures)


def test_each_picture_has_the_time_of_its_number(kind):
    info, pictures = kind
    numbers = np.array([number_in(picture[0]) for picture in pictures])
    np.testing.assert_allclose(info.seconds - info.seconds[0], (numbers - numbers[0]) / FPS, atol=0.0011)


def test_first_frame_is_at_the_start(kind):
    info, _ = kind
    # Program and transport streams begin a little later; players take no notice.
    assert 0 <= info.seconds[0] < 0.6
    assert info.seconds[0] == 0 or info.path.suffix in (".ts", ".mpg")


def test_moment_of_a_hidden_picture_is_met_by_the_nearest_that_is_shown(tmp_path):
    path = _hidden(tmp_path)
    info, numbers = probe(path), [number_in(picture[0]) for picture in pictures_shown(path)]
    assert 2 not in numbers
    assert [numbers[frame] for frame in nearest_frames(info.seconds, np.array([1.9, 2.1]) / FPS)] == [1, 3]


def test_stream_that_begins_with_an_open_group_has_no_frames_before_its_key_picture(tmp_path):
    # They are predicted from the group before, and no decoder shows them.
    plain = tmp_path / "plain.mkv"
    with av.open(str(plain), "w") as container:
        options = "log-level=none:pools=none:frame-threads=1:keyint=12:min-keyint=12:bframes=3:open-gop=1:scenecut=0"
        stream = container.add_stream("libx265", rate=FPS, options={"x265-params": options})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(60):
            frame = av.VideoFrame.from_ndarray(number_picture(number), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    path = rewritten(plain, tmp_path / "P01_01.mkv", from_second_key)
    pictures = pictures_shown(path)
    info = probe(path)
    assert info.packets.proven
    assert len(info.stamps) > len(pictures)
    _need_pictures(info, np.arange(len(pictures)), pictures)


def test_stream_whose_clock_begins_anew_is_refused_with_what_to_do(tmp_path):
    plain = write_video(tmp_path / "plain.ts", codec="mpeg2video")
    path = tmp_path / "P01_01.ts"
    path.write_bytes(plain.read_bytes() * 2)
    with pytest.raises(VideoError, match=r"P01_01\.ts: .*jump back near .* s\. .*ffmpeg .*-c copy"):
        probe(path)


# ---- damage stays a failure


@pytest.mark.parametrize("codec", ["mpeg4", "libvpx", "libvpx-vp9", "mpeg2video"])
def test_damaged_picture_and_those_predicted_from_it_do_not_come(tmp_path, codec):
    plain = write_video(tmp_path / "plain.mkv", codec=codec, b_frames=0)
    pictures = pictures_shown(plain)
    path = rewritten(plain, tmp_path / "P01_01.mkv", every(60, lambda data: b"\xff" * len(data)))  # packet 30
    info = probe(path)
    np.testing.assert_allclose(info.seconds, np.arange(60) / FPS, atol=0.0011)  # the moment has no other frame
    decoded = _decoded(info, np.arange(60))
    assert 30 not in decoded
    for frame, planes in decoded.items():
        for plane, expected in zip(planes, pictures[frame], strict=True):
            np.testing.assert_array_equal(plane, expected)
    assert set(decoded) >= {*range(30), *range(50, 60)}  # each codec begins a group in between


# ---- what a decoder may do, by a decoder that does it


@dataclass
class _Packet:
    """A packet of H.264 with start codes; decoding it gives these pictures, by the packets that they are of."""

    gives: tuple[int, ...]
    unit: bytes = b"\x41"
    is_interlaced: bool = False
    is_keyframe: bool = False
    is_discard: bool = False
    pts: int | None = None

    def __bytes__(self) -> bytes:
        return b"\0\0\1" + self.unit

    def decode(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(pts=pts, interlaced_frame=self.is_interlaced) for pts in self.gives]


def _through(*packets: _Packet) -> Decoded:
    context = SimpleNamespace(name="h264", extradata=None, decode=lambda _: [])
    return decoded_through(packets, context)


def test_packet_that_has_a_slice_and_gives_no_picture_is_damaged():
    assert _through(_Packet((0,)), _Packet(()), _Packet((2,))) == Decoded(shown=(0, 2), damaged=(1,))


def test_packet_of_parameters_that_gives_no_picture_is_not_damaged():
    assert _through(_Packet((0,)), _Packet((), unit=b"\x68"), _Packet((2,))) == Decoded(shown=(0, 2), damaged=())


def test_packets_before_the_first_picture_that_can_be_decoded_are_not_damaged():
    assert _through(_Packet(()), _Packet(()), _Packet((2,))) == Decoded(shown=(2,), damaged=())


def test_pictures_after_a_damaged_start_stay_frames_that_cannot_be_decoded(tmp_path):
    path = write_video(tmp_path / "P01_01.mp4", num_frames=30, gop=12)
    seconds = probe(path).seconds
    damage_packet(path, 0)
    info = probe(path)
    np.testing.assert_allclose(info.seconds, seconds, atol=1e-6)
    frames = [number for number, _ in decode(decode_task(info, np.arange(30)))]
    assert frames == list(range(12, 30))


def test_second_field_of_a_picture_is_not_damaged():
    first, second = _Packet((0,), is_interlaced=True), _Packet(())
    assert _through(first, second, _Packet((2,))) == Decoded(shown=(0, 2), damaged=())
