"""Video files: their frames' presentation times, and the wanted frames decoded. The only importer of av.

Knows no segment and no model. Frames are numbered from 0 in presentation order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from features.errors import DataError


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """What a video file says of itself, read without decoding.

    Attributes:
        pts: (F,) int64 presentation time stamps of its frames, strictly ascending.
        time_base: seconds of one unit of pts.
        fps: average frames a second.
        declared_frames: how many frames the container says it has; 0 where it does not say.
    """

    path: Path
    pts: np.ndarray
    time_base: Fraction
    fps: float
    width: int
    height: int
    codec: str
    declared_frames: int

    @property
    def seconds(self) -> np.ndarray:
        """(F,) float64 presentation times."""
        return self.pts * float(self.time_base)

    @property
    def is_truncated(self) -> bool:
        """Whether the file holds fewer frames than its own index lists: the end of a copy is missing."""
        return len(self.pts) < self.declared_frames

    def __repr__(self) -> str:
        size = f"{self.width}x{self.height}"
        return f"VideoInfo({self.path.name}, {len(self.pts)} frames, {self.fps:.2f} fps, {size} {self.codec})"


class VideoError(DataError):
    """A video file cannot be used at all."""


def probe(path: Path) -> VideoInfo:
    """Read the presentation times of a video's frames from its packets; nothing is decoded.

    Raises:
        VideoError: the file cannot be opened, has no video, or no presentation times.
    """
    path = Path(path)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path}: no video stream in it.")
            stream = container.streams.video[0]
            pts = _packet_pts(container, stream)
            if not pts:
                raise VideoError(f"{path}: no frames with a presentation time in it; is it truncated?")
            return VideoInfo(
                path=path,
                pts=np.unique(np.array(pts, dtype=np.int64)),
                time_base=stream.time_base,
                fps=float(stream.average_rate or 0),
                width=stream.codec_context.width,
                height=stream.codec_context.height,
                codec=stream.codec_context.name,
                declared_frames=stream.frames,
            )
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: cannot be opened as a video: {error.strerror or error}.") from error


def _packet_pts(container, stream) -> list[int]:
    """List the times of all packets whose frames are shown; a damaged end is where the list ends."""
    pts = []
    try:
        for packet in container.demux(stream):
            # Packets before the start of an mp4's edit list are decoded but never shown.
            if packet.pts is not None and packet.size and not packet.is_discard:
                pts.append(packet.pts)
    except av.FFmpegError:
        pass  # read error in the middle: what lies behind is reported as segments beyond the end
    return pts


def decode(info: VideoInfo, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Decode a video in order and give (frame number, (H, W, 3) uint8 RGB) for each wanted frame.

    Frames that cannot be decoded, or only with visible damage, do not come; the caller counts.

    Args:
        wanted: (M,) frame numbers, ascending.

    Raises:
        VideoError: the file cannot be opened.
    """
    number = {int(info.pts[frame]): int(frame) for frame in wanted}
    if not number:
        return
    last_pts = max(number)
    try:
        with av.open(str(info.path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in _frames(container, stream):
                if frame.pts in number and not frame.is_corrupt:
                    yield number[frame.pts], frame.to_ndarray(format="rgb24")
                if frame.pts is not None and frame.pts >= last_pts:
                    return
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{info.path}: cannot be read: {error.strerror or error}.") from error


def _frames(container, stream) -> Iterator[av.VideoFrame]:
    """Decode packet by packet, so that one that is damaged costs its own frames and not the rest."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError:
            return  # the container cannot be read further
        try:
            frames = packet.decode()
        except av.FFmpegError:
            continue
        yield from frames
