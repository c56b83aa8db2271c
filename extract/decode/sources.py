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
# Two videos of the extension were first published with 60 frames per second instead of 50: how many these were.
PUBLISHED_AT_60 = {"P01_109": 222487, "P27_103": 146918}


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


def published_fps(video_id: str) -> Fraction | None:
    """Return the rate that the published frames of a video, and the detections in them, were resampled to.

    One is that of the videos of EPIC-KITCHENS-55, the other that of the extension. None for any other video.
    """
    if re.fullmatch(r"P\d\d_\d\d", video_id):
        return Fraction(60)
    return Fraction(50) if re.fullmatch(r"P\d\d_1\d\d", video_id) else None


def path_of(source: Source) -> Path:
    """Return the path that messages name."""
    return source if isinstance(source, Path) else source.path


def base_of(source: Source) -> Path:
    """Return the file or the folder with which the paths of all files of a source begin."""
    return source.files[0].parent if isinstance(source, FileSeries) else path_of(source)


def needed_until(source: Source, second: float) -> Source:
    """Return a source that may end at the first file that reaches this second."""
    return replace(source, until_s=second) if isinstance(source, FileSeries) else source
