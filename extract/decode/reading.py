"""Read a video in any of its forms: this module only picks the one that reads the form.

a file         extract/decode/probing.py before it is decoded, extract/decode/video.py then
JPEG frames    extract/decode/frames.py
several files  extract/decode/series.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from extract.decode import frames, probing, series, video
from extract.decode.frames import FramesInfo, FramesTask
from extract.decode.planes import Planes
from extract.decode.probing import VideoInfo
from extract.decode.series import SeriesInfo, SeriesTask
from extract.decode.sources import FileSeries, FrameFiles, Source
from extract.decode.video import DecodeTask

AnyTask: TypeAlias = DecodeTask | FramesTask | SeriesTask


def probe(source: Source, *, stream: int | None = None, on_packet: Callable[[], None]) -> VideoInfo:
    """Return what is known of a video before it is decoded; arguments and errors are those of `probing.probe`."""
    if isinstance(source, FrameFiles):
        return frames.probe(source, on_packet=on_packet)
    if isinstance(source, FileSeries):
        return series.probe(source, stream=stream, on_packet=on_packet)
    return probing.probe(source, stream=stream, on_packet=on_packet)


def decode_task(info: VideoInfo, wanted: np.ndarray) -> AnyTask:
    """Return the task of decoding these frames of a video: (M,) ascending numbers, at least one."""
    if isinstance(info, FramesInfo):
        return frames.decode_task(info, wanted)
    if isinstance(info, SeriesInfo):
        return series.decode_task(info, wanted)
    return video.decode_task(info, wanted)


def decode(task: AnyTask, *, on_packet: Callable[[], None]) -> Iterator[tuple[int, Planes]]:
    """Decode in order and yield what `video.decode` does, with its errors."""
    if isinstance(task, FramesTask):
        return frames.decode(task, on_packet=on_packet)
    if isinstance(task, SeriesTask):
        return series.decode(task, on_packet=on_packet)
    return video.decode(task, on_packet=on_packet)
