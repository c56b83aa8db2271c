"""What a file is that FFmpeg cannot open although its name is that of a video. Knows no decoder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_GIT_LFS = b"version https://git-lfs.github.com/spec/"
_MARKUP = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<error")
# With which an mp4 or a mov begins.
_FIRST_BOXES = (b"ftyp", b"wide", b"free", b"skip", b"mdat")
# Nothing is looked for behind so many boxes: a fragmented mp4 may have any number of them, but not before its moov.
_MAX_BOXES = 1000


def what_it_is(path: Path) -> str | None:
    """Return what a file is and what to do about it, or None if it looks like a video, or cannot be read."""
    try:
        with open(path, "rb") as file:
            start = file.read(1024)
            if not start:
                return "it is empty; copy or download it again."
            if start.startswith(_GIT_LFS):
                return "it is a git-lfs pointer, not the video itself; run `git lfs pull` where it was cloned."
            if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_MARKUP):
                return (
                    "it is a web page, such as a download saves in place of a file after an error; download it again."
                )
            if not start.strip(b"\0"):
                return "it begins with zeros, as a file whose download never ended; download it again."
            if start[4:8] in _FIRST_BOXES and b"moov" not in _boxes(file):
                return _WITHOUT_INDEX
    except OSError:
        pass  # FFmpeg's own error says that
    return None


_WITHOUT_INDEX = (
    "its index is missing (no moov atom): the camera stopped before it had written the index, or the end of a copy is "
    "missing; copy it again, or repair it with a tool such as untrunc, which needs a sound file of the same camera."
)


def _boxes(file: BinaryIO) -> Iterator[bytes]:
    """Yield the kinds of the top boxes of an mp4 (ISO/IEC 14496-12, 4.2)."""
    position, size = 0, os.fstat(file.fileno()).st_size
    for _ in range(_MAX_BOXES):
        file.seek(position)
        header = file.read(16)
        if len(header) < 8:
            return
        yield header[4:8]
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:], "big")
        if length < 8 or position + length > size:  # 0: up to the end of the file
            return
        position += length
