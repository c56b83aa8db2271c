"""Hand-object detections in the published format, written byte by byte: a pickled list of messages, one per frame.

It owns the bytes, and imports none of what reads them, so that it can disagree with it. The format is that of Protocol
Buffers: a field is its number and kind, then its value; a value of 0 is left out.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Hand:
    """A hand: state 0 for nothing in it to 4, side 0 for left and 1 for right, offset to the centre of its object."""

    box: _Box
    score: float
    state: int
    side: int
    offset: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Found:
    """An object."""

    box: _Box
    score: float


def write_detections(path: Path, messages: Sequence[bytes]) -> Path:
    """Write the messages of a video as the published files have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(list(messages)))
    return path


def message(video_id: str, number: int, hands: Sequence[Hand] = (), objects: Sequence[Found] = ()) -> bytes:
    """Return the message of a frame; frames count from 1."""
    parts = [_bytes(1, video_id.encode()), _integer(2, number)]
    parts += [_bytes(3, _hand(hand)) for hand in hands]
    parts += [_bytes(4, _bytes(1, _floats(found.box)) + _floats((found.score,), first=2)) for found in objects]
    return b"".join(parts)


def _hand(hand: Hand) -> bytes:
    return (
        _bytes(1, _floats(hand.box))
        + _floats((hand.score,), first=2)
        + _integer(3, hand.state)
        + _bytes(4, _floats(hand.offset))
        + _integer(5, hand.side)
    )


def _floats(values: Sequence[float], *, first: int = 1) -> bytes:
    numbered = enumerate(values, first)
    return b"".join(bytes([number << 3 | 5]) + struct.pack("<f", value) for number, value in numbered if value)


def _integer(number: int, value: int) -> bytes:
    return bytes([number << 3]) + _varint(value) if value else b""


def _bytes(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Return a number in groups of seven bits, the lowest first."""
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
