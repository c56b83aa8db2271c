"""The features of MTCN (Kazakos et al., BMVC 2021): ten clips of each segment, of SlowFast for pictures and for sound.

HDF5 files for training, validation and test, with `visual_features/<narration_id>` and `audio_features/<narration_id>`,
[10, 2304] float32 each.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import DataError
from features.featureset import Sampling
from features.formats.files import find_files, opened_arrays
from features.formats.source import Request, Rows, Source, WrongRowsError, as_float16
from features.pickles import refused_in_one_line

_NUM_CLIPS = 10
_CLIP_FRAMES = 64
_FPS = 60.0


def open_mtcn(request: Request) -> Source:
    """Open one of the files, or all of a folder."""
    group = f"{request.part}_features"
    arrays: dict[str, Any] = {}
    opened = contextlib.ExitStack()
    files: dict[str, Path] = {}
    for path in find_files(request.path, (".hdf5", ".h5")).values():
        content = opened.enter_context(opened_arrays(path))
        if group not in content:
            raise DataError(f"{path}: has no group {group}; it has {', '.join(list(content)[:5]) or 'nothing'}.")
        with refused_in_one_line(path):
            by_name = content[group]  # once: HDF5 is slow to close any file while thousands of groups are open
            for name in by_name:
                if name in files:
                    raise DataError(f"{path}: segment {name} is in {files[name]} as well; import one of the files.")
                arrays[name], files[name] = by_name, path

    def read(name: str) -> Rows:
        where = f"{files[name]}, segment {name}"
        with refused_in_one_line(files[name]):
            features = as_float16(arrays[name][name], where)
        if len(features) != _NUM_CLIPS:
            raise WrongRowsError(f"{where}: {len(features)} rows, not one for each of {_NUM_CLIPS} clips.")
        return Rows(features, None)

    return Source(
        is_dense=False,
        files=files,
        read=read,
        sampling=Sampling("segment", _CLIP_FRAMES, 1, num_frames=_NUM_CLIPS * _CLIP_FRAMES, clip_fps=_FPS),
        layout={"clips": _NUM_CLIPS},
        fps=_FPS,
        spread=clip_centres,
        close=opened.close,
    )


def clip_centres(num_clips: int, start_s: float, stop_s: float) -> np.ndarray:
    """Return the centres of the clips of a segment, kept within it, (N,) float64.

    Clip i begins at a share i / N of what the segment is longer than a clip; in a shorter one all clips are the same.

    >>> clip_centres(10, 20.0, 20.0 + 64 / 60 + 1.0).round(3).tolist()[:3]
    [20.533, 20.633, 20.733]
    >>> clip_centres(10, 20.0, 20.4).tolist()[:2]
    [20.4, 20.4]
    """
    clip_s = _CLIP_FRAMES / _FPS
    starts = start_s + max(stop_s - start_s - clip_s, 0.0) * np.arange(num_clips) / num_clips
    return np.clip(starts + clip_s / 2, start_s, stop_s)
