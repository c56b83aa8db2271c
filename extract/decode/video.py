"""Video files: read the presentation times of their frames, and decode the wanted frames. The only importer of av.

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
from extract.decode.no_video import what_it_is
from extract.decode.packets import (
    MAX_REORDER,
    Packet,
    Packets,
    UnprovenError,
    key_and_reference,
    needed_packets,
    packet_parser,
    serves_later,
)
from extract.decode.planes import BT601, BT709, Colour, Planes
from features.errors import DataError
from features.failures import FailureKind


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """What is known of a video file without decoding it.

    Attributes:
        pts: (F,) int64 presentation time stamps of its frames, strictly ascending.
        time_base: seconds per unit of pts.
        fps: average frames per second.
        colour: the colours of its planes; if the file does not say, BT.601 in limited range, as in libswscale.
        packets: in the order of decoding.
        is_truncated: the file holds fewer frames than its own index lists, so the end of a copy is missing.
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

    @property
    def remark(self) -> str:
        """What a message about frames that are missing says about the file."""
        return " (the file is truncated: its index lists more frames)" if self.is_truncated else ""

    def why_lost(self, frame: int) -> tuple[FailureKind, str]:
        """Return the kind of failure and the reason why decoding has not given a frame."""
        return FailureKind.UNDECODABLE, f"frame {frame} at {self.seconds[frame]:.2f} s cannot be decoded"

    def __repr__(self) -> str:
        size = f"{self.width}x{self.height}"
        return f"VideoInfo({self.path.name}, {len(self.pts)} frames, {self.fps:.2f} fps, {size} {self.codec})"


class VideoError(DataError):
    """A video file cannot be used at all."""


def _do_nothing() -> None:
    pass


def probe(path: Path, *, on_packet: Callable[[], None] = _do_nothing) -> VideoInfo:
    """Read the presentation times of a video's frames from its packets; nothing is decoded.

    Args:
        on_packet: called at each packet, as a heartbeat.

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
        if stream.time_base is None:
            raise VideoError(f"{path}: its video stream has no time base.")
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
    # A tag that is not in the table counts as no tag: RGB becomes BT.601 when it is converted to planes.
    matrix = _MATRICES.get(int(context.colorspace), BT601)
    is_full = int(context.color_range) == _FULL_RANGE or str(context.pix_fmt).startswith("yuvj")
    return replace(matrix, full_range=is_full)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        # With a protocol, or a colon in a relative path would be taken for the end of one. Titles and other metadata
        # are not read, and may be in any encoding.
        with av.open(f"file:{path}", metadata_errors="ignore") as container:
            if not container.streams.video:
                raise VideoError(f"{path}: no video stream in it.")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise VideoError(f"{path}: no decoder for its video stream.")
            yield container, stream
    except (av.FFmpegError, OSError) as error:
        reason = what_it_is(path) or f"cannot be read as a video: {error.strerror or error}."
        raise VideoError(f"{path}: {reason}") from error


def _packets(container: InputContainer, stream: VideoStream, on_packet: Callable[[], None]) -> Iterator[av.Packet]:
    """Yield the packets of a stream up to its end, or up to where the container cannot be read any further."""
    # What follows is not lost silently: segments there are reported as beyond the end.
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux(stream):
            on_packet()
            if packet.size:
                yield packet


_NO_PTS = np.iinfo(np.int64).min


def _read_packets(container: InputContainer, stream: VideoStream, on_packet: Callable[[], None]) -> Packets:
    parse = packet_parser(stream.codec_context.name, stream.codec_context.extradata)
    rows, parsed = [], []
    for packet in _packets(container, stream, on_packet):
        has_pts = packet.pts is not None
        rows.append((packet.pts if has_pts else _NO_PTS, has_pts and not packet.is_discard, packet.is_keyframe))
        if parse is not None:
            try:
                parsed.append(_parsed(parse, packet))
            except UnprovenError:
                parse = None
    pts, is_shown, is_key = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    is_shown, is_key = is_shown.astype(bool), is_key.astype(bool)
    # Packets are identified by their time stamps.
    if parse is not None and len(np.unique(pts)) == len(pts):
        with contextlib.suppress(UnprovenError):
            is_key, is_reference = key_and_reference(parsed)
            return Packets(pts, is_shown, is_key, is_reference, proven=True)
    return Packets(pts, is_shown, is_key, np.ones(len(pts), dtype=bool), proven=False)


def _parsed(parse: Callable[[memoryview], Packet], packet: av.Packet) -> Packet:
    if packet.pts is None:
        raise UnprovenError("a packet without a time stamp")
    return parse(memoryview(packet))


# ---- decoding


@dataclass(frozen=True, eq=False)
class DecodeTask:
    """Which packets of a file to decode for which of its frames: everything that another process needs to know.

    Attributes:
        first: the index of the first of n packets, in the order of decoding.
        pts: (n,) int64, the presentation time stamps of the packets.
        is_needed, is_key, is_shown: (n,) bool.
        serves_later: (n,) bool, what `packets.serves_later` returns.
        can_seek: whether decoding may begin elsewhere than at the start of the file.
        wanted: (M,) int64, ascending frame numbers.
        wanted_pts: (M,) int64, the time stamps of these frames.
        full_range: whether pictures are returned in full range.
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
        return f"DecodeTask({self.path.name}, {len(self.wanted)} frames from {self.is_needed.sum()} packets)"


def decode_task(info: VideoInfo, wanted: np.ndarray) -> DecodeTask:
    """Return the task of decoding these frames of a video: (M,) ascending numbers, at least one."""
    packets = info.packets
    mask = needed_packets(packets, info.pts[wanted])
    first, last = np.flatnonzero(mask)[[0, -1]]
    span = slice(first, last + 1)
    return DecodeTask(
        path=info.path,
        first=int(first),
        pts=packets.pts[span],
        is_needed=mask[span],
        is_key=packets.is_key[span],
        is_shown=packets.is_shown[span],
        serves_later=serves_later(packets)[span],
        can_seek=packets.proven and bool(packets.is_key[first]),
        wanted=np.asarray(wanted, dtype=np.int64),
        wanted_pts=info.pts[wanted],
        full_range=info.colour.full_range,
    )


def decode(task: DecodeTask, *, on_packet: Callable[[], None] = _do_nothing) -> Iterator[tuple[int, Planes]]:
    """Decode in order and yield (frame number, picture) for each wanted frame.

    The planes of a picture are the decoder's own memory: they are valid until the next picture is requested.

    Args:
        on_packet: called at each packet, as a heartbeat.

    Raises:
        VideoError: as for `decode_frames`, or its pictures are rotated by an angle that is no right angle.
    """
    for number, frame in decode_frames(task, on_packet=on_packet):
        yield number, planes_of(frame, task.path, full_range=task.full_range)


def decode_frames(
    task: DecodeTask, *, on_packet: Callable[[], None] = _do_nothing
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode in order and yield (frame number, frame as the codec has it) for each wanted frame.

    Only packets that these frames need are decoded (extract/decode/packets.py). A frame that cannot be decoded is not
    yielded, and neither is a frame predicted from it, which would show damage that the decoder does not report; the
    caller has to notice what is missing.

    Raises:
        VideoError: the file cannot be opened.
    """
    with _opened(task.path) as (container, stream):
        packets = _seek(_packets(container, stream, on_packet), container, stream, task)
        if packets is not None:
            yield from _wanted_frames(packets, stream.codec_context, task)
            return
    with _opened(task.path) as (container, stream):
        packets = itertools.islice(_packets(container, stream, on_packet), task.first, None)
        yield from _wanted_frames(packets, stream.codec_context, task)


# Reading a packet takes some microseconds, and a seek in a large file some milliseconds.
_WORTH_SEEKING = 1000  # packets


def _seek(
    packets: Iterator[av.Packet], container: InputContainer, stream: VideoStream, task: DecodeTask
) -> Iterator[av.Packet] | None:
    """Return the packets from the first of a task on, found with the container's index.

    None if seeking is not worth the time, or fails: not every file has an index.
    """
    if not task.can_seek or task.first < _WORTH_SEEKING:
        return None
    start = int(task.pts[0])
    try:
        container.seek(start, stream=stream)
    except av.FFmpegError:
        return None
    for packet in packets:
        if packet.pts == start:
            return itertools.chain([packet], packets)
        # All packets that precede a key packet in the file are shown before it.
        if packet.pts is None or packet.pts > start:
            break
    return None


def _wanted_frames(
    packets: Iterator[av.Packet], context: av.VideoCodecContext, task: DecodeTask
) -> Iterator[tuple[int, av.VideoFrame]]:
    # With frame threads, a decoder reports damage late and takes whole frames down with it; one thread per process and
    # many processes also decode more frames in all.
    context.thread_count = 1
    numbers = dict(zip(task.wanted_pts.tolist(), task.wanted.tolist(), strict=True))
    for pts, frame in _sound_frames(packets, context, task):
        if pts in numbers:
            yield numbers[pts], frame


def planes_of(frame: av.VideoFrame, path: Path, *, full_range: bool) -> Planes:
    """Return the planes of a decoded frame of a file, upright; they are the frame's own memory where that is possible.

    Raises:
        VideoError: it is rotated by an angle that is no right angle.
    """
    if frame.format.name not in ("yuv420p", "yuvj420p"):
        frame = frame.reformat(format="yuv420p", dst_color_range="JPEG" if full_range else "MPEG")
    turns, rest = divmod(frame.rotation, 90)
    if rest:
        raise VideoError(f"{path}: its pictures are rotated by {frame.rotation} degrees, which is no right angle.")
    return Planes(*(np.rot90(_pixels(plane), turns) for plane in frame.planes))


def _pixels(plane: av.video.plane.VideoPlane) -> np.ndarray:
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return lines[: plane.height, : plane.width]


def _sound_frames(
    packets: Iterator[av.Packet], context: av.VideoCodecContext, task: DecodeTask
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode packets and yield (time stamp, frame) for the frames that are shown and certainly not damaged."""
    ledger = DamageLedger()
    held: deque[tuple[int, av.VideoFrame]] = deque()
    for shown in _shown_frames(packets, context, task, ledger):
        if shown is None:  # the decoder has given everything that it had
            ledger.finished()
        else:
            held.append(shown)
        # Damage may be reported for a picture that is shown after those predicted from it.
        while len(held) > (0 if shown is None else MAX_REORDER):
            pts, frame = held.popleft()
            if ledger.is_sound(pts):
                yield pts, frame


def _shown_frames(
    packets: Iterator[av.Packet], context: av.VideoCodecContext, task: DecodeTask, ledger: DamageLedger
) -> Iterator[tuple[int, av.VideoFrame] | None]:
    """Decode packet by packet, so that a damaged packet costs its own frames only; yield None after each drain."""
    unbroken = True  # nothing has been left out that a later packet may need
    for index, packet in zip(range(len(task.pts)), packets):  # noqa: B905 - the file goes on after the task
        if packet.pts is not None and packet.pts != task.pts[index]:
            break  # the file has changed since it was probed; frames that are not read count as lost
        if not task.is_needed[index]:
            unbroken &= not task.serves_later[index]
            continue
        if not unbroken and task.is_key[index]:
            yield from _drained(context, ledger)
            context.flush_buffers()
            unbroken = True
        if packet.pts is not None:
            ledger.sent(packet.pts, is_key=bool(task.is_key[index]), is_shown=bool(task.is_shown[index]))
        try:
            frames = packet.decode()
        except av.FFmpegError:
            if packet.pts is not None:
                ledger.damaged(packet.pts)
            continue
        yield from _noted(frames, ledger)
    yield from _drained(context, ledger)


def _drained(context: av.VideoCodecContext, ledger: DamageLedger) -> Iterator[tuple[int, av.VideoFrame] | None]:
    """Yield the frames that the decoder still holds, and None."""
    # It reports damage once per picture; a decoder that cannot even start reports it forever.
    for _ in range(MAX_REORDER + 1):
        try:
            yield from _noted(context.decode(None), ledger)
            break
        except av.EOFError:
            break
        except av.FFmpegError:
            continue
    yield None


def _noted(frames: list[av.VideoFrame], ledger: DamageLedger) -> Iterator[tuple[int, av.VideoFrame]]:
    """Note frames that came back from the decoder, and yield those that have a time stamp."""
    for frame in frames:
        if frame.pts is not None:
            ledger.shown(frame.pts, is_corrupt=frame.is_corrupt)
            yield frame.pts, frame
