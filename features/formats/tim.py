"""The features of TIM (Chalk et al., CVPR 2024): a row every 0.2 s, several augmented views in training.

A file per video, {video}.npy of [N, views, D], and pickled tables with the interval of each row, in order of its start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.errors import DataError, OptionError, first_few
from features.featureset import Sampling
from features.formats.files import find_files, opened_arrays
from features.formats.source import Request, Rows, Source, WrongRowsError, as_float16, evenly
from features.frames import read_frame

_FPS = 60.0
_COLUMNS = ("video_id", "start_sec", "stop_sec")
# Width of a file -> which of its values a part is. In merged files Omnivore comes first.
_MERGED, _OWN = 2048, slice(None)
PARTS: dict[str, dict[int, slice]] = {
    "omnivore": {1024: _OWN, _MERGED: slice(0, 1024)},
    "videomae": {1024: _OWN, _MERGED: slice(1024, 2048)},
    "merged": {_MERGED: _OWN},
    "audio": {2304: _OWN},
}


def open_tim(request: Request) -> Source:
    """Open the files of a folder, with the intervals of their rows."""
    assert request.part is not None
    if not request.intervals:
        raise OptionError("--intervals", "is needed: the pickled tables with the interval of each row.")
    times = _read_intervals(request.intervals)
    files, widths = find_files(request.path, (".npy",)), PARTS[request.part]

    def read(video_id: str) -> Rows:
        path = files[video_id]
        if video_id not in times:
            raise WrongRowsError(f"{path}: --intervals have no rows of video {video_id}.")
        with opened_arrays(path) as arrays:
            array: Any = arrays["feats"]
            if array.ndim == 0 or array.shape[-1] not in widths:
                expected = " or ".join(map(str, widths))
                raise DataError(f"{path}: an array of {array.shape}, not of {expected} values; is --part right?")
            features = as_float16(array[..., widths[array.shape[-1]]], str(path), with_views=True)
        start_s, stop_s = times[video_id]
        if len(features) != len(start_s):
            raise WrongRowsError(f"{path}: {len(features)} rows, but --intervals have {len(start_s)} of its video.")
        return Rows(features, (start_s + stop_s) / 2)

    hop_s = np.concatenate([np.diff(start_s) for start_s, _ in times.values()])
    length_s = np.concatenate([stop_s - start_s for start_s, stop_s in times.values()])
    every_s = round(float(np.median(hop_s)), 3)
    return Source(
        is_dense=True,
        files=files,
        read=read,
        sampling=Sampling("dense", clip_frames=1, steps_per_clip=1, every_s=every_s),
        layout={"interval": round(float(np.median(length_s)), 3)},
        fps=_FPS,
        spread=evenly,
    )


def _read_intervals(paths: tuple[Path, ...]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the start and the stop of each video's rows, in order of their start."""
    times: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for path in paths:
        frame = read_frame(path)
        missing = [name for name in _COLUMNS if name not in frame]
        if missing:
            raise DataError(f"{path}: no column {', '.join(missing)}; it has {first_few(frame.columns)}.")
        for name in ("start_sec", "stop_sec"):
            frame[name] = pd.to_numeric(frame[name], errors="coerce")
        if frame[["start_sec", "stop_sec"]].isna().to_numpy().any():
            raise DataError(f"{path}: a start_sec or stop_sec is no number.")
        for key, rows in frame.groupby("video_id"):
            video_id = str(key)
            if video_id in times:
                raise DataError(f"{path}: video {video_id} is in another file of --intervals as well; give each once.")
            ordered = rows.sort_values("start_sec", kind="stable")
            times[video_id] = (ordered.start_sec.to_numpy(float), ordered.stop_sec.to_numpy(float))
    return times
