"""The forms in which a video lies on a disk: one file, JPEG frames, or several files that continue each other.

Reads nothing: extract/videos.py finds sources, extract/decode/reading.py reads them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

# The names of JPEG frames: frame_0000000001.jpg and so on.
FRAME_NAME = re.compile(r"(frame_)(\d+)(\.jpe?g)", re.IGNORECASE)


@dataclass(frozen=True)
class FrameFiles:
    """JPEG frames.

    Attributes:
        path: a folder, or a tar.
        fps: frames per second; frame 1 is at second 0.
    """

    path: Path
    fps: Fraction


@dataclass(frozen=True)
class FileSeries:
    """Several video files that continue each other: the chunks of a video, or the chapters that a camera writes.

    Attributes:
        path: what messages call the video.
        files: in order of time; all in one folder.
        starts: the second at which each file begins, or None if each begins where the file before it ends.
        until_s: if `starts` is None, no file that begins after this second is read.
    """

    path: Path
    files: tuple[Path, ...]
    starts: tuple[Fraction, ...] | None
    until_s: float = math.inf


# A path is a single video file.
Source: TypeAlias = Path | FrameFiles | FileSeries


def path_of(source: Source) -> Path:
    """Return the path that messages name."""
    return source if isinstance(source, Path) else source.path


def base_of(source: Source) -> Path:
    """Return the file or the folder with which the paths of all files of a source begin."""
    return source.files[0].parent if isinstance(source, FileSeries) else path_of(source)


def needed_until(source: Source, second: float) -> Source:
    """Return a source that may end at the first file that reaches this second."""
    return replace(source, until_s=second) if isinstance(source, FileSeries) else source
