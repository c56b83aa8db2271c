"""JPEG frames in a folder or in a tar: find where each frame lies, and decode the wanted frames.

    frame_0000000001.jpg    at second 0; number n is at second (n - 1) / fps, whether or not those before it are there
    frame_0000000002.jpg
    frame_0000000004.jpg    number 3 is missing: a clip that shows it fails, and no other frame takes its place

A tar is read once from end to end to find its members, and the wanted members are then read in place.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np

from extract.decode.container import VideoError
from extract.decode.no_video import what_it_is
from extract.decode.packets import Packets
from extract.decode.planes import BT601, Planes
from extract.decode.probing import VideoInfo
from extract.decode.sources import FRAME_NAME, PUBLISHED_AT_60, FrameFiles
from extract.decode.video import fitted, planes_of
from features.failures import FailureKind

_MAX_S = 24 * 3600  # no video is longer, but some frames are named by the clock


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class FramesInfo(VideoInfo):
    """A video of F JPEG frames, of which some may be missing.

    Attributes:
        pattern: how the files are named by their numbers.
        numbers: (F,) int64.
        is_there: (F,) bool.
        places: (F, 2) int64, where the bytes of each frame begin in the tar, and how many there are; None for a folder.
    """

    pattern: str
    numbers: np.ndarray
    is_there: np.ndarray
    places: np.ndarray | None

    @property
    def remark(self) -> str:
        """What a message about frames that are missing says about the file."""
        return " (the tar is damaged or truncated behind its last frame)" if self.is_truncated else ""

    def why_lost(self, frame: int) -> tuple[FailureKind, str]:
        """Return the kind of failure and the reason why decoding has not given a frame."""
        name = f"{self.pattern.format(self.numbers[frame])}, at {self.seconds[frame]:.2f} s,"
        if self.is_there[frame]:
            return FailureKind.UNDECODABLE, f"{name} cannot be decoded"
        return FailureKind.NO_FRAMES, f"{name} is missing"


def probe(source: FrameFiles, *, on_packet: Callable[[], None]) -> FramesInfo:
    """Find the frames of a video. Only as many are decoded as it takes to know the size of the pictures.

    Args:
        on_packet: called at each file, as a heartbeat.

    Raises:
        VideoError: there are no frames, or not those of one video.
    """
    is_tar = not source.path.is_dir()
    places, is_whole = _in_tar(source.path, on_packet) if is_tar else (_in_folder(source.path, on_packet), True)
    pattern, place_of = _frames_among(source.path, places)
    present = np.array(sorted(place_of))
    if PUBLISHED_AT_60.get(source.path.stem) == present[-1] and source.fps == 50:
        raise VideoError(
            f"{source.path}: these frames were published at 60 per second by mistake; fetch them again, or extract "
            "this video by itself with --frames-fps 60."
        )
    if present[-1] > source.fps * _MAX_S:
        raise VideoError(
            f"{source.path}: frame {pattern.format(present[-1])} would be more than a day into the video; frames have "
            "to be numbered from its start."
        )
    numbers = _expected_numbers(present)
    pts = numbers - min(1, numbers[0])
    step = _step(present)
    is_there = np.isin(numbers, present)
    every = np.ones(len(numbers), dtype=bool)
    info = FramesInfo(
        path=source.path,
        stream=0,
        pts=pts,
        seconds=pts / float(source.fps),
        fps=float(source.fps) / step,
        width=0,
        height=0,
        codec="mjpeg",
        colour=replace(BT601, full_range=True),
        packets=Packets(pts, is_shown=is_there, is_key=every, is_reference=~every, proven=True),
        stamps=pts,
        is_truncated=not is_whole,
        source={"frames": f"JPEG, {float(source.fps) / step:g} per second"},
        pattern=pattern,
        numbers=numbers,
        is_there=is_there,
        places=np.array([place_of.get(number, (0, 0)) for number in numbers.tolist()]) if is_tar else None,
    )
    for _, frame in _decoded(decode_task(info, np.flatnonzero(is_there)), on_packet):
        return replace(info, width=frame.width, height=frame.height)
    raise VideoError(f"{source.path}: none of its {len(present)} frames can be decoded.")


def _step(present: np.ndarray) -> int:
    """Return the distance of two frames that follow each other; 2 where somebody kept every second one."""
    return int(np.gcd.reduce(np.diff(present))) if len(present) > 1 else 1


def _expected_numbers(present: np.ndarray) -> np.ndarray:
    """Return the numbers from the first that there should be to the last that is there.

    >>> _expected_numbers(np.array([3, 4, 7]))
    array([1, 2, 3, 4, 5, 6, 7])
    >>> _expected_numbers(np.array([1, 3, 7]))
    array([1, 3, 5, 7])
    """
    step = _step(present)
    first = (present[0] - 1) % step + 1 if present[0] else 0
    return np.arange(first, present[-1] + 1, step)


_Place = tuple[int, int]


def _frames_among(path: Path, places: Mapping[str, _Place]) -> tuple[str, dict[int, _Place]]:
    """Return how the frames among files are named by their numbers, and the place of each number."""
    frames, names = dict[int, _Place](), dict[int, str]()
    for file, place in places.items():
        if match := FRAME_NAME.fullmatch(file.rpartition("/")[2]):
            number, name = int(match[2]), file.removeprefix("./")
            if name.split("/")[-2:-1] in (["u"], ["v"]):
                raise VideoError(f"{path}: it holds optical flow ({name}), not pictures, which are in rgb_frames.")
            _need_one_kind(path, names.get(number, name), name)
            frames[number], names[number] = place, name
    if not names:
        raise VideoError(f"{path}: no JPEG frames in it, which would be named frame_0000000001.jpg and so on.")
    shortest = min(names.values(), key=len)
    folder, _, name = shortest.rpartition("/")
    prefix, digits, ending = FRAME_NAME.fullmatch(name).groups()  # type: ignore[union-attr]
    pattern = f"{prefix}{{:0{len(digits)}}}{ending}"
    inside = f"{folder}/{pattern}" if folder else pattern
    _need_one_kind(path, shortest, next((n for i, n in names.items() if n != inside.format(i)), shortest))
    return pattern, frames


def _need_one_kind(path: Path, name: str, other: str) -> None:
    if name != other:
        raise VideoError(f"{path}: it holds frames of two kinds, such as {name} and {other}; leave those of one kind.")


def _in_folder(path: Path, on_packet: Callable[[], None]) -> dict[str, _Place]:
    """Return the names of the files in a folder; places mean nothing there."""
    places = {}
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                on_packet()
                places[entry.name] = (0, 0)
    except OSError as error:
        raise VideoError(f"{path}: cannot be read as a folder of frames: {error.strerror or error}.") from error
    return places


def _in_tar(path: Path, on_packet: Callable[[], None]) -> tuple[dict[str, _Place], bool]:
    """Return where the bytes of each file in a tar begin and how many they are, and whether it ends as a tar should.

    If a file was added twice, the later one counts. What a broken copy still holds is used.
    """
    places: dict[str, _Place] = {}
    try:
        with tarfile.open(path, "r:") as tar, open(path, "rb") as file:
            with suppress(tarfile.TarError):
                while (member := tar.next()) is not None:
                    on_packet()
                    tar.members = []  # type: ignore[attr-defined]  # otherwise it keeps a record of every member
                    if member.isreg():
                        places[member.name] = (member.offset_data, member.size)
            block = os.pread(file.fileno(), tarfile.BLOCKSIZE, tar.offset)
            return places, block == bytes(tarfile.BLOCKSIZE)
    except (OSError, tarfile.TarError) as error:
        reason = f"cannot be read as a tar that is not compressed: {getattr(error, 'strerror', None) or error}."
        raise VideoError(f"{path}: {what_it_is(path) or reason}") from error


# ---- decoding


@dataclass(frozen=True, eq=False)
class FramesTask:
    """Which JPEG frames to decode.

    Attributes:
        path: the folder or the tar.
        wanted: (M,) int64, ascending frame numbers; those that are missing are left out.
        names: of their files, if they lie in a folder.
        places: (M, 2) int64, if they lie in a tar.
    """

    path: Path
    wanted: np.ndarray
    names: tuple[str, ...]
    places: np.ndarray | None

    def __repr__(self) -> str:
        return f"FramesTask({self.path.name}, {len(self.wanted)} frames)"


def decode_task(info: FramesInfo, wanted: np.ndarray) -> FramesTask:
    """Return the task of decoding these frames of a video: (M,) ascending numbers."""
    present = np.asarray(wanted, dtype=np.int64)[info.is_there[wanted]]
    names = tuple(info.pattern.format(number) for number in info.numbers[present].tolist())
    return FramesTask(info.path, present, names, None if info.places is None else info.places[present])


def decode(task: FramesTask, *, on_packet: Callable[[], None]) -> Iterator[tuple[int, Planes]]:
    """Yield (frame number, picture) for each wanted frame that can be decoded, as `video.decode` does.

    Raises:
        VideoError: the tar cannot be opened, or a picture is rotated by an angle that is no right angle.
    """
    for number, frame in _decoded(task, on_packet):
        yield number, planes_of(fitted(frame, full_range=True), task.path, full_range=True)


def _decoded(task: FramesTask, on_packet: Callable[[], None]) -> Iterator[tuple[int, av.VideoFrame]]:
    context = av.CodecContext.create("mjpeg", "r")
    context.thread_count = 1
    # Otherwise the decoder fills in what is damaged, without a word.
    context.options = {"err_detect": "explode"}
    for number, data in zip(task.wanted.tolist(), _contents(task), strict=True):
        on_packet()
        try:
            frames = context.decode(av.Packet(data)) if data else []
        except av.FFmpegError:
            context.flush_buffers()
            continue
        yield from ((number, frame) for frame in frames[:1])


def _contents(task: FramesTask) -> Iterator[bytes]:
    """Yield the bytes of each wanted file; none of a file that cannot be read."""
    if task.places is None:
        for name in task.names:
            try:
                yield (task.path / name).read_bytes()
            except OSError:
                yield b""
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(task.path, "rb"))
        except OSError as error:
            raise VideoError(f"{task.path}: cannot be read: {error.strerror or error}.") from error
        for start, size in task.places.tolist():
            try:
                yield os.pread(file.fileno(), size, start)
            except OSError:
                yield b""
