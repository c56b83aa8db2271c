"""Videos as odd muxers, encoders and cameras write them, made from plain ones by changing packets on the way.

Each function copies a video. Imports none of the packages, so that it can disagree with them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from encode import planes_of


@dataclass(frozen=True)
class Sent:
    """A packet: its bytes and its times in units of its stream's time base."""

    data: bytes
    pts: int | None
    dts: int | None
    is_key: bool
    time_base: Fraction


def packets_of(path: Path) -> list[Sent]:
    """Return the packets of a video, in the order of decoding."""
    with av.open(str(path)) as source:
        return [
            Sent(bytes(packet), packet.pts, packet.dts, packet.is_keyframe, packet.time_base)
            for packet in source.demux(video=0)
            if packet.size
        ]


def rewritten(
    path: Path,
    out: Path,
    change: Callable[[list[Sent]], Sequence[Sent]],
    *,
    extradata: Callable[[bytes], bytes] = bytes,
    options: dict[str, str] | None = None,
) -> Path:
    """Copy a video with other packets, and with another header of the codec."""
    with av.open(str(path)) as source, av.open(str(out), "w", options=options or {}) as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        if stream.codec_context.extradata:
            copy.codec_context.extradata = extradata(stream.codec_context.extradata)
        for sent in change(packets_of(path)):
            packet = av.Packet(sent.data)
            packet.pts, packet.dts, packet.time_base = sent.pts, sent.dts, stream.time_base
            packet.is_keyframe, packet.stream = sent.is_key, copy
            target.mux(packet)
    return out


def joined(paths: Sequence[Path], out: Path, *, marked: int | None = None) -> Path:
    """Put the videos of several files into one file, a stream each; mark one of them as the default."""
    with av.open(str(out), "w") as target:
        sources = [av.open(str(path)) for path in paths]
        packets = []
        for number, source in enumerate(sources):
            stream = source.streams.video[0]
            copy = target.add_stream_from_template(stream)
            copy.disposition = Disposition.default if number == marked else Disposition(0)
            packets += [(packet.dts * packet.time_base, packet, copy) for packet in source.demux(stream) if packet.size]
        for _, packet, copy in sorted(packets, key=lambda row: row[0]):
            packet.stream = copy
            target.mux(packet)
        for source in sources:
            source.close()
    return out


def one_after_the_other(paths: Sequence[Path], out: Path) -> Path:
    """Write the packets of several files into one stream, in turn."""
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(av.open(str(path))) for path in paths]
        target = stack.enter_context(av.open(str(out), "w"))
        copy = target.add_stream_from_template(sources[0].streams.video[0])
        start = Fraction(0)
        for source in sources:
            packets = [packet for packet in source.demux(video=0) if packet.size]
            shift = int(start / packets[0].time_base)
            start += max(packet.pts + packet.duration for packet in packets) * packets[0].time_base
            for packet in packets:
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, copy
                target.mux(packet)
    return out


def pictures_shown(path: Path, stream: int = 0) -> list[list[np.ndarray]]:
    """Return the planes of every picture that FFmpeg shows of a stream, passing over packets that it refuses."""
    with av.open(str(path)) as container:
        context = container.streams[stream].codec_context
        frames = []
        for packet in container.demux(stream):
            with contextlib.suppress(av.InvalidDataError):
                frames += context.decode(packet if packet.size else None)
        return [planes_of(frame) for frame in frames]


# ---- changes of packets


def every(step: int, data: Callable[[bytes], bytes]) -> Callable[[list[Sent]], list[Sent]]:
    """Change the bytes of every so many packets that are no key packets."""
    return lambda packets: [
        replace(sent, data=data(sent.data)) if number % step == step // 2 and not sent.is_key else sent
        for number, sent in enumerate(packets)
    ]


def hidden_vp8(data: bytes) -> bytes:
    """Clear show_frame in a VP8 frame (RFC 6386, 9.1): it is decoded and never shown."""
    return bytes([data[0] & ~0x10]) + data[1:]


def hidden_vp9(data: bytes) -> bytes:
    """Clear show_frame in a VP9 frame of profile 0 (VP9 bitstream specification, 6.2)."""
    return bytes([data[0] & ~0x02]) + data[1:]


def with_packets_between(data: bytes, step: int) -> Callable[[list[Sent]], list[Sent]]:
    """Add a packet of these bytes in the middle between every so many packets and the next."""

    def change(packets: list[Sent]) -> list[Sent]:
        out = []
        for number, sent in enumerate(packets):
            out.append(sent)
            if number % step == step // 2 and number + 1 < len(packets):
                half = (packets[number + 1].dts - sent.dts) // 2
                out.append(replace(sent, data=data, pts=sent.dts + half, dts=sent.dts + half, is_key=False))
        return out

    return change


def shown_when_decoded(packets: list[Sent]) -> list[Sent]:
    """Give each packet its decoding time as the time of showing, as old muxers do."""
    first = packets[0].dts
    return [replace(sent, pts=sent.dts - first, dts=sent.dts - first) for sent in packets]


def later(seconds: int) -> Callable[[list[Sent]], list[Sent]]:
    """Move all times."""

    def moved(time: int | None, sent: Sent) -> int | None:
        return None if time is None else time + int(seconds / sent.time_base)

    return lambda packets: [replace(sent, pts=moved(sent.pts, sent), dts=moved(sent.dts, sent)) for sent in packets]


def from_second_key(packets: list[Sent]) -> list[Sent]:
    """Leave out the first group of pictures."""
    keys = [number for number, sent in enumerate(packets) if sent.is_key]
    return packets[keys[1] :]


# ---- MPEG-4

_VOP, _USER_DATA = b"\0\0\1\xb6", b"\0\0\1\xb2"


def not_coded_vop(increment_bits: int) -> bytes:
    """Return an MPEG-4 picture that says it is not coded (ISO/IEC 14496-2, 6.2.5): the picture before stays."""
    bits = "01" + "0" + "1" + "0" * increment_bits + "1" + "0"  # P, time, marker, increment, marker, vop_coded
    bits += "0" + "1" * (-(len(bits) + 1) % 8)
    return _VOP + int(bits, 2).to_bytes(len(bits) // 8, "big")


def packed(increment_bits: int) -> Callable[[list[Sent]], Iterator[Sent]]:
    """Put each B-picture into the packet of the picture before, and a not-coded one into its place, as DivX does."""

    def change(packets: list[Sent]) -> Iterator[Sent]:
        number = 0
        while number < len(packets):
            sent, after = packets[number], packets[number + 1] if number + 1 < len(packets) else None
            if after is not None and _is_b(after.data):
                yield replace(sent, data=sent.data + after.data)
                yield replace(after, data=not_coded_vop(increment_bits))
                number += 2
            else:
                yield sent
                number += 1

    return change


def _is_b(data: bytes) -> bool:
    start = data.find(_VOP)
    return start >= 0 and data[start + 4] >> 6 == 2


def with_divx_mark(extradata: bytes) -> bytes:
    """Add the mark of DivX's packed pictures to an MPEG-4 header."""
    return extradata + _USER_DATA + b"DivX503b1393p"
