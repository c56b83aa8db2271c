"""Decodes the wanted frames of a video file.

Knows no segment, no model and no torch: the processes that decode load nothing else.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from extract.decode.container import VideoError, do_nothing, opened, packets_in, stamp_of
from extract.decode.damage import DamageLedger
from extract.decode.packets import MAX_REORDER, needed_packets, serves_later
from extract.decode.planes import MAX_PICTURE_BYTES, Planes, planes_bytes
from extract.decode.probing import VideoInfo
from extract.decode.through import drained, may_be_damaged


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


def decode(task: DecodeTask, *, on_packet: Callable[[], None] = do_nothing) -> Iterator[tuple[int, Planes]]:
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
    task: DecodeTask, *, on_packet: Callable[[], None] = do_nothing
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode in order and yield (frame number, frame as the codec has it) for each wanted frame.

    A frame larger than MAX_PICTURE_BYTES comes scaled down, so that memory is bounded.
    Only packets that these frames need are decoded (extract/decode/packets.py). A frame that cannot be decoded is not
    yielded, and neither is a frame predicted from it, which would show damage that the decoder does not report; the
    caller has to notice what is missing.

    Raises:
        VideoError: the file cannot be opened.
    """
    with opened(task.path, task.stream) as (container, stream):
        packets = _seek(packets_in(container, stream, on_packet), container, stream, task)
        if packets is not None:
            yield from _wanted_frames(packets, stream.codec_context, task)
            return
    with opened(task.path, task.stream) as (container, stream):
        packets = itertools.islice(packets_in(container, stream, on_packet), task.first, None)
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
        if stamp_of(packet) != task.stamps[index]:
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
