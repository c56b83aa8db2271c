"""Opens a video file and reads the packets of one of its streams."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from extract.decode.no_video import what_it_is
from extract.decode.streams import shown_stream, streams_text
from features.errors import DataError

# In place of a time stamp that a packet lacks.
NO_STAMP = np.iinfo(np.int64).min


class VideoError(DataError):
    """A video file cannot be used at all."""


def do_nothing() -> None:
    pass


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
def opened(
    path: Path, number: int | None, on_packet: Callable[[], None] = do_nothing
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


def packets_in(container: InputContainer, stream: VideoStream, on_packet: Callable[[], None]) -> Iterator[av.Packet]:
    """Yield the packets of a stream up to its end, or up to where the container cannot be read any further."""
    # What follows is not lost silently: segments there are reported as beyond the end.
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux(stream):
            on_packet()
            if packet.size:
                yield packet


def stamp_of(packet: av.Packet) -> int:
    """Return a packet's presentation time, or else its decoding time, in units of the stream's time base."""
    pts = packet.pts if packet.pts is not None else packet.dts
    return NO_STAMP if pts is None else pts
