"""Video files: read the presentation times of their frames, and decode the wanted frames.

Knows no segment, no model and no torch: the processes that decode load nothing else. Frames are numbered from 0 in
presentation order. av is imported here, in streams.py and in through.py alone.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
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
    skipped_at_start,
)
from extract.decode.planes import BT601, BT709, MAX_PICTURE_BYTES, Colour, Planes, planes_bytes
from extract.decode.shown import NO_TIMES, TimesError, order_of, ranked
from extract.decode.streams import shown_stream, streams_text
from extract.decode.through import decoded_through, drained, may_be_damaged
from features.errors import DataError
from features.failures import FailureKind


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """What is known of a video file before its wanted frames are decoded.

    Attributes:
        stream: the number of the video stream in its file.
        pts: (F,) int64, strictly ascending: what tells the frames apart among `packets`. These are the presentation
            time stamps, or the ranks of the pictures where packets do not tell when their pictures are shown.
        seconds: (F,) float64 presentation times of its frames, strictly ascending.
        fps: average frames per second.
        colour: the colours of its planes; if the file does not say, BT.601 in limited range, as in libswscale.
        packets: in the order of decoding.
        stamps: (P,) int64, the time stamps of the packets as they stand in the file.
        is_truncated: the file holds fewer frames than its own index lists, so the end of a copy is missing.
        source: what to record of where the frames come from, in words.
    """

    path: Path
    stream: int
    pts: np.ndarray
    seconds: np.ndarray
    fps: float
    width: int
    height: int
    codec: str
    colour: Colour
    packets: Packets
    stamps: np.ndarray
    is_truncated: bool
    source: Mapping[str, str] = field(default_factory=dict)

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


# A file whose first frame is later than this was cut with its clock kept, or comes from a broadcast.
_MAX_START_S = 1.0


def probe(path: Path, *, stream: int | None = None, on_packet: Callable[[], None] = _do_nothing) -> VideoInfo:
    """Read the presentation times of a video's frames.

    They stand in the packets, and nothing is decoded, if that is proven of the stream. Otherwise the stream is decoded
    through once, and the times are those of the pictures that the decoder shows. Times are counted from the first
    frame if that is later than a second, as players do.

    Args:
        stream: the number of the stream to take; by default the one that a player shows.
        on_packet: called at each packet, as a heartbeat.

    Raises:
        VideoError: the file cannot be opened, has no such video that can be decoded, or no presentation times.
    """
    path = Path(path)
    with _opened(path, stream, on_packet) as (container, chosen):
        try:
            times = _read_times(path, container, chosen, on_packet)
        except TimesError as error:
            raise VideoError(f"{path}: {error} {_NEW_TIMES}") from error
        start_s = times.start_s if times.start_s > _MAX_START_S else 0.0
        context = chosen.codec_context
        return VideoInfo(
            path=path,
            stream=chosen.index,
            pts=times.pts,
            seconds=times.seconds - start_s,
            fps=float(chosen.average_rate or 0),
            width=context.width,
            height=context.height,
            codec=context.name,
            colour=_colour(context),
            packets=times.packets,
            stamps=times.stamps,
            is_truncated=len(times.stamps) < chosen.frames,
            source={
                "stream": streams_text(container, chosen),
                **({"counted_from_s": f"{start_s:.3f}"} if start_s else {}),
                **({"times": "those of its decoded pictures"} if times.is_decoded else {}),
            },
        )


_NEW_TIMES = "If it is whole, write it anew with times: ffmpeg -fflags +genpts -i OLD -c copy NEW.mkv."


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
def _container(path: Path) -> Iterator[InputContainer]:
    try:
        # With a protocol, or a colon in a relative path would be taken for the end of one. Titles and other metadata
        # are not read, and may be in any encoding.
        with av.open(f"file:{path}", metadata_errors="ignore") as container:
            yield container
    except (av.FFmpegError, OSError) as error:
        reason = what_it_is(path) or f"cannot be read as a video: {error.strerror or error}."
        raise VideoError(f"{path}: {reason}") from error


@contextlib.contextmanager
def _opened(
    path: Path, number: int | None, on_packet: Callable[[], None] = _do_nothing
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file with the video stream of this number, or with the one that a player shows."""
    with _container(path) as container:
        streams = {stream.index: stream for stream in container.streams.video if stream.codec_context is not None}
        if not container.streams.video:
            raise VideoError(f"{path}: no video stream in it.")
        if not streams:
            raise VideoError(f"{path}: no decoder for its video stream.")
        if number is None:
            number = next(iter(streams)) if len(streams) == 1 else _shown_stream(path, on_packet)
        if number not in streams:
            raise VideoError(f"{path}: no video stream {number} in it (--stream); it has {streams_text(container)}.")
        yield container, streams[number]


def _shown_stream(path: Path, on_packet: Callable[[], None]) -> int:
    with _container(path) as container:
        return shown_stream(container, on_packet).index


def _packets(container: InputContainer, stream: VideoStream, on_packet: Callable[[], None]) -> Iterator[av.Packet]:
    """Yield the packets of a stream up to its end, or up to where the container cannot be read any further."""
    # What follows is not lost silently: segments there are reported as beyond the end.
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux(stream):
            on_packet()
            if packet.size:
                yield packet


@dataclass(frozen=True, eq=False)
class _Times:
    """The packets and frames of a stream: `pts`, `seconds`, `packets` and `stamps` as in `VideoInfo`.

    Attributes:
        start_s: the time of the first frame.
        is_decoded: whether the stream was decoded to learn the times.
    """

    pts: np.ndarray
    seconds: np.ndarray
    packets: Packets
    stamps: np.ndarray
    start_s: float
    is_decoded: bool


_NO_STAMP = np.iinfo(np.int64).min
# An encoder that reorders pictures does so well within this many.
_ENOUGH_TO_SEE_ORDER = 300


def _stamp(packet: av.Packet) -> int:
    """Return a packet's presentation time, or else its decoding time, in units of the stream's time base."""
    pts = packet.pts if packet.pts is not None else packet.dts
    return _NO_STAMP if pts is None else pts


def _read_times(path: Path, container: InputContainer, stream: VideoStream, on_packet: Callable[[], None]) -> _Times:
    """Read the packets of a stream, and decode it through if they do not tell when its pictures are shown.

    Raises:
        TimesError: there are no times, or none that make sense.
    """
    if stream.time_base is None:
        raise VideoError(f"{path}: its video stream has no time base.")
    packets, stamps, seconds = _read_packets(container, stream, on_packet)
    # The earliest of the first packets; a time further on may be damaged.
    start_s = np.min(seconds[np.isfinite(seconds)][: MAX_REORDER + 1], initial=np.inf)
    if packets.proven and not (_seems_in_order(packets, stream) and _reorders(path, stream.index, on_packet)):
        pts = np.unique(packets.pts[packets.is_shown])
        if not len(pts):
            raise TimesError(NO_TIMES)
        return _Times(pts, pts * float(stream.time_base), packets, stamps, start_s, is_decoded=False)
    with _opened(path, stream.index) as (again, same):
        decoded = decoded_through(_packets(again, same, on_packet), same.codec_context)
    order, seconds = order_of(decoded, seconds)
    pts = np.flatnonzero(np.isfinite(seconds))  # a picture without a time is no frame
    return _Times(pts, seconds[pts], ranked(packets, order), stamps, start_s, is_decoded=True)


def _seems_in_order(packets: Packets, stream: VideoStream) -> bool:
    """Return whether no picture is reordered by the packets' times, though pictures of the stream may be.

    Old muxers and some cameras write the times of decoding as those of showing.
    """
    return stream.codec_context.has_b_frames and bool((np.diff(packets.pts) > 0).all())


def _reorders(path: Path, number: int, on_packet: Callable[[], None]) -> bool:
    """Return whether the first pictures of a stream are shown in another order than they are sent."""
    with _opened(path, number) as (container, stream):
        packets = itertools.islice(_packets(container, stream, on_packet), _ENOUGH_TO_SEE_ORDER)
        return not decoded_through(packets, stream.codec_context).is_in_order


def _read_packets(
    container: InputContainer, stream: VideoStream, on_packet: Callable[[], None]
) -> tuple[Packets, np.ndarray, np.ndarray]:
    """Return a stream's packets, their time stamps in the file, and their seconds, which are NaN where there are none.

    The time of a packet that is not shown, before the start of an edit list, does not count.
    """
    parse = packet_parser(stream.codec_context.name, stream.codec_context.extradata)
    rows, parsed = [], []
    for packet in _packets(container, stream, on_packet):
        pts, dts = packet.pts, packet.dts
        row = (_NO_STAMP if pts is None else pts, _NO_STAMP if dts is None else dts)
        rows.append((*row, packet.is_discard, packet.is_keyframe))
        if parse is not None:
            try:
                parsed.append(_parsed(parse, packet))
            except UnprovenError:
                parse = None
    pts, dts, is_discard, is_key = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    is_discard, is_key, has_pts = is_discard.astype(bool), is_key.astype(bool), pts != _NO_STAMP
    stamps, is_shown = np.where(has_pts, pts, dts), has_pts & ~is_discard
    # In an AVI file frames have numbers, but no times. FFmpeg makes up presentation times from these and from how far
    # the encoder reorders pictures, which is late by as much.
    times = dts if container.format.name == "avi" or not has_pts.any() else pts
    seconds = np.where(is_discard | (times == _NO_STAMP), np.nan, times * float(stream.time_base or 0))
    # Packets are identified by their time stamps.
    if parse is not None and len(np.unique(stamps)) == len(stamps):
        with contextlib.suppress(UnprovenError):
            is_key, is_reference = key_and_reference(parsed)
            is_shown &= ~skipped_at_start(parsed)
            return Packets(stamps, is_shown, is_key, is_reference, proven=True), stamps, seconds
    packets = Packets(stamps, is_shown, is_key, np.ones(len(stamps), dtype=bool), proven=False)
    return packets, stamps, seconds


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
        stream: the number of the video stream in its file.
        pts: (n,) int64, what tells the packets apart, as in `VideoInfo`.
        stamps: (n,) int64, the time stamps of the packets as they stand in the file.
        is_needed, is_key, is_shown: (n,) bool.
        serves_later: (n,) bool, what `packets.serves_later` returns.
        can_seek: whether decoding may begin elsewhere than at the start of the file.
        wanted: (M,) int64, ascending frame numbers.
        wanted_pts: (M,) int64, what tells these frames apart.
        full_range: whether pictures are returned in full range.
    """

    path: Path
    stream: int
    first: int
    pts: np.ndarray
    stamps: np.ndarray
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
        stream=info.stream,
        first=int(first),
        pts=packets.pts[span],
        stamps=info.stamps[span],
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

    A frame larger than MAX_PICTURE_BYTES comes scaled down, so that memory is bounded.
    Only packets that these frames need are decoded (extract/decode/packets.py). A frame that cannot be decoded is not
    yielded, and neither is a frame predicted from it, which would show damage that the decoder does not report; the
    caller has to notice what is missing.

    Raises:
        VideoError: the file cannot be opened.
    """
    with _opened(task.path, task.stream) as (container, stream):
        packets = _seek(_packets(container, stream, on_packet), container, stream, task)
        if packets is not None:
            yield from _wanted_frames(packets, stream.codec_context, task)
            return
    with _opened(task.path, task.stream) as (container, stream):
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
    for pts, frame in _sound_frames(packets, context, task, numbers):
        yield numbers[pts], frame


def planes_of(frame: av.VideoFrame, path: Path, *, full_range: bool) -> Planes:
    """Return the planes of a decoded frame of a file, upright; they are the frame's own memory where that is possible.

    Raises:
        VideoError: it is rotated by an angle that is no right angle.
    """
    if frame.format.name not in ("yuv420p", "yuvj420p"):
        frame = frame.reformat(format="yuv420p", dst_color_range=_range(full_range))
    turns, rest = divmod(frame.rotation, 90)
    if rest:
        raise VideoError(f"{path}: its pictures are rotated by {frame.rotation} degrees, which is no right angle.")
    return Planes(*(np.rot90(_pixels(plane), turns) for plane in frame.planes))


def _pixels(plane: av.video.plane.VideoPlane) -> np.ndarray:
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return lines[: plane.height, : plane.width]


def _sound_frames(
    packets: Iterator[av.Packet], context: av.VideoCodecContext, task: DecodeTask, wanted: Mapping[int, int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode packets and yield (time stamp, frame) for the wanted frames that are certainly not damaged."""
    ledger = DamageLedger()
    held: deque[tuple[int, av.VideoFrame | None]] = deque()  # an unwanted frame takes no memory
    for shown in _shown_frames(packets, context, task, ledger):
        if shown is None:  # the decoder has given everything that it had
            ledger.finished()
        else:
            pts, frame = shown
            held.append((pts, fitted(frame, full_range=task.full_range) if pts in wanted else None))
        # Damage may be reported for a picture that is shown after those predicted from it.
        while len(held) > (0 if shown is None else MAX_REORDER):
            pts, held_frame = held.popleft()
            if held_frame is not None and ledger.is_sound(pts):
                yield pts, held_frame


def fitted(frame: av.VideoFrame, *, full_range: bool) -> av.VideoFrame:
    """Return a frame, or if it is too large for a buffer, the averages of its squares of 2 x 2 pixels, or of more."""
    factor = 1
    while planes_bytes(-(-frame.height // factor), -(-frame.width // factor)) > MAX_PICTURE_BYTES:
        factor += 1
    if factor == 1:
        return frame
    return frame.reformat(
        width=-(-frame.width // factor),
        height=-(-frame.height // factor),
        format="yuv420p",
        interpolation="AREA",
        dst_color_range=_range(full_range),
    )


def _range(full_range: bool) -> str:
    return "JPEG" if full_range else "MPEG"


def _shown_frames(
    packets: Iterator[av.Packet], context: av.VideoCodecContext, task: DecodeTask, ledger: DamageLedger
) -> Iterator[tuple[int, av.VideoFrame] | None]:
    """Decode packet by packet, so that a damaged packet costs its own frames only; yield None after each drain."""
    unbroken = True  # nothing has been left out that a later packet may need
    for index, packet in zip(range(len(task.pts)), packets):  # noqa: B905 - the file goes on after the task
        if _stamp(packet) != task.stamps[index]:
            break  # the file has changed since it was probed; frames that are not read count as lost
        if not task.is_needed[index]:
            unbroken &= not task.serves_later[index]
            continue
        if not unbroken and task.is_key[index]:
            yield from _drained(context, ledger)
            context.flush_buffers()
            unbroken = True
        pts = packet.pts = int(task.pts[index])  # a decoder gives each picture that of its packet
        ledger.sent(pts, is_key=bool(task.is_key[index]), is_shown=bool(task.is_shown[index]))
        try:
            frames = packet.decode()
        except av.FFmpegError:
            if may_be_damaged(packet, context):
                ledger.damaged(pts)
            continue
        yield from _noted(frames, ledger)
    yield from _drained(context, ledger)


def _drained(context: av.VideoCodecContext, ledger: DamageLedger) -> Iterator[tuple[int, av.VideoFrame] | None]:
    """Yield the frames that the decoder still holds, and None."""
    yield from _noted(drained(context), ledger)
    yield None


def _noted(frames: Iterable[av.VideoFrame], ledger: DamageLedger) -> Iterator[tuple[int, av.VideoFrame]]:
    """Note frames that came back from the decoder, and yield those that have a time stamp."""
    for frame in frames:
        if frame.pts is not None and ledger.shown(frame.pts, is_corrupt=frame.is_corrupt):
            yield frame.pts, frame
