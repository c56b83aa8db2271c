"""Copy each video to a disk of this machine just before it is read, and remove the copy after. Knows no feature set.

This is for clusters whose shared file system is slow when many processes read from it. The result is the same: a video
that cannot be copied is read from where it lies. Features need no such copies: the file of a video is made in memory
and written whole (features/files.py).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from extract.decode.sources import FRAME_NAME, FileSeries, FrameFiles, Source, path_of
from features.errors import DataError

_PREFIX = "extract-stage-"
_BLOCK_BYTES = 2**22
# Space that is left free on the disk, because other jobs write to it as well.
SPARE_BYTES = 2**30


@dataclass(frozen=True)
class Staged:
    """A video, and the path of its copy: a file, or a folder if the video consists of several files."""

    source: Source
    copy: Path


@contextlib.contextmanager
def staging_folder(root: Path) -> Iterator[Path]:
    """Yield a folder below `root` that only this process uses, and remove it afterwards.

    Folders that killed processes left behind are removed first.

    Raises:
        DataError: the folder cannot be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(root)
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.enter_context(_locked(folder, fcntl.LOCK_EX))
        except OSError as error:
            raise DataError(f"--stage: {root}: no place for copies of videos: {error.strerror or error}.") from error
        yield folder


@contextlib.contextmanager
def _locked(folder: Path, operation: int) -> Iterator[None]:
    """Hold a folder's lock. The system releases it when the process ends, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(root: Path) -> None:
    for folder in root.glob(f"{_PREFIX}*"):
        # Folders in use, and those of other users, stay.
        with contextlib.suppress(OSError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(folder)


def staged(video: Staged, on_block: Callable[[], None]) -> Source:
    """Copy a video and return the source to read: the copy, or the video itself if it cannot be copied.

    Args:
        on_block: called after each block of the copy.
    """
    try:
        return _copied(video.source, video.copy, on_block)
    except OSError as error:
        remove_copy(video.copy)
        reason = f"it cannot be copied to {video.copy.parent} ({error.strerror or error})"
        print(f"{path_of(video.source)}: read where it lies, as {reason}.", file=sys.stderr, flush=True)
        return video.source


def remove_copy(copy: Path) -> None:
    """Remove the copy of a video, if there is one."""
    if copy.is_dir():
        shutil.rmtree(copy)
    else:
        copy.unlink(missing_ok=True)


def _copied(source: Source, copy: Path, on_block: Callable[[], None]) -> Source:
    if isinstance(source, FileSeries):
        files = _copy_into(copy, source.files, on_block)
        return replace(source, files=files)
    path = path_of(source)
    if path.is_dir():
        frames = [path / name for name in os.listdir(path) if FRAME_NAME.fullmatch(name)]
        _copy_into(copy, frames, on_block)
    else:
        _need_room(copy, path.stat().st_size)
        _copy(path, copy, on_block)
    return replace(source, path=copy) if isinstance(source, FrameFiles) else copy


def _copy_into(folder: Path, files: Sequence[Path], on_block: Callable[[], None]) -> tuple[Path, ...]:
    _need_room(folder, sum(file.stat().st_size for file in files))
    folder.mkdir()
    copies = tuple(folder / file.name for file in files)
    for file, copy in zip(files, copies, strict=True):
        _copy(file, copy, on_block)
    return copies


def _need_room(copy: Path, num_bytes: int) -> None:
    if shutil.disk_usage(copy.parent).free < num_bytes + SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _copy(path: Path, copy: Path, on_block: Callable[[], None]) -> None:
    with open(path, "rb") as source, open(copy, "wb") as target:
        while block := source.read(_BLOCK_BYTES):
            target.write(block)
            on_block()
