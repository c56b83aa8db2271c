"""Which video stream of a file is decoded: the one that a player shows. Reads packets only where that must be known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


def shown_stream(container: InputContainer, on_packet: Callable[[], None]) -> VideoStream:
    """Return the default-marked video stream of a file, or else the largest; covers and thumbnails do not count.

    Of several streams that are marked, the largest is taken. Some phones and drones write a stream of one frame first,
    so a stream of more frames is always preferred. Finding out may read packets: the file must be opened again.
    """
    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    films = [stream for stream in streams if not stream.disposition & _PICTURES] or streams
    if len(films) > 1:
        films = _with_several_frames(container, films, on_packet) or films
    marked = [stream for stream in films if stream.disposition & Disposition.default]
    return max(marked or films, key=lambda stream: (stream.width * stream.height, -stream.index))


def _with_several_frames(
    container: InputContainer, streams: Sequence[VideoStream], on_packet: Callable[[], None]
) -> list[VideoStream]:
    """Return the streams that have more than one frame. Not every container says, so packets are counted."""
    counts = Counter({stream.index: stream.frames for stream in streams})
    if not all(counts.values()):
        counts.clear()
        for packet in container.demux(list(streams)):
            on_packet()
            counts[packet.stream_index] += bool(packet.size)
            if all(counts[stream.index] > 1 for stream in streams):
                break
    return [stream for stream in streams if counts[stream.index] > 1]


def streams_text(container: InputContainer, chosen: VideoStream | None = None) -> str:
    """Return the video streams of a file, such as `0 (mjpeg 160x120), 1 (h264 640x360)`, the chosen one first."""
    streams = container.streams.video
    if chosen is None:
        return ", ".join(map(_stream_text, streams))
    others = ", ".join(_stream_text(stream) for stream in streams if stream.index != chosen.index)
    return _stream_text(chosen) + (f"; not taken: {others}" if others else "")


def _stream_text(stream: VideoStream) -> str:
    if stream.codec_context is None:
        return f"{stream.index} (unknown codec)"
    return f"{stream.index} ({stream.codec_context.name} {stream.width}x{stream.height})"
