"""Video files: their frames' presentation times, and the wanted frames decoded. The only importer of av.

Knows no segment, no model and no torch: the processes that decode load nothing else. Frames are numbered from 0 in
presentation order.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from extract.decode.damage import DamageLedger
from extract.decode.packets import MAX_REORDER, Packet, Packets, UnprovenError, joined, needed, reader, serves_later
from extract.decode.planes import BT601, BT709, Colour, Planes
from features.errors import DataError


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """What a video file says of itself, read without decoding.

    Attributes:
        pts: (F,) int64 presentation time stamps of its frames, strictly ascending.
        time_base: seconds of one unit of pts.
        fps: average frames a second.
        colour: what its planes mean; BT.601 in limited range where it says nothing, as libswscale takes it.
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
    colour: Colour
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


def _no_news() -> None:
    pass


def probe(path: Path, *, on_packet: Callable[[], None] = _no_news) -> VideoInfo:
    """Read the presentation times of a video's frames from its packets; nothing is decoded.

    Args:
        on_packet: called at each packet: a sign of life.

    Raises:
        VideoError: the file cannot be opened, has no video that can be decoded, or no presentation times.
    """
    path = Path(path)
    with _opened(path) as (container, stream):
        packets = _read_packets(container, stream, on_packet)
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
            colour=_colour(context),
            packets=packets,
            is_truncated=len(packets.pts) < stream.frames,
        )


# ITU-T H.273, table 4, by FFmpeg's AVColorSpace.
_MATRICES = {
    1: BT709,
    4: Colour(kr=0.30, kb=0.11, full_range=False),  # FCC
    5: BT601,
    6: BT601,
    7: Colour(kr=0.212, kb=0.087, full_range=False),  # SMPTE 240M
    9: Colour(kr=0.2627, kb=0.0593, full_range=False),  # BT.2020
}
_FULL_RANGE = 2  # AVColorRange


def _colour(context: av.VideoCodecContext) -> Colour:
    # A tag that is not in the table is taken for none: RGB becomes BT.601 when it is made planes of.
    matrix = _MATRICES.get(int(context.colorspace), BT601)
    is_full = int(context.color_range) == _FULL_RANGE or str(context.pix_fmt).startswith("yuvj")
    return replace(matrix, full_range=is_full)


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


def _packets(container: InputContainer, stream: VideoStream, on_packet: Callable[[], None]) -> Iterator[av.Packet]:
    """Give the packets of a stream; where the container can be read no further is where they end."""
    # What lies behind that place is not lost in silence: its segments are reported as beyond the end.
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux(stream):
            on_packet()
            if packet.size:
                yield packet


_NO_PTS = np.iinfo(np.int64).min


def _read_packets(container: InputContainer, stream: VideoStream, on_packet: Callable[[], None]) -> Packets:
    read = reader(stream.codec_context.name, stream.codec_context.extradata)
    rows, found = [], []
    for packet in _packets(container, stream, on_packet):
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


# ---- decoding


@dataclass(frozen=True, eq=False)
class Reading:
    """Which packets of a file to decode for which of its frames: all that another process needs to know.

    Attributes:
        first: the place of the first of n packets, in the order of decoding.
        pts: (n,) int64, their presentation time stamps.
        is_needed, is_key, is_shown: (n,) bool.
        serves_later: (n,) bool, as `packets.serves_later` gives it.
        can_seek: whether decoding may begin elsewhere than at the start of the file.
        wanted: (M,) int64, ascending frame numbers.
        wanted_pts: (M,) int64, their time stamps.
        full_range: the range that pictures are given in.
    """

    path: Path
    first: int
    pts: np.ndarray
    is_needed: np.ndarray
    is_key: np.ndarray
    is_shown: np.ndarray
    serves_later: np.ndarray
    can_seek: bool
    wanted: np.ndarray
    wanted_pts: np.ndarray
    full_range: bool

    def __repr__(self) -> str:
        return f"Reading({self.path.name}, {len(self.wanted)} frames from {self.is_needed.sum()} packets)"


def reading(info: VideoInfo, wanted: np.ndarray) -> Reading:
    """Give what must be read of a video for at least one frame number, ascending."""
    packets = info.packets
    mask = needed(packets, info.pts[wanted])
    first, last = np.flatnonzero(mask)[[0, -1]]
    here = slice(first, last + 1)
    return Reading(
        path=info.path,
        first=int(first),
        pts=packets.pts[here],
        is_needed=mask[here],
        is_key=packets.is_key[here],
        is_shown=packets.is_shown[here],
        serves_later=serves_later(packets)[here],
        can_seek=packets.proven and bool(packets.is_key[first]),
        wanted=np.asarray(wanted, dtype=np.int64),
        wanted_pts=info.pts[wanted],
        full_range=info.colour.full_range,
    )


def decode(what: Reading, *, on_packet: Callable[[], None] = _no_news) -> Iterator[tuple[int, Planes]]:
    """Decode in order and give (frame number, picture) for each wanted frame.

    A picture's planes are the decoder's own memory: good until the next one is asked for.

    Args:
        on_packet: called at each packet: a sign of life.

    Raises:
        VideoError: as for `decode_frames`, or its pictures are to be turned by no right angle.
    """
    for number, frame in decode_frames(what, on_packet=on_packet):
        yield number, _planes(frame, what)


def decode_frames(what: Reading, *, on_packet: Callable[[], None] = _no_news) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode in order and give (frame number, frame as the codec has it) for each wanted frame.

    Only what must be decoded for them is (extract/decode/packets.py). A frame that cannot be decoded does not come, and
    neither does one predicted from it, which would show damage that the decoder does not report; the caller counts.

    Raises:
        VideoError: the file cannot be opened.
    """
    with _opened(what.path) as (container, stream):
        packets = _sought(_packets(container, stream, on_packet), container, stream, what)
        if packets is not None:
            yield from _wanted(packets, stream.codec_context, what)
            return
    with _opened(what.path) as (container, stream):
        packets = itertools.islice(_packets(container, stream, on_packet), what.first, None)
        yield from _wanted(packets, stream.codec_context, what)


# Reading on costs some microseconds a packet, and a seek some milliseconds in a large file.
_WORTH_SEEKING = 1000  # packets


def _sought(
    packets: Iterator[av.Packet], container: InputContainer, stream: VideoStream, what: Reading
) -> Iterator[av.Packet] | None:
    """Give the packets from the first of a reading on, found by the container's index.

    None where that is not worth it, or fails: not every file has an index.
    """
    if not what.can_seek or what.first < _WORTH_SEEKING:
        return None
    start = int(what.pts[0])
    try:
        container.seek(start, stream=stream)
    except av.FFmpegError:
        return None
    for packet in packets:
        if packet.pts == start:
            return itertools.chain([packet], packets)
        # Whatever is sent before a key packet is shown before it.
        if packet.pts is None or packet.pts > start:
            break
    return None


def _wanted(packets: Iterator[av.Packet], context: av.VideoCodecContext, what: Reading) -> Iterator[tuple[int, Planes]]:
    # With frame threads, a decoder reports damage late and takes whole frames down with it; one thread a process and
    # many processes also decode more frames in all.
    context.thread_count = 1
    number = dict(zip(what.wanted_pts.tolist(), what.wanted.tolist(), strict=True))
    for frame in _sound_frames(packets, context, what):
        if frame.pts in number:
            yield number[frame.pts], frame


def _planes(frame: av.VideoFrame, what: Reading) -> Planes:
    if frame.format.name not in ("yuv420p", "yuvj420p"):
        frame = frame.reformat(format="yuv420p", dst_color_range="JPEG" if what.full_range else "MPEG")
    turns, rest = divmod(frame.rotation, 90)
    if rest:
        raise VideoError(f"{what.path}: its pictures are to be turned by {frame.rotation} degrees, no right angle.")
    return Planes(*(np.rot90(_pixels(plane), turns) for plane in frame.planes))


def _pixels(plane: av.video.plane.VideoPlane) -> np.ndarray:
    lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return lines[: plane.height, : plane.width]


def _sound_frames(
    packets: Iterator[av.Packet], context: av.VideoCodecContext, what: Reading
) -> Iterator[av.VideoFrame]:
    """Decode packets; give the frames that are shown, less those that are or may be damaged."""
    ledger = DamageLedger()
    held: deque[av.VideoFrame] = deque()
    for frame in _frames(packets, context, what, ledger):
        if frame is None:  # the decoder has given all that it had
            ledger.finished()
        else:
            held.append(frame)
        # Damage may be reported for a picture that is shown after those predicted from it.
        while len(held) > (0 if frame is None else MAX_REORDER):
            first = held.popleft()
            if ledger.is_sound(first.pts):
                yield first


def _frames(
    packets: Iterator[av.Packet], context: av.VideoCodecContext, what: Reading, ledger: DamageLedger
) -> Iterator[av.VideoFrame | None]:
    """Decode packet by packet, so that one that is damaged costs its own frames alone; None after a drain."""
    unbroken = True  # nothing has been left out that a later packet may need
    for index, packet in zip(range(len(what.pts)), packets):  # noqa: B905 - the file goes on after the reading
        if packet.pts is not None and packet.pts != what.pts[index]:
            break  # the file has changed since it was probed; what is not read counts as lost
        if not what.is_needed[index]:
            unbroken &= not what.serves_later[index]
            continue
        if not unbroken and what.is_key[index]:
            yield from _drained(context, ledger)
            context.flush_buffers()
            unbroken = True
        if packet.pts is not None:
            ledger.sent(packet.pts, is_key=bool(what.is_key[index]), is_shown=bool(what.is_shown[index]))
        try:
            frames = packet.decode()
        except av.FFmpegError:
            ledger.damaged(packet.pts)
            continue
        yield from _shown(frames, ledger)
    yield from _drained(context, ledger)


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
