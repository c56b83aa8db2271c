"""Locks of run folders, so that no two processes write one at the same time. Knows nothing of runs.

A lock is one of the operating system (flock) on a file in the folder. It ends with its process, however that ends, so a
killed process leaves a file but no lock. Over NFS, flock holds between machines on Linux; whether it does on other
shared file systems depends on how they are mounted (docs/heads.md).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from features.errors import DataError

LOCK = ".lock"
_IS_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_HAS_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class InUseError(DataError):
    """Another process writes the folder."""


@contextlib.contextmanager
def locked(folder: Path, *, part: str = "") -> Iterator[None]:
    """Hold the lock of a folder, which is made if it is missing; afterwards remove what was made, if it is empty.

    A folder in which nothing can be written needs no lock and gets none. On a file system without locks, a note says
    once that there is none.

    Args:
        part: lock only this part of the work on the folder, such as one task of a job array.

    Raises:
        InUseError: another process holds it; the message names the process and its machine.
        DataError: the folder cannot be made, or the lock not be opened.
    """
    folder = Path(folder)
    path = folder / f"{LOCK}-{part}" if part else folder / LOCK
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]  # the innermost first
    descriptor = _acquired(path)
    try:
        yield
    finally:
        if descriptor is not None:
            _release(path, descriptor)
            with contextlib.suppress(OSError):  # one that is no longer empty, and those around it
                for parent in made:
                    parent.rmdir()


def need_unlocked(folder: Path) -> None:
    """Check that no process holds the lock of a folder now; for an early answer, before long work begins.

    Raises:
        InUseError: one does.
    """
    if Path(folder).is_dir():
        with locked(folder):
            pass


def _acquired(path: Path) -> int | None:
    """Return the open file that holds the lock; None where nothing can be written."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the process that held the lock has just removed the folder again
            continue
        except OSError as error:
            if isinstance(error, FileExistsError) and _is_folder_or_gone(error.filename):
                continue  # it was removed while pathlib looked whether what exists is a folder
            if error.errno in _IS_READ_ONLY and path.parent.is_dir() and not os.access(path.parent, os.W_OK):
                return None
            raise DataError(f"{path.parent}: cannot be written: {error.strerror or error}.") from error
        try:
            _flock(path, descriptor)
            if _is_at(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # of a file that the process that held the lock has just removed


def _is_folder_or_gone(path: str | Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return True


def _flock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUseError(f"{path.parent}: in use by {_holder(path, descriptor)}") from None
    except OSError as error:
        if error.errno not in _HAS_NO_LOCKS:
            raise DataError(f"{path}: cannot be locked: {error.strerror or error}.") from error
        _note_missing_locks(error.strerror)


def _holder(path: Path, descriptor: int) -> str:
    """Return which process holds a lock, as it wrote into the file, and what to do."""
    pid, _, host = os.pread(descriptor, 300, 0).decode(errors="replace").strip().partition(" ")
    if not host:
        return "another process; wait until it ends."
    remedy = "" if host == socket.gethostname() else f" (if that machine is gone, delete {path})"
    return f"process {pid} on {host}; wait until it ends{remedy}."


@functools.cache
def _note_missing_locks(reason: str) -> None:
    print(
        f"Note: the file system of the run folders has no locks ({reason}); do not start the same run twice at a time.",
        file=sys.stderr,
    )


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _release(path: Path, descriptor: int) -> None:
    """Remove the file while its lock is held, and end the lock."""
    with contextlib.suppress(OSError):
        if _is_at(path, descriptor):
            path.unlink()
    os.close(descriptor)
