"""Features read past HDF5, from a file that has been read and checked before."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.store import opened, video_path

_CHECKSUM_BYTES = 4


_CHUNKS_AT_ONCE = 64  # two buffers each; a kernel takes 1024 of them, or 2 GB


@dataclass(frozen=True)
class FeaturesPlace:
    """Where the features of a video lie in its file: in chunks of rows with a checksum behind each.

    Attributes:
        state: tells whether the file has been written since.
        shape: (N, V, D), of float16.
        rows: in a chunk.
        runs: (first byte, first chunk, number of chunks) of those that lie one after the other.
    """

    path: Path
    state: tuple[int, int, int]
    shape: tuple[int, int, int]
    rows: int
    runs: tuple[tuple[int, int, int], ...]


def find_features(root: Path, video_id: str, *, digest: str) -> FeaturesPlace | None:
    """Find where in a video's file its features lie; None where they do not lie as `write_video` puts them.

    Raises:
        DataError: as for `read_video`.
    """
    path = video_path(root, video_id)
    with opened(path, digest) as file:
        state, stored = _state_of(path), file["features"]
        filters = stored.id.get_create_plist().get_nfilters()
        if stored.dtype != np.float16 or not stored.fletcher32 or filters != 1 or stored.chunks[1:] != stored.shape[1:]:
            return None
        chunks = [stored.id.get_chunk_info(number) for number in range(stored.id.get_num_chunks())]
        starts = {chunk.chunk_offset[0] // stored.chunks[0]: chunk.byte_offset for chunk in chunks}
        size = math.prod(stored.chunks) * stored.dtype.itemsize + _CHECKSUM_BYTES
        is_whole = sorted(starts) == list(range(-(-len(stored) // stored.chunks[0])))
        if not is_whole or any(chunk.size != size for chunk in chunks):  # what HDF5 fills in, or left unchecked
            return None
        return FeaturesPlace(path, state, stored.shape, stored.chunks[0], _runs(starts, size))


def _runs(starts: dict[int, int], size: int) -> tuple[tuple[int, int, int], ...]:
    """Join chunks that lie one after the other; HDF5 puts tables of its own between some."""
    runs: list[tuple[int, int, int]] = []
    for number, start in sorted(starts.items()):
        offset, first, count = runs[-1] if runs else (0, 0, _CHUNKS_AT_ONCE)
        if count < _CHUNKS_AT_ONCE and (number, start) == (first + count, offset + count * size):
            runs[-1] = (offset, first, count + 1)
        else:
            runs.append((start, number, 1))
    return tuple(runs)


def _state_of(file: Path | int) -> tuple[int, int, int]:
    found = os.stat(file)
    return found.st_ino, found.st_size, found.st_ctime_ns


def read_unchanged(place: FeaturesPlace, *, out: np.ndarray | None = None) -> np.ndarray | None:
    """Read features whose file has been read before, without its checksums: (N, V, D) float16; None if it has changed.

    HDF5 takes longer to compare checksums than to read, and keeps Python's other threads waiting meanwhile.

    Args:
        out: where to put them, and what to give back, if it has their shape.
    """
    if out is None or out.shape != place.shape:
        out = np.empty(place.shape, dtype=np.float16)
    checksum = bytearray(_CHECKSUM_BYTES)
    try:
        with open(place.path, "rb", buffering=0) as file:
            if _state_of(file.fileno()) != place.state:
                return None
            for offset, first, count in place.runs:
                rows = range(first * place.rows, (first + count) * place.rows, place.rows)
                buffers = [buffer for row in rows for buffer in (out[row : row + place.rows], checksum)]
                file.seek(offset)
                if os.readv(file.fileno(), buffers) != sum(memoryview(one).nbytes for one in buffers):
                    return None
    except OSError:
        return None  # whoever reads it in full says what is wrong
    return out
