"""The pictures of a video file in RGB, for people, and an mp4 that is written of pictures."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from extract.decode.probing import VideoInfo
from extract.decode.video import decode_frames, decode_task
from features.errors import DataError
from features.files import written_whole

_CRF = "20"  # of x264: a copy that looks like its source
_SMPTE170M, _LIMITED = 6, 1  # ITU-T H.273: BT.601 in limited range
_FINEST = 10_000  # ticks per second, at least, so that variable frame rates keep their times


def pictures_of(info: VideoInfo) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the second and the picture of each frame of a video file, (H, W, 3) uint8 RGB, upright.

    Frames that cannot be decoded are left out.
    """
    for number, frame in decode_frames(decode_task(info, np.arange(len(info.seconds)))):
        picture = frame.to_ndarray(format="rgb24")
        yield float(info.seconds[number]), np.ascontiguousarray(np.rot90(picture, frame.rotation // 90))


@contextlib.contextmanager
def mp4_writer(path: Path, fps: float) -> Iterator[Callable[[float, np.ndarray], None]]:
    """Yield a function that adds a picture, (H, W, 3) uint8 RGB, at a second; the mp4 is there whole or not at all.

    Args:
        fps: frames per second, as the file says it; the pictures keep the times that they are given.

    Raises:
        DataError: the file cannot be written.
    """
    rate = Fraction(fps).limit_denominator(1001)
    ticks = rate.numerator * math.ceil(_FINEST / rate.numerator)
    with written_whole(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": _CRF, "preset": "veryfast"})
        stream.codec_context.time_base = stream.time_base = Fraction(1, ticks)
        # What FFmpeg makes of RGB. Without a word, players take large pictures for BT.709.
        stream.codec_context.colorspace, stream.codec_context.color_range = _SMPTE170M, _LIMITED

        def add(second: float, picture: np.ndarray) -> None:
            if not stream.codec_context.is_open:
                stream.height, stream.width = picture.shape[:2]
                # x264 halves the chroma of even sizes only.
                stream.pix_fmt = "yuv420p" if stream.height % 2 == stream.width % 2 == 0 else "yuv444p"
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(second * ticks), Fraction(1, ticks)
            container.mux(stream.encode(frame))

        yield add
        container.mux(stream.encode(None))


def shown_size(info: VideoInfo) -> tuple[int, int]:
    """Return height and width of a video's pictures, upright.

    Raises:
        DataError: none of them can be decoded.
    """
    for _, picture in pictures_of(info):
        return picture.shape[0], picture.shape[1]
    raise DataError(f"{info.path}: none of its pictures can be decoded.")
