"""Dense features for detecting actions, as ActionFormer and OpenTAD read them: {video}.npz or {video}.npy, [T, D]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from features.errors import OptionError
from features.formats.files import find_files, only_array, opened_arrays
from features.formats.source import Grid, Request, Rows, Source, as_float16, on_grid

_FPS = 30.0


@dataclass(frozen=True)
class Published:
    """The times of published features: a clip every `stride` frames, whose row counts for a frame.

    Attributes:
        clip_frames: frames of a clip, at 30 per second.
        offset: the frame of row 0; None where nobody says.
    """

    clip_frames: int
    stride: float
    offset: float | None


SLOWFAST = Published(clip_frames=32, stride=16, offset=16)
# The configurations of OpenTAD say 16 and 4; for VideoMAE-L it has none.
OPENTAD = {
    "slowfast": SLOWFAST,
    "internvideo2": Published(clip_frames=16, stride=8, offset=4),
    "videomae": Published(clip_frames=16, stride=8, offset=None),
}


def open_actionformer(request: Request) -> Source:
    """Open the features of ActionFormer (Zhang et al., ECCV 2022)."""
    return _open(request, SLOWFAST)


def open_opentad(request: Request) -> Source:
    """Open features of OpenTAD (Liu et al.), each kind with its own times."""
    assert request.part is not None
    return _open(request, OPENTAD[request.part])


def _open(request: Request, published: Published) -> Source:
    offset = _either(request.offset, published.offset)
    if offset is None:
        raise OptionError(
            "--offset", f"is needed: the frame of row 0 of {request.part} features is not published; ask who made them."
        )
    grid = Grid(_either(request.fps, _FPS), _either(request.stride, published.stride), offset)
    files = find_files(request.path, (".npz", ".npy"))

    def read(name: str) -> Rows:
        path = files[name]
        with opened_arrays(path) as arrays:
            features = as_float16(only_array(path, arrays)[0], str(path))
        return Rows(features, grid.seconds(len(features)))

    return on_grid(files, read, grid, clip_frames=published.clip_frames, clip_fps=_FPS)


def _either(given: float | None, default: Any) -> Any:
    return default if given is None else given
