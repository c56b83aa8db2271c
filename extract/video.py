"""Video files: their frames' presentation times, and the wanted frames decoded. The only importer of av.

Knows no segment and no model. Frames are numbered from 0 in presentation order.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from extract.damage import DamageLedger
from extract.packets import MAX_REORDER, Packet, Packets, UnprovenError, joined, needed, reader, serves_later
from features.errors import DataError


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """What a video file says of itself, read without decoding.

    Attributes:
        pts: (F,) int64 presentation time stamps of its frames, strictly ascending.
        time_base: seconds of one unit of pts.
        fps: average frames a second.
        packets: in the order of decoding.
        is_truncated: the file holds fewer frames than its own index lists; the end of a copy is missing.
    """

    path: Path
    pts: np.ndarray
    time_base: Fraction
    fps: float
    width: int
    height: int
    codec: str
    packets: Packets
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
        packets = _read_packets(container, stream)
        # Packets before the start of an mp4's edit list are decoded but never shown.
        pts = packets.pts[packets.is_shown]
        if not len(pts):
            raise VideoError(f"{path}: no frames with a presentation time in it; is it truncated?")
        context = stream.codec_context
        return VideoInfo(
            path=path,
            pts=np.unique(pts),
            time_base=stream.time_base,
            fps=float(stream.average_rate or 0),
            width=context.width,
            height=context.height,
            codec=context.name,
            packets=packets,
            is_truncated=len(packets.pts) < stream.frames,
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


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
    """Give the packets of a stream; where the container can be read no further is where they end."""
    # What lies behind that place is not lost in silence: its segments are reported as beyond the end.
    with contextlib.suppress(av.FFmpegError):
        yield from (packet for packet in container.demux(stream) if packet.size)


_NO_PTS = np.iinfo(np.int64).min


def _read_packets(container: InputContainer, stream: VideoStream) -> Packets:
    read = reader(stream.codec_context.name, stream.codec_context.extradata)
    rows, found = [], []
    for packet in _packets(container, stream):
        has_pts = packet.pts is not None
        rows.append((packet.pts if has_pts else _NO_PTS, has_pts and not packet.is_discard, packet.is_keyframe))
        if read is not None:
            try:
                found.append(_facts(read, packet))
            except UnprovenError:
                read = None
    pts, is_shown, is_key = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    is_shown, is_key = is_shown.astype(bool), is_key.astype(bool)
    # Packets are told apart by their time stamps.
    if read is not None and len(np.unique(pts)) == len(pts):
        with contextlib.suppress(UnprovenError):
            is_key, is_reference = joined(found)
            return Packets(pts, is_shown, is_key, is_reference, proven=True)
    return Packets(pts, is_shown, is_key, np.ones(len(pts), dtype=bool), proven=False)


def _facts(read: Callable[[memoryview], Packet], packet: av.Packet) -> Packet:
    if packet.pts is None:
        raise UnprovenError("a packet without a time stamp")
    return read(memoryview(packet))


def decode(info: VideoInfo, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Decode in order and give (frame number, (H, W, 3) uint8 RGB) for each wanted frame.

    Only what must be decoded for them is (extract/packets.py). A frame that cannot be decoded does not come, and
    neither does one predicted from it, which would show damage that the decoder does not report; the caller counts.

    Args:
        wanted: (M,) frame numbers, ascending.

    Raises:
        VideoError: the file cannot be opened.
    """
    number = {int(info.pts[frame]): int(frame) for frame in wanted}
    if not number:
        return
    mask = needed(info.packets, info.pts[wanted])
    with _opened(info.path) as (container, stream):
        # With frame threads, a decoder reports damage late and takes whole frames down with it; one thread a process
        # and many processes also decode more frames in all.
        stream.codec_context.thread_count = 1
        for pts, frame in _sound_frames(container, stream, info, mask):
            if pts in number:
                yield number[pts], frame.to_ndarray(format="rgb24")


def _sound_frames(
    container: InputContainer, stream: VideoStream, info: VideoInfo, mask: np.ndarray
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode the packets of a mask; give (pts, frame) of those shown, less those that are or may be damaged."""
    ledger = DamageLedger()
    held: deque[av.VideoFrame] = deque()
    for frame in _frames(container, stream, info.packets, mask, ledger):
        if frame is None:  # the decoder has given all that it had
            ledger.finished()
        else:
            held.append(frame)
        # Damage may be reported for a picture that is shown after those predicted from it.
        while len(held) > (0 if frame is None else MAX_REORDER):
            first = held.popleft()
            if ledger.is_sound(first.pts):
                yield first.pts, first


def _frames(
    container: InputContainer,
    stream: VideoStream,
    packets: Packets,
    mask: np.ndarray,
    ledger: DamageLedger,
) -> Iterator[av.VideoFrame | None]:
    """Decode packet by packet, so that one that is damaged costs its own frames alone; None after a drain."""
    context = stream.codec_context
    serves = serves_later(packets)
    unbroken = True  # nothing has been left out that a later packet may need
    for index, packet in _numbered(container, stream, mask):
        if not mask[index]:
            unbroken &= not serves[index]
            continue
        if not unbroken and packets.is_key[index]:
            yield from _drained(context, ledger)
            context.flush_buffers()
            unbroken = True
        if packet.pts is not None:
            ledger.sent(packet.pts, is_key=bool(packets.is_key[index]), is_shown=bool(packets.is_shown[index]))
        try:
            frames = packet.decode()
        except av.FFmpegError:
            ledger.damaged(packet.pts)
            continue
        yield from _shown(frames, ledger)
    yield from _drained(context, ledger)


def _numbered(container: InputContainer, stream: VideoStream, mask: np.ndarray) -> Iterator[tuple[int, av.Packet]]:
    """Give (place in the order of decoding, packet) from the first that a mask has to the last."""
    first, last = np.flatnonzero(mask)[[0, -1]]
    # Reading on to the first costs microseconds a packet, and unlike seeking needs no index in the file.
    return itertools.islice(enumerate(_packets(container, stream)), first, last + 1)


def _drained(context: av.VideoCodecContext, ledger: DamageLedger) -> Iterator[av.VideoFrame | None]:
    """Give what the decoder still holds, and None."""
    # It reports damage once a picture; one that cannot even start reports it for ever.
    for _ in range(MAX_REORDER + 1):
        try:
            yield from _shown(context.decode(None), ledger)
            break
        except av.EOFError:
            break
        except av.FFmpegError:
            continue
    yield None


def _shown(frames: list[av.VideoFrame], ledger: DamageLedger) -> Iterator[av.VideoFrame]:
    for frame in frames:
        if frame.pts is not None:
            ledger.shown(frame.pts, is_corrupt=frame.is_corrupt)
            yield frame
