"""Plain files of arrays: one array per video or per segment, in .npy, .npz, .pt or HDF5.

A file holds one array and is named after its video or segment, or it holds many arrays by these ids. The ids say
whether the arrays are dense: ids of videos, or of segments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import DataError, OptionError, first_few
from features.featureset import Sampling
from features.formats.files import as_array, find_files, only_array, opened_arrays
from features.formats.source import Grid, Request, Rows, Source, WrongRowsError, as_float16, evenly, on_grid
from features.pickles import refused_in_one_line

# A file that does not say how its steps were sampled.
_UNKNOWN = Sampling("segment", clip_frames=1, steps_per_clip=1, num_frames=1)
_TIMES = ("fps", "stride", "offset")


def open_plain(*suffixes: str) -> Callable[[Request], Source]:
    """Return the function that opens files with these suffixes."""

    def open_files(request: Request) -> Source:
        videos, segments = set(request.segments.table.video_id), set(request.segments.narration_id)
        paths = _locate(find_files(request.path, suffixes), videos | segments)
        is_dense, is_by_segment = bool(videos & set(paths)), bool(segments & set(paths))
        if is_dense == is_by_segment:
            reason = "both of videos and of segments" if is_dense else "of no video and no segment"
            raise DataError(f"{request.path}: its ids ({first_few(paths)}) are {reason} of {request.segments.source}.")
        return _dense(paths, request) if is_dense else _by_segment(paths, request)

    return open_files


def _locate(files: Mapping[str, Path], known: set[str]) -> dict[str, Path]:
    """Return id -> file: the name of the file, or else the names of the arrays in it."""
    paths: dict[str, Path] = {}
    for stem, path in files.items():
        names = [stem]
        if stem not in known and path.suffix != ".npy":
            with opened_arrays(path) as arrays:
                names = [name for name in arrays if isinstance(name, str)]
            names = names if known.intersection(names) else [stem]
        for name in names:
            if name in paths:
                raise DataError(f"{path}: {name} is in {paths[name]} as well; import one of the files.")
            paths[name] = path
    return paths


class _Reader:
    """Reads arrays by id. The last file stays open, as one with 67,000 arrays takes long to open."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self._opened = contextlib.ExitStack()
        self._path: Path | None = None
        self._arrays: Mapping[str, Any] = {}

    def close(self) -> None:
        """Close the file that is open."""
        self._opened.close()
        self._path = None

    def read(self, name: str) -> Rows:
        """Return the rows of an id, with their seconds if the file holds these."""
        path = self._paths[name]
        where = str(path) if path.stem == name else f"{path}, {name}"
        if path != self._path:
            self.close()
            self._arrays = self._opened.enter_context(opened_arrays(path))
            self._path = path
        with refused_in_one_line(path):
            item = self._arrays if path.stem == name else self._arrays[name]
            features, seconds = only_array(path, item) if isinstance(item, Mapping) else (as_array(item), None)
            rows = as_float16(features, where)
        if seconds is not None and seconds.shape != (len(rows),):
            raise WrongRowsError(f"{where}: {len(rows)} rows, but seconds of shape {seconds.shape}.")
        return Rows(rows, seconds)


def _by_segment(paths: Mapping[str, Path], request: Request) -> Source:
    for name in _TIMES:
        if getattr(request, name) is not None:
            raise OptionError(f"--{name}", f"{request.path} holds an array per segment, whose rows are spread evenly.")
    reader = _Reader(paths)
    return Source(
        is_dense=False,
        files=paths,
        read=reader.read,
        sampling=_UNKNOWN,
        layout={},
        fps=0.0,
        spread=evenly,
        close=reader.close,
    )


def _dense(paths: Mapping[str, Path], request: Request) -> Source:
    given = {name: getattr(request, name) for name in _TIMES}
    missing = [f"--{name}" for name, value in given.items() if value is None]
    reader = _Reader(paths)
    if len(missing) == len(given) and (own := reader.read(next(iter(paths))).seconds) is not None and len(own) > 1:
        every_s = round(float(np.median(np.diff(own))), 9)  # sums of floating-point numbers differ in their last digits
        sampling = Sampling("dense", clip_frames=1, steps_per_clip=1, every_s=every_s)
        return Source(True, paths, _with_seconds(reader, None), sampling, {}, 1 / every_s, evenly, reader.close)
    if missing:
        raise OptionError(missing[0], f"is needed: {request.path} holds an array per video, and not the rows' times.")
    grid = Grid(**given)
    return on_grid(paths, _with_seconds(reader, grid), grid, close=reader.close)


def _with_seconds(reader: _Reader, grid: Grid | None) -> Callable[[str], Rows]:
    """Return a function that reads rows with the times of a grid, or else with those that the file holds."""

    def read(name: str) -> Rows:
        features, seconds = reader.read(name)
        if grid is not None:
            return Rows(features, grid.seconds(len(features)))
        if seconds is None:
            raise WrongRowsError(f"{name}: its file does not hold the seconds of its rows, as others do.")
        return Rows(features, seconds)

    return read
