"""Small videos whose frames say their own number, encoded on the spot: for tests that ask which frame came out.

The number is painted in blocks of 16 x 16 pixels, black or white, which survive every compression. Imports none of
the packages, so that it can disagree with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 64, 48
_BLOCK = 16  # pixels
_COLUMNS, _ROWS = WIDTH // _BLOCK, HEIGHT // _BLOCK
_BITS = 2 ** np.arange(_ROWS * _COLUMNS)
# On one thread, which is the quickest for small pictures; x265 writes to stderr unless it is told not to.
_OPTIONS = {
    "libx264": {"preset": "veryfast", "threads": "1", "g": "{gop}", "bf": "{b_frames}", "sc_threshold": "0"},
    "libx265": {
        "preset": "ultrafast",
        "x265-params": "log-level=none:pools=none:frame-threads=1:keyint={gop}:min-keyint={gop}:bframes={b_frames}"
        ":scenecut=0:open-gop=0",
    },
    "mpeg4": {"g": "{gop}", "bf": "{b_frames}", "qmin": "2", "qmax": "4"},
    "mpeg2video": {"g": "{gop}", "bf": "{b_frames}", "qmin": "2", "qmax": "4"},
    "libvpx": {"threads": "1", "g": "{gop}", "deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"threads": "1", "g": "{gop}", "deadline": "realtime", "cpu-used": "8"},
    "mjpeg": {"qmin": "2", "qmax": "4"},
}


def number_picture(number: int) -> np.ndarray:
    """Return a picture of a frame number, (HEIGHT, WIDTH, 3) uint8.

    Black and white tell the number; a shade that differs from block to block and from frame to frame, within what is
    still black or white, gives the pictures something to tell them apart by.
    """
    rng = np.random.default_rng(number)
    bits = (number & _BITS > 0).reshape(_ROWS, _COLUMNS, 1)
    shades = np.where(bits, 190, 20) + rng.integers(0, 45, (_ROWS, _COLUMNS, 3))
    return shades.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1).astype(np.uint8)


def number_in(picture: np.ndarray) -> int:
    """Read the number painted in a picture, (HEIGHT, WIDTH, 3) uint8, or its luma, (HEIGHT, WIDTH)."""
    middle = picture.reshape(_ROWS, _BLOCK, _COLUMNS, _BLOCK, -1)[:, 4:-4, :, 4:-4].mean(axis=(1, 3, 4))
    return int(_BITS[(middle > 127).reshape(-1)].sum())


def write_video(
    path: Path,
    *,
    num_frames: int = 60,
    picture: Callable[[int], np.ndarray] = number_picture,
    fps: Fraction | int = 30,
    codec: str = "libx264",
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    gop: int = 12,
    b_frames: int = 2,
    container_options: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
) -> Path:
    """Encode `num_frames` frames, 0, 1, 2, ...; return the path.

    Args:
        picture: gives a frame by its number, (H, W, 3) uint8; painted with the number by default.
        pts: presentation times in units of `time_base`, for a rate that varies; a frame each.
        gop: frames from one key frame to the next.
        container_options: of the muxer, such as movflags.
        tags: colorspace and color_range, by FFmpeg's numbers.
    """
    fps = Fraction(fps)
    time_base = time_base or 1 / fps
    pts = range(num_frames) if pts is None else pts
    options = {name: value.format(gop=gop, b_frames=b_frames) for name, value in _OPTIONS[codec].items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = picture(0).shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = time_base
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        for number, moment in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = moment, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path, *, num_seconds: int = 1) -> Path:
    """Encode a second of silence, without any picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for start in range(0, 16000 * num_seconds, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def damage_packet(path: Path, number: int) -> None:
    """Overwrite what the file holds of one frame by 0xFF, which no decoder takes for a picture."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
    packet = sorted(packets, key=lambda packet: packet.pts)[number]
    content = bytearray(path.read_bytes())
    content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(content)


def cut(path: Path, *, share: float) -> None:
    """Leave only the first part of a file, as a broken copy does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def without_start(path: Path, out: Path, *, num_frames: int, fps: Fraction | int) -> Path:
    """Copy a video without its first frames: an mp4 keeps them and hides them with an edit list."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        shift = int(num_frames / Fraction(fps) / stream.time_base)
        for packet in source.demux(stream):
            if packet.pts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                target.mux(packet)
    return out


def turn_video(path: Path, out: Path, rotation: int) -> Path:
    """Copy a video's packets, and note by how many degrees counter-clockwise a player is to turn the pictures."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        copy.set_display_rotation(rotation)
        for packet in source.demux(stream):
            if packet.pts is not None:
                packet.stream = copy
                target.mux(packet)
    return out


def repeat_video(path: Path, out: Path, times: int) -> Path:
    """Copy a video's packets again and again, which makes a long video in no time."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.pts is not None]
        timestamps = [(packet.pts, packet.dts) for packet in packets]
        length = max(pts for pts, _ in timestamps) + packets[0].duration
        for repetition in range(times):
            for packet, (pts, dts) in zip(packets, timestamps, strict=True):
                packet.pts, packet.dts, packet.stream = pts + repetition * length, dts + repetition * length, copy
                target.mux(packet)
    return out


def planes_of_all(path: Path) -> list[list[np.ndarray]]:
    """Return the planes (y, u, v) of every frame of a video, made 4:2:0, by a plain loop over PyAV's."""
    with av.open(str(path)) as container:
        return [planes_of(frame) for frame in container.decode(video=0)]


def planes_of(frame: av.VideoFrame) -> list[np.ndarray]:
    """Return the planes of a frame, made 4:2:0."""
    if frame.format.name not in ("yuv420p", "yuvj420p"):
        frame = frame.reformat(format="yuv420p", dst_color_range="MPEG")
    arrays = [np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size) for plane in frame.planes]
    return [lines[: plane.height, : plane.width].copy() for lines, plane in zip(arrays, frame.planes, strict=True)]


def decode_all(path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """Return (seconds, (H, W, 3) uint8) of every frame of a video, by a plain loop over PyAV's."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield float(frame.pts * frame.time_base), frame.to_ndarray(format="rgb24")
