"""The same video in other forms: JPEG frames in a folder or a tar, and chunks. Imports none of the packages."""

from __future__ import annotations

import itertools
import math
import tarfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from encode import decode_all


def jpeg(picture: np.ndarray, pix_fmt: str = "yuvj420p") -> bytes:
    """Encode a picture, (H, W, 3) uint8, as a JPEG of high quality."""
    context = av.CodecContext.create("mjpeg", "w")
    context.height, context.width = picture.shape[:2]
    context.pix_fmt, context.time_base, context.qmin, context.qmax = pix_fmt, Fraction(1), 2, 2
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
    frame.pts = 0
    [packet] = [*context.encode(frame), *context.encode(None)]
    return bytes(packet)


def _decoded_until(video: Path, until_s: float) -> Iterator[tuple[float, np.ndarray]]:
    return itertools.takewhile(lambda shown: shown[0] < until_s, decode_all(video))


def write_frames(video: Path, folder: Path, *, fps: int, until_s: float = math.inf) -> Path:
    """Write the pictures of a video that are shown at seconds 0, 1 / fps, 2 / fps and so on, as the published ones."""
    seconds, pictures = zip(*_decoded_until(video, until_s), strict=True)
    folder.mkdir(parents=True)
    for index in range(math.ceil(seconds[-1] * fps)):
        nearest = int(np.abs(np.array(seconds) - index / fps).argmin())
        (folder / f"frame_{index + 1:010}.jpg").write_bytes(jpeg(pictures[nearest]))
    return folder


def write_tar(folder: Path, path: Path, *, inside: str = ".") -> Path:
    """Put the files of a folder into a tar, in no order, below the folder `inside`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.iterdir(), key=lambda file: file.name[::-1]):
            tar.add(file, f"{inside}/{file.name}")
    return path


def write_chunks(
    video: Path, folder: Path, *, seconds: float, keep_clock: bool = False, until_s: float = math.inf
) -> Path:
    """Encode each part of so many seconds of a video as a file of its own, named by the second of its start."""
    parts: dict[float, list[tuple[float, np.ndarray]]] = {}
    for second, picture in _decoded_until(video, until_s):
        start = second // seconds * seconds
        parts.setdefault(start, []).append((second if keep_clock else second - start, picture))
    folder.mkdir(parents=True)
    for start, frames in parts.items():
        with av.open(str(folder / f"{start:g}.MP4"), "w", format="mp4") as container:
            options = {"preset": "veryfast", "threads": "1", "g": "12", "crf": "10"}
            stream = container.add_stream("libx264", rate=30, options=options)
            stream.height, stream.width = frames[0][1].shape[:2]
            stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 30000)
            for second, picture in frames:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = round(second * 30000), Fraction(1, 30000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return folder
