"""Reads what is known of a video file before its wanted frames are decoded: the times of its frames, its packets.

Frames are numbered from 0 in presentation order.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from extract.decode.container import NO_STAMP, VideoError, do_nothing, opened, packets_in
from extract.decode.packets import (
    MAX_REORDER,
    Packet,
    Packets,
    UnprovenError,
    key_and_reference,
    packet_parser,
    skipped_at_start,
)
from extract.decode.planes import BT601, BT709, Colour
from extract.decode.shown import NO_TIMES, TimesError, order_of, ranked
from extract.decode.streams import streams_text
from extract.decode.through import decoded_through
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


# A file whose first frame is later than this was cut with its clock kept, or comes from a broadcast.
_MAX_START_S = 1.0


def probe(path: Path, *, stream: int | None = None, on_packet: Callable[[], None] = do_nothing) -> VideoInfo:
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
    with opened(path, stream, on_packet) as (container, chosen):
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


# An encoder that reorders pictures does so well within this many.
_ENOUGH_TO_SEE_ORDER = 300


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
    with opened(path, stream.index) as (again, same):
        decoded = decoded_through(packets_in(again, same, on_packet), same.codec_context)
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
    with opened(path, number) as (container, stream):
        packets = itertools.islice(packets_in(container, stream, on_packet), _ENOUGH_TO_SEE_ORDER)
        return not decoded_through(packets, stream.codec_context).is_in_order


def _read_packets(
    container: InputContainer, stream: VideoStream, on_packet: Callable[[], None]
) -> tuple[Packets, np.ndarray, np.ndarray]:
    """Return a stream's packets, their time stamps in the file, and their seconds, which are NaN where there are none.

    The time of a packet that is not shown, before the start of an edit list, does not count.
    """
    parse = packet_parser(stream.codec_context.name, stream.codec_context.extradata)
    rows, parsed = [], []
    for packet in packets_in(container, stream, on_packet):
        pts, dts = packet.pts, packet.dts
        row = (NO_STAMP if pts is None else pts, NO_STAMP if dts is None else dts)
        rows.append((*row, packet.is_discard, packet.is_keyframe))
        if parse is not None:
            try:
                parsed.append(_parsed(parse, packet))
            except UnprovenError:
                parse = None
    pts, dts, is_discard, is_key = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    is_discard, is_key, has_pts = is_discard.astype(bool), is_key.astype(bool), pts != NO_STAMP
    stamps, is_shown = np.where(has_pts, pts, dts), has_pts & ~is_discard
    # In an AVI file frames have numbers, but no times. FFmpeg makes up presentation times from these and from how far
    # the encoder reorders pictures, which is late by as much.
    times = dts if container.format.name == "avi" or not has_pts.any() else pts
    seconds = np.where(is_discard | (times == NO_STAMP), np.nan, times * float(stream.time_base or 0))
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
