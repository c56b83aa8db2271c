"""Files that exist whole or not at all: written beside the path, synced, renamed. Knows nothing of the project."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from features.errors import DataError, UnreadableError


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success it is synced and renamed to `path`.

    After an exception the temporary file is removed, and an earlier file at `path` is unchanged. If the process is
    killed, the temporary file stays (its name begins with a dot and ends in .tmp); the next write to the same path from
    the same machine removes it.

    Raises:
        DataError: the folder or the file cannot be written (permissions, disk full); the message names the path.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}.") from error
    finally:
        # If not even the folder could be made, there is nothing to remove, and removing fails.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder while a file in it is read, changed and replaced; without effect where it has none.

    Some network file systems know no locks of folders. The system releases a lock when its process ends.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    host = socket.gethostname()
    for abandoned in path.parent.glob(f".{path.name}.{host}.*.tmp"):
        pid = abandoned.name.split(".")[-2]
        if pid.isdigit() and not _is_running(int(pid)):
            abandoned.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, in UTF-8."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole, indented, with keys in their given order."""
    write_text(path, json.dumps(value, indent=2) + "\n")


# What the system says of a place that is in no file, which damage in a file may name.
_OF_DAMAGE = (0, errno.EINVAL, errno.EOVERFLOW)


def is_of_the_system(number: int | None) -> bool:
    """Return whether an error number is about reading a file, such as for permission, and not about what it holds."""
    return number is not None and number not in _OF_DAMAGE


def unreadable(path: Path | str, error: OSError) -> UnreadableError:
    """Return the error for a file or folder that the system does not let be read.

    >>> print(unreadable("a.csv", OSError(5, "Input/output error")))
    a.csv: cannot be read: Input/output error.
    """
    hint = ""
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = "; ask its owner for the permission to read it and to enter its folders (ls -ld shows both)"
    return UnreadableError(f"{path}: cannot be read: {error.strerror or error}{hint}.")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: the file does not exist, cannot be read, or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:  # json's own error, and the error of a wrong encoding
        raise DataError(f"{path}: not a JSON file ({error}).") from error


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value; the order of its keys does not matter.

    >>> sha256_of_json({"a": 1, "b": 2}) == sha256_of_json({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def need_other_file(path: Path, source: Path) -> None:
    """Check that a file that is to be written is not the one that is read.

    Raises:
        DataError: both are the same file.
    """
    if path.exists() and source.exists() and path.samefile(source):
        raise DataError(f"{path}: is {source.name} itself, which is read; give another file to write to.")
