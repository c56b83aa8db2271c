"""Decode a stream through once, to learn which of its packets give pictures, and in which order they are shown.

Not every packet gives one: VP8 and VP9 have references that are hidden, MPEG-4 has pictures that are not coded, and a
packet may hold nothing but parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import av

from extract.decode.packets import MAX_REORDER, holds_picture, must_be_shown
from extract.decode.shown import Decoded

# Their decoders report what they cannot read, so a packet that gives no picture without a word has none. Other decoders
# pass over damage.
_REPORTING = {"mpeg4", "vp8", "vp9"}


def decoded_through(packets: Iterable[av.Packet], context: av.VideoCodecContext) -> Decoded:
    """Decode packets, from the first of a stream on, and return what came of them; their time stamps are lost."""
    context.thread_count = 1  # so that damage is reported for the packet that has it
    shown: list[int] = []
    fields: set[int] = set()
    refused: list[int] = []
    doubtful: list[int] = []
    is_broken = False  # a picture of this group was refused, and others may be missing because of that
    for number, packet in enumerate(packets):
        packet.pts = number  # a decoder gives each picture the time stamp of its packet
        is_broken &= not packet.is_keyframe
        try:
            frames = packet.decode()
        except av.FFmpegError:
            if may_be_damaged(packet, context):
                refused.append(number)
                is_broken = True
            continue
        shown += [frame.pts for frame in frames if frame.pts is not None]
        fields |= {frame.pts + 1 for frame in frames if frame.pts is not None and frame.interlaced_frame}
        # A packet may be marked as one whose picture is not shown: before the start of an mp4's edit list.
        if not packet.is_discard and (is_broken or _must_be_shown(packet, context)):
            doubtful.append(number)
    shown += [frame.pts for frame in drained(context) if frame.pts is not None]
    # Nothing is shown before the first picture that can be decoded, or that is refused and could have been. The second
    # field of a picture may be in the packet after that of the first.
    start = min([*shown, *refused[:1]], default=-1)
    missing = [number for number in doubtful if number > start and number not in fields]
    return Decoded(tuple(shown), tuple(sorted({*refused, *missing} - set(shown))))


def _must_be_shown(packet: av.Packet, context: av.VideoCodecContext) -> bool:
    return context.name not in _REPORTING and must_be_shown(context.name, context.extradata, bytes(packet))


def may_be_damaged(packet: av.Packet, context: av.VideoCodecContext) -> bool:
    """Return whether a packet that a decoder has refused has, or may have had, a picture."""
    return holds_picture(context.name, context.extradata, bytes(packet))


def drained(context: av.VideoCodecContext) -> Iterator[av.VideoFrame]:
    """Yield the frames that a decoder still holds."""
    # It reports damage once per picture; a decoder that cannot even start reports it forever.
    for _ in range(MAX_REORDER + 1):
        try:
            yield from context.decode(None)
            return
        except av.EOFError:
            return
        except av.FFmpegError:
            continue
