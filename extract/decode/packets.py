"""Which packets of a video must be decoded for some of its frames. Knows the bitstreams, but no file and no decoder.

    sent    I  P  b  b  P  b  b  P  ... | I  P  b  b         b: nothing is predicted from it
    wanted                 *                       *
    needed  x  x        x  x                x  x    x         the rest is never decoded

A packet is left out only if it is proven that no other packet needs it: for H.264 by nal_ref_idc and IDR pictures
(ITU-T H.264, 7.4.1), for HEVC by sub-layer non-reference pictures of the highest temporal layer and IRAP pictures
(ITU-T H.265, 7.4.2.2). A stream that has anything else is not `proven`, and all of it is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# H.264 and HEVC let a picture be decoded at most this many pictures before it is shown.
MAX_REORDER = 16


@dataclass(frozen=True)
class Packet:
    """The properties of one packet, read from the bitstream.

    Attributes:
        is_key: decoding can begin here; only pictures shown before this one may need an earlier packet.
        is_reference: another picture may be predicted from it.
        layer: temporal layer; a picture is never predicted from one of a higher layer.
        is_skipped: where decoding begins with the key picture before it, this one is not shown.
    """

    is_key: bool
    is_reference: bool
    layer: int = 0
    is_skipped: bool = False


@dataclass(frozen=True, eq=False)
class Packets:
    """The packets of a video, in the order of decoding.

    Attributes:
        pts: (P,) int64 presentation time stamps.
        is_shown: (P,) bool; False before the start of an edit list.
        is_key: (P,) bool, as in `Packet`; if nothing is proven, the container's flags.
        is_reference: (P,) bool, as in `Packet`.
        proven: whether `is_key` and `is_reference` can be relied upon.
    """

    pts: np.ndarray
    is_shown: np.ndarray
    is_key: np.ndarray
    is_reference: np.ndarray
    proven: bool

    def __repr__(self) -> str:
        return f"Packets({len(self.pts)}, {self.is_key.sum()} key, {'proven' if self.proven else 'not proven'})"


def needed_packets(packets: Packets, wanted_pts: np.ndarray) -> np.ndarray:
    """Return the packets that must be decoded for the frames with these (M,) time stamps, as a mask: (P,) bool."""
    is_wanted = packets.is_shown & np.isin(packets.pts, wanted_pts)
    mask = np.zeros(len(is_wanted), dtype=bool)
    wanted = np.flatnonzero(is_wanted)
    if not len(wanted):
        return mask
    if not packets.proven:
        mask[: wanted[-1] + 1 + MAX_REORDER] = True
        return mask
    if packets.is_key.all():
        return is_wanted
    starts = np.flatnonzero(packets.is_key)
    stops = np.append(starts[1:], len(mask))
    group, is_leading = _groups(packets)
    serves = packets.is_reference & ~is_leading
    for number in np.unique(group[wanted]):
        start, stop = starts[number], stops[number]
        here = slice(start, stop)
        trailing = np.flatnonzero(is_wanted[here] & ~is_leading[here])
        leading = np.flatnonzero(is_wanted[here] & is_leading[here])
        if len(trailing):
            last = start + trailing[-1] + 1
            mask[start:last] |= serves[start:last]
        if len(leading):
            last = start + leading[-1] + 1
            mask[start:last] |= packets.is_reference[start:last]
            # Leading pictures may be predicted from the group before. If that group has nothing but leading pictures
            # after its key picture, it may in turn depend on the group before it.
            before = number
            while before > 0:
                before -= 1
                group_before = slice(starts[before], stops[before])
                mask[group_before] |= serves[group_before]
                if not is_leading[starts[before] + 1 : stops[before]].all():
                    break
    return mask | is_wanted


def serves_later(packets: Packets) -> np.ndarray:
    """Return (P,) bool: the packets that later pictures of the same group, or of the next group, may need."""
    if not packets.proven:
        return packets.is_reference
    return packets.is_reference & ~_groups(packets)[1]


def _groups(packets: Packets) -> tuple[np.ndarray, np.ndarray]:
    """Return each packet's group, which begins with a key packet, and whether it is shown before that packet: (P,)."""
    starts = np.flatnonzero(packets.is_key)
    group = np.searchsorted(starts, np.arange(len(packets.pts)), side="right") - 1
    return group, packets.pts < packets.pts[starts[group]]


# ---- bitstreams


class UnprovenError(Exception):
    """The stream has something that the rules of this module do not cover."""


def packet_parser(codec: str, extradata: bytes | None) -> Callable[[memoryview], Packet] | None:
    """Return a function that parses the bytes of a packet, or None for a stream of which nothing can be proven.

    The function raises `UnprovenError` for a packet that the rules do not cover.

    Args:
        codec: FFmpeg's name of it.
        extradata: the stream's avcC or hvcC record.
    """
    # Without such a record the stream uses start codes, which none of our containers should hold.
    if not extradata or extradata[0] != 1:
        return None
    if codec == "h264" and len(extradata) > 8 and _is_progressive(extradata):
        return lambda data: _h264(list(_units(data, (extradata[4] & 3) + 1)), extradata)
    if codec == "hevc" and len(extradata) > 22:
        return lambda data: _hevc(list(_units(data, (extradata[21] & 3) + 1)), extradata)
    return None


def _units(data: memoryview, length_size: int) -> Iterator[memoryview]:
    """Yield the NAL units of a packet; each is preceded by its length."""
    position, end = 0, len(data)
    while position < end:
        start = position + length_size
        position = start + int.from_bytes(data[position:start], "big")
        if not start + 2 <= position <= end:
            raise UnprovenError("a NAL unit does not fit its packet")
        yield data[start:position]


def _h264(units: Sequence[memoryview], extradata: bytes) -> Packet:
    is_idr, is_reference = [], False
    for unit in units:
        kind = unit[0] & 31
        if kind in (1, 5):  # a slice
            is_idr.append(kind == 5)
            is_reference |= bool(unit[0] & 0x60)
        elif kind in (7, 8):
            _need_known(unit, extradata)
        elif kind not in (6, 9, 12):  # not SEI, delimiter or filler: data partitions, layers, views, end of sequence
            raise UnprovenError(f"H.264 NAL unit of type {kind}")
    if not is_idr or any(is_idr) != all(is_idr):
        raise UnprovenError("a packet without slices, or with slices of two kinds")
    return Packet(is_key=is_idr[0], is_reference=is_reference)


def _hevc(units: Sequence[memoryview], extradata: bytes) -> Packet:
    kinds, layers = set(), set()
    for unit in units:
        kind = unit[0] >> 1 & 63
        if (unit[0] & 1) << 5 | unit[1] >> 3:
            raise UnprovenError("an HEVC layer above the base")
        if kind < 22:  # a slice
            kinds.add(kind)
            layers.add((unit[1] & 7) - 1)
        elif kind in (32, 33, 34):
            _need_known(unit, extradata)
        elif kind not in (35, 38, 39, 40):  # not delimiter, filler or SEI
            raise UnprovenError(f"HEVC NAL unit of type {kind}")
    if len(kinds) != 1 or len(layers) != 1:
        raise UnprovenError("a packet without slices, or with slices of two kinds")
    kind = kinds.pop()
    if kind == 16:
        raise UnprovenError("a broken link, after which pictures may not be shown")
    return Packet(
        is_key=kind >= 16,
        is_reference=kind > 14 or kind % 2 == 1,
        layer=layers.pop(),
        is_skipped=kind in (8, 9),  # RASL: it may be predicted from the group before
    )


# Parameter sets, delimiters, messages and filler (ITU-T H.264, table 7-1; ITU-T H.265, table 7-1).
_NO_PICTURE = {"h264": set(range(6, 14)), "hevc": set(range(32, 41))}
_RASL = {8, 9}


def holds_picture(codec: str, extradata: bytes | None, data: bytes) -> bool:
    """Return whether a packet may hold a picture, or a part of one: it has anything but parameters and the like.

    FFmpeg's decoders refuse a packet of parameters alone, though they use them.
    """
    kinds = _unit_kinds(codec, extradata, data)
    return not kinds or not kinds <= _NO_PICTURE[codec]


def must_be_shown(codec: str, extradata: bytes | None, data: bytes) -> bool:
    """Return whether a packet that gives no picture must be damaged.

    Pictures of HEVC that are predicted from the group before (RASL) are left out where decoding begins with their own.
    """
    kinds = _unit_kinds(codec, extradata, data)
    return not kinds or not kinds <= _NO_PICTURE[codec] | (_RASL if codec == "hevc" else set())


def _unit_kinds(codec: str, extradata: bytes | None, data: bytes) -> set[int]:
    """Return the types of a packet's NAL units; none if they cannot be told."""
    if codec not in _NO_PICTURE:
        return set()
    try:
        if extradata and extradata[0] == 1:
            length_size = (extradata[4 if codec == "h264" else 21] & 3) + 1
            first_bytes = [unit[0] for unit in _units(memoryview(data), length_size)]
        else:
            first_bytes = [unit[0] for unit in data.split(b"\0\0\1")[1:]]
    except (UnprovenError, IndexError):
        return set()
    return {first & 31 if codec == "h264" else first >> 1 & 63 for first in first_bytes}


def _need_known(parameters: memoryview, extradata: bytes) -> None:
    """Check that a parameter set within the stream repeats one of the header, so that leaving it out loses nothing."""
    if bytes(parameters) not in extradata:
        raise UnprovenError("parameters that change within the stream")


def key_and_reference(packets: Sequence[Packet]) -> tuple[np.ndarray, np.ndarray]:
    """Return is_key and is_reference of a stream's packets, (P,) bool each.

    Raises:
        UnprovenError: decoding cannot begin with the first packet.
    """
    if not packets or not packets[0].is_key:
        raise UnprovenError("the first picture is no key picture")
    # A picture of a higher layer may still be predicted from a non-reference picture of a lower layer.
    top = max(packet.layer for packet in packets)
    is_reference = [packet.is_reference or packet.layer < top for packet in packets]
    return np.array([packet.is_key for packet in packets]), np.array(is_reference)


def skipped_at_start(packets: Sequence[Packet]) -> np.ndarray:
    """Return the packets that are not shown because the stream begins with their group, (P,) bool."""
    starts = np.flatnonzero([packet.is_key for packet in packets])
    is_skipped = np.array([packet.is_skipped for packet in packets], dtype=bool)
    is_skipped[starts[1] if len(starts) > 1 else len(packets) :] = False
    return is_skipped


def _is_progressive(record: bytes) -> bool:
    """Return whether an avcC record has one sequence parameter set, and that has frame_mbs_only_flag.

    Without the flag, the two fields of a frame may be in separate packets, one predicted from the other.
    """
    length = int.from_bytes(record[6:8], "big")
    if record[5] & 31 != 1 or len(record) < 8 + length:
        return False
    try:
        return _frame_mbs_only(_Bits(record[9 : 8 + length].replace(b"\0\0\3", b"\0\0")))
    except IndexError:
        return False


class _Bits:
    """Reads the bits of a parameter set."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def bit(self) -> int:
        byte, shift = divmod(self._position, 8)
        self._position += 1
        return self._data[byte] >> (7 - shift) & 1

    def bits(self, num: int) -> int:
        value = 0
        for _ in range(num):
            value = value << 1 | self.bit()
        return value

    def ue(self) -> int:
        """Read an Exp-Golomb code (9.1)."""
        zeros = 0
        while not self.bit():
            zeros += 1
        return (1 << zeros) - 1 + self.bits(zeros)

    def se(self) -> int:
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


# Profiles whose parameter sets begin with the chroma format (7.3.2.1.1).
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}


def _frame_mbs_only(bits: _Bits) -> bool:
    """Read a sequence parameter set of H.264 (7.3.2.1.1) up to frame_mbs_only_flag and return the flag."""
    profile = bits.bits(8)
    bits.bits(16)  # constraints, level
    bits.ue()  # id
    if profile in _HIGH_PROFILES:
        chroma_format = bits.ue()
        if chroma_format == 3:
            bits.bit()
        bits.ue()  # bit depth of luma
        bits.ue()  # and of chroma
        bits.bit()  # transform bypass
        if bits.bit():
            for number in range(8 if chroma_format != 3 else 12):
                if bits.bit():
                    _skip_scaling_list(bits, 16 if number < 6 else 64)
    bits.ue()  # bits of frame_num
    order = bits.ue()
    if order == 0:
        bits.ue()
    elif order == 1:
        bits.bit()
        bits.se()
        bits.se()
        for _ in range(bits.ue()):
            bits.se()
    bits.ue()  # reference frames
    bits.bit()  # gaps allowed
    bits.ue()  # width
    bits.ue()  # height
    return bool(bits.bit())


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last
