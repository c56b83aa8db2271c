"""What a format makes of published files: arrays by the id of a video or segment, and the times of their rows.

Knows no annotations and no feature set: features/importing.py compares and writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from features.annotations import Segments
from features.errors import DataError, OptionError
from features.featureset import Sampling

_ROWS_AT_ONCE = 4096
_MAX_FLOAT16 = 65504.0


class WrongRowsError(DataError):
    """An array has another number of rows, or other times, than it should; its segments are recorded as failed."""


class Rows(NamedTuple):
    """The rows of one array: features (N, V, D) float16, and seconds (N,) float64 in the video.

    Without seconds, the rows of a segment lie where `Source.spread` puts them.
    """

    features: np.ndarray
    seconds: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Source:
    """The opened files of a publication.

    Attributes:
        is_dense: whether an array holds the rows of a whole video, and not of one segment.
        files: id of a video or segment -> the file that holds its array.
        read: returns the rows of an id. It raises WrongRowsError for rows that do not fit, and DataError for a file
            that is damaged or holds values that float16 does not.
        sampling: how the rows lie in time.
        layout: what else is known of them, for the record.
        spread: (number of rows, start, stop) -> the seconds of a segment's rows, (N,).
        fps: the frames per second that the publication counts in.
        close: closes the files.
    """

    is_dense: bool
    files: Mapping[str, Path]
    read: Callable[[str], Rows]
    sampling: Sampling
    layout: Mapping[str, Any]
    fps: float
    spread: Callable[[int, float, float], np.ndarray]
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True, eq=False)
class Request:
    """What the user said about the files to import; None where nothing was said.

    Attributes:
        path: the file or folder.
        segments: the annotations, which tell ids of videos from ids of segments.
        part: which of several kinds of features.
        fps, stride, offset: the rows of a dense array: row t lies at frame stride * t + offset, at fps per second.
        intervals: files with the times of the rows.
    """

    path: Path
    segments: Segments
    part: str | None = None
    fps: float | None = None
    stride: float | None = None
    offset: float | None = None
    intervals: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Grid:
    """The times of the rows of dense arrays: row t lies at frame stride * t + offset, at fps frames per second."""

    fps: float
    stride: float
    offset: float

    def __post_init__(self) -> None:
        for name in ("fps", "stride"):
            if not 0 < getattr(self, name) < np.inf:
                raise OptionError(f"--{name}", f"{getattr(self, name)} is not a number above 0.")
        if not abs(self.offset) < np.inf:
            raise OptionError("--offset", f"{self.offset} is not a number of frames.")

    def seconds(self, num_rows: int) -> np.ndarray:
        """Return the times of rows, (N,) float64.

        >>> Grid(fps=30, stride=16, offset=16).seconds(3).round(3).tolist()
        [0.533, 1.067, 1.6]
        """
        return (self.stride * np.arange(num_rows) + self.offset) / self.fps


def evenly(num_rows: int, start_s: float, stop_s: float) -> np.ndarray:
    """Return the middles of equal parts of a segment, (N,) float64.

    >>> evenly(2, 10.0, 14.0).tolist()
    [11.0, 13.0]
    """
    return start_s + (stop_s - start_s) * (np.arange(num_rows) + 0.5) / num_rows


def on_grid(
    files: Mapping[str, Path],
    read: Callable[[str], Rows],
    grid: Grid,
    *,
    clip_frames: int = 1,
    clip_fps: float | None = None,
    close: Callable[[], None] = lambda: None,
) -> Source:
    """Return a source of dense arrays whose rows lie on a grid of times."""
    return Source(
        is_dense=True,
        files=files,
        read=read,
        sampling=Sampling("dense", clip_frames, 1, every_s=grid.stride / grid.fps, clip_fps=clip_fps),
        layout={"fps": grid.fps, "stride": grid.stride, "offset": grid.offset},
        fps=grid.fps,
        spread=evenly,
        close=close,
    )


def as_float16(array: Any, where: str, *, with_views: bool = False) -> np.ndarray:
    """Return an array (N, D) or (D,) of numbers as (N, 1, D) float16, block by block.

    Args:
        array: of numpy, or what slices like one; of a file on disk, only one block at a time is in memory.
        where: the file and the id, for messages.
        with_views: whether it has views, (N, V, D), which stay.

    Raises:
        DataError: it has another shape or holds no numbers, or a value is not finite or beyond float16's range.
    """
    is_of_numbers = getattr(array, "dtype", np.dtype("O")).kind in "fiu"
    if not is_of_numbers or array.ndim not in (1, 2, 3)[: 3 if with_views else 2] or 0 in array.shape:
        kind = f"{array.dtype} {tuple(array.shape)}" if hasattr(array, "dtype") else type(array).__name__
        raise DataError(f"{where}: holds {kind}, not an array of numbers by row and value.")
    shape = {1: (1, 1, *array.shape), 2: (len(array), 1, array.shape[-1]), 3: tuple(array.shape)}[array.ndim]
    features = np.empty(shape, dtype=np.float16)
    rows_at_once = max(1, _ROWS_AT_ONCE // shape[1])
    for first in range(0, len(features), rows_at_once):
        stop = min(first + rows_at_once, len(features))
        block = np.asarray(array[first:stop] if array.ndim > 1 else array[:]).reshape(stop - first, *shape[1:])
        _need_in_range(block, first, where)
        features[first:stop] = block
    return features


def _need_in_range(block: np.ndarray, first: int, where: str) -> None:
    low, high = block.min(), block.max()
    if low >= -_MAX_FLOAT16 and high <= _MAX_FLOAT16:  # false for NaN as well
        return
    bad = ~(np.abs(block) <= _MAX_FLOAT16)
    row = int(bad.any(axis=(1, 2)).argmax())
    value = block[row][bad[row]][0]
    reason = f"beyond the largest float16, {_MAX_FLOAT16:g}" if np.isfinite(value) else "not finite"
    raise DataError(f"{where}: row {first + row} has the value {value:g}, {reason}; nothing of it was imported.")
