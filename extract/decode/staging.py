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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from features.errors import DataError

_PREFIX = "extract-stage-"
_BLOCK_BYTES = 2**22
# Space that is left free on the disk, because other jobs write to it as well.
SPARE_BYTES = 2**30


@dataclass(frozen=True)
class Staged:
    """A video, and the path of its copy."""

    path: Path
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


def staged(video: Staged, on_block: Callable[[], None]) -> Path:
    """Copy a video and return the path to read: the copy's, or the video's own if it cannot be copied.

    Args:
        on_block: called after each block of the copy.
    """
    try:
        _copy(video, on_block)
    except OSError as error:
        video.copy.unlink(missing_ok=True)
        reason = f"it cannot be copied to {video.copy.parent} ({error.strerror or error})"
        print(f"{video.path}: read where it lies, as {reason}.", file=sys.stderr, flush=True)
        return video.path
    return video.copy


def _copy(video: Staged, on_block: Callable[[], None]) -> None:
    size = video.path.stat().st_size
    if shutil.disk_usage(video.copy.parent).free < size + SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with open(video.path, "rb") as source, open(video.copy, "wb") as copy:
        while block := source.read(_BLOCK_BYTES):
            copy.write(block)
            on_block()
