"""Video files: their frames' presentation times, and the wanted frames decoded. The only importer of av.

Knows no segment and no model. Frames are numbered from 0 in presentation order.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from extract.damage import DamageLedger
from features.errors import DataError

# H.264 and HEVC let a picture be decoded at most this many pictures before it is shown.
_MAX_REORDER = 16


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """What a video file says of itself, read without decoding.

    Attributes:
        pts: (F,) int64 presentation time stamps of its frames, strictly ascending.
        time_base: seconds of one unit of pts.
        fps: average frames a second.
        is_truncated: the file holds fewer frames than its own index lists; the end of a copy is missing.
    """

    path: Path
    pts: np.ndarray
    time_base: Fraction
    fps: float
    width: int
    height: int
    codec: str
    is_truncated: bool

    @property
    def seconds(self) -> np.ndarray:
        """(F,) float64 presentation times."""
        return self.pts * float(self.time_base)

    def __repr__(self) -> str:
        size = f"{self.width}x{self.height}"
        return f"VideoInfo({self.path.name}, {len(self.pts)} frames, {self.fps:.2f} fps, {size} {self.codec})"


class VideoError(DataError):
    """A video file cannot be used at all."""


def probe(path: Path) -> VideoInfo:
    """Read the presentation times of a video's frames from its packets; nothing is decoded.

    Raises:
        VideoError: the file cannot be opened, has no video that can be decoded, or no presentation times.
    """
    path = Path(path)
    with _opened(path) as (container, stream):
        packets = list(_packets(container, stream))
        # Packets before the start of an mp4's edit list are decoded but never shown.
        pts = [packet.pts for packet in packets if packet.pts is not None and not packet.is_discard]
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
            is_truncated=len(packets) < stream.frames,
        )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        # Titles and the like are of no interest, and may be in any encoding.
        with av.open(str(path), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise VideoError(f"{path}: no video stream in it.")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise VideoError(f"{path}: no decoder for its video stream.")
            yield container, stream
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: cannot be read as a video: {error.strerror or error}.") from error


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """Give the packets of a stream; where the container can be read no further is where they end."""
    # What lies behind that place is not lost in silence: its segments are reported as beyond the end.
    with contextlib.suppress(av.FFmpegError):
        yield from (packet for packet in container.demux(stream) if packet.size)


def decode(info: VideoInfo, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Decode a video in order and give (frame number, (H, W, 3) uint8 RGB) for each wanted frame.

    A frame that cannot be decoded does not come, and neither does one predicted from it, which would show damage that
    the decoder does not report; the caller counts.

    Args:
        wanted: (M,) frame numbers, ascending.

    Raises:
        VideoError: the file cannot be opened.
    """
    number = {int(info.pts[frame]): int(frame) for frame in wanted}
    if not number:
        return
    with _opened(info.path) as (container, stream):
        # With frame threads, a decoder reports damage late and takes whole frames down with it.
        stream.codec_context.thread_count = 1
        ledger = DamageLedger()
        held: deque[tuple[int, av.VideoFrame]] = deque()
        for num_shown, frame in enumerate(_frames(container, stream, ledger)):
            if frame.pts in number:
                held.append((num_shown, frame))
            # Damage may be reported for a picture that is shown after those predicted from it.
            while held and held[0][0] <= num_shown - _MAX_REORDER:
                yield from _if_sound(held.popleft()[1], number, ledger)
            if not held and frame.pts >= max(number):
                return
        ledger.finished()
        for _, frame in held:
            yield from _if_sound(frame, number, ledger)


def _if_sound(frame: av.VideoFrame, number: dict[int, int], ledger: DamageLedger) -> Iterator[tuple[int, np.ndarray]]:
    if ledger.is_sound(frame.pts):
        yield number[frame.pts], frame.to_ndarray(format="rgb24")


def _frames(container: InputContainer, stream: VideoStream, ledger: DamageLedger) -> Iterator[av.VideoFrame]:
    """Decode packet by packet, so that one that is damaged costs its own frames and not the rest."""
    for packet in _packets(container, stream):
        if packet.pts is not None:
            ledger.sent(packet.pts, is_key=packet.is_keyframe, is_shown=not packet.is_discard)
        try:
            frames = packet.decode()
        except av.FFmpegError:
            ledger.damaged(packet.pts)
            continue
        yield from _shown(frames, ledger)
    # What the decoder still holds. It reports damage once a picture; one that cannot even start reports it for ever.
    for _ in range(_MAX_REORDER + 1):
        try:
            yield from _shown(stream.codec_context.decode(None), ledger)
            return
        except av.EOFError:
            return
        except av.FFmpegError:
            continue


def _shown(frames: list[av.VideoFrame], ledger: DamageLedger) -> Iterator[av.VideoFrame]:
    for frame in frames:
        if frame.pts is not None:
            ledger.shown(frame.pts, is_corrupt=frame.is_corrupt)
            yield frame
