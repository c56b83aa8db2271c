"""Several video files that are one video: each is probed and decoded by itself, and their frames are counted on.

    0.mp4    |0 1 2 3 ... 449|
    15.mp4                   |0 1 2 ...                    chunks: the name of a file is the second of its start
             |0 1 2 3 ... 449 450 451 452 ...              frames of the video

Where files overlap, the later one has the frame. A file that cannot be read leaves a hole.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from extract.decode import probing, video
from extract.decode.container import VideoError
from extract.decode.packets import Packets
from extract.decode.planes import Planes
from extract.decode.probing import VideoInfo
from extract.decode.sources import FileSeries
from extract.decode.video import DecodeTask
from features.errors import first_few
from features.failures import FailureKind


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SeriesInfo(VideoInfo):
    """A video that consists of K files.

    Attributes:
        parts: what is known of each file that can be read.
        first: (K + 1,) int64, the number of the first frame of each; at last the number of frames.
        problems: what is wrong with files, by their names.
    """

    parts: tuple[VideoInfo, ...]
    first: np.ndarray
    problems: tuple[str, ...]

    @property
    def remark(self) -> str:
        """What a message about frames that are missing says about the files."""
        return f" ({first_few(self.problems)})" if self.problems else ""

    def why_lost(self, frame: int) -> tuple[FailureKind, str]:
        """Return the kind of failure and the reason why decoding has not given a frame."""
        part = int(np.searchsorted(self.first, frame, side="right")) - 1
        kind, reason = super().why_lost(frame)
        return kind, f"{reason} ({self.parts[part].path.name})"


def probe(source: FileSeries, *, stream: int | None = None, on_packet: Callable[[], None]) -> SeriesInfo:
    """Read the presentation times of all frames of a video, as `probing.probe` does for each of its files.

    Args:
        stream: the number of the stream to take in each file; by default the one that a player shows.
        on_packet: called at each packet, as a heartbeat.

    Raises:
        VideoError: none of the files can be read.
    """
    parts: list[VideoInfo] = []
    shifts_s: list[float] = []  # what is added to the times of each part
    problems: list[str] = []
    end_s = 0.0  # of the parts so far
    for file, start in zip(source.files, source.starts or itertools.repeat(None), strict=False):
        if start is None and parts and end_s >= source.until_s:
            break
        try:
            info = probing.probe(file, stream=stream, on_packet=on_packet)
            if parts and info.colour != parts[0].colour:
                raise VideoError(f"{file}: its colours are coded otherwise than those of {parts[0].path.name}.")
        except VideoError as error:
            problems.append(str(error).removeprefix(f"{file.parent}/").rstrip("."))
            if start is None:
                break  # it is not known how long it lasts, and so when the next file begins
            continue
        if info.is_truncated:
            problems.append(f"{file.name} is truncated")
        shifts_s.append(_shift_of_chapter(end_s, info, parts) if start is None else _shift_of_chunk(float(start), info))
        end_s = shifts_s[-1] + _end_s(info)
        parts.append(info)
    if not parts:
        raise VideoError(f"{source.path}: {first_few(problems)}.")
    return _joined(source.path, parts, shifts_s, problems)


def _shift_of_chunk(start_s: float, chunk: VideoInfo) -> float:
    """Return what is added to the times of a chunk: nothing if it was cut with the clock of the video kept."""
    return 0.0 if chunk.seconds[0] > start_s / 2 else start_s


def _shift_of_chapter(end_s: float, chapter: VideoInfo, before: Sequence[VideoInfo]) -> float:
    """Return what is added to the times of a chapter, so that its first frame is where the file before it ends."""
    return end_s - float(chapter.seconds[0]) if before else 0.0


def _end_s(part: VideoInfo) -> float:
    """Return the second at which the last frame of a file ends."""
    seconds = part.seconds
    return float(seconds[-1] + (np.median(np.diff(seconds)) if len(seconds) > 1 else 0.0))


def _joined(path: Path, parts: list[VideoInfo], shifts_s: list[float], problems: list[str]) -> SeriesInfo:
    times = [part.seconds + shift_s for part, shift_s in zip(parts, shifts_s, strict=True)]
    # The frames of each file that count are those before the next file begins.
    ends = [*(seconds[0] for seconds in times[1:]), np.inf]
    times = [seconds[seconds < end] for seconds, end in zip(times, ends, strict=True)]
    first = np.cumsum([0, *(len(seconds) for seconds in times)])
    packets = [_renumbered(part, start, stop) for part, start, stop in zip(parts, first[:-1], first[1:], strict=True)]
    settings: dict[str, Any] = {field.name: getattr(parts[0], field.name) for field in fields(VideoInfo)}
    settings |= {
        "path": path,
        "pts": np.arange(first[-1]),
        "seconds": np.concatenate(times),
        "packets": _one_after_another(packets),
        "stamps": np.concatenate([part.stamps for part in parts]),
        "is_truncated": False,
        "source": {"files": f"{len(parts)}, from {parts[0].path.name} to {parts[-1].path.name}", **parts[0].source},
    }
    return SeriesInfo(**settings, parts=tuple(parts), first=first, problems=tuple(problems))


def _renumbered(part: VideoInfo, first: int, stop: int) -> Packets:
    """Return the packets of a file with the numbers that its frames have in the video for time stamps."""
    numbers = first + np.searchsorted(part.pts, part.packets.pts)
    return replace(part.packets, pts=numbers, is_shown=part.packets.is_shown & (numbers < stop))


def _one_after_another(packets: Sequence[Packets]) -> Packets:
    return Packets(
        pts=np.concatenate([item.pts for item in packets]),
        is_shown=np.concatenate([item.is_shown for item in packets]),
        is_key=np.concatenate([item.is_key for item in packets]),
        is_reference=np.concatenate([item.is_reference for item in packets]),
        proven=all(item.proven for item in packets),
    )


# ---- decoding


@dataclass(frozen=True)
class SeriesTask:
    """Which frames to decode of which files.

    Attributes:
        path: what messages call the video.
        tasks: per file with wanted frames, what is added to its frame numbers, and its task.
    """

    path: Path
    tasks: tuple[tuple[int, DecodeTask], ...]

    def __repr__(self) -> str:
        return f"SeriesTask({self.path.name}, {len(self.tasks)} files)"


def decode_task(info: SeriesInfo, wanted: np.ndarray) -> SeriesTask:
    """Return the task of decoding these frames of a video: (M,) ascending numbers, at least one."""
    wanted = np.asarray(wanted, dtype=np.int64)
    tasks = []
    for part, first, stop in zip(info.parts, info.first[:-1].tolist(), info.first[1:].tolist(), strict=True):
        ours = wanted[(wanted >= first) & (wanted < stop)]
        if len(ours):
            tasks.append((first, video.decode_task(part, ours - first)))
    return SeriesTask(info.path, tuple(tasks))


def decode(task: SeriesTask, *, on_packet: Callable[[], None]) -> Iterator[tuple[int, Planes]]:
    """Decode file after file and yield what `video.decode` does, with its errors."""
    for first, part in task.tasks:
        for number, planes in video.decode(part, on_packet=on_packet):
            yield first + number, planes
