"""Files that the system does not let be read, though they are sound."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from features.errors import UnreadableError

_NOBODY = 65534
# What no message about a file that may be sound says.
_WRONG_ADVICE = re.compile("delete|damaged|again|no such file|not a ")


@contextlib.contextmanager
def forbidden(path: Path) -> Iterator[None]:
    """Within, this process has no permission to read a file or to enter a folder; not even as root, who has it always.

    A path has to be relative: another user than root cannot enter the folders that pytest's are in.
    """
    Path.cwd().chmod(0o755)
    mode, user = path.stat().st_mode, os.geteuid()
    path.chmod(0)
    if user == 0:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        path.chmod(mode)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Within, a file is locked as by a program that writes into it with HDF5."""
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def refused_for(*words: str) -> Iterator[None]:
    """Expect an UnreadableError that says these words, and advises nothing that would lose a sound file."""
    with pytest.raises(UnreadableError) as caught:
        yield
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert not _WRONG_ADVICE.search(message), message
