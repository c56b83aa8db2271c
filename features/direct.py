"""A faster way to read features again: straight from the bytes of a file that h5py has read and checked before."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.store import opened, video_path, views_of

_CHECKSUM_BYTES = 4
# Chunks per system call. Each takes two buffers; Linux takes at most 1024 buffers, or 2 GB.
_CHUNKS_AT_ONCE = 64


@dataclass(frozen=True)
class FeaturesLocation:
    """Where the features of a video lie in its file: in chunks of rows, each followed by a checksum.

    Attributes:
        state: inode, size and change time of the file, by which a later change is noticed.
        shape: (N, V, D), of float16.
        views: names of the V views.
        rows: the number of rows per chunk.
        runs: (first byte, first chunk, number of chunks) per run of chunks that lie one after the other.
    """

    path: Path
    state: tuple[int, int, int]
    shape: tuple[int, int, int]
    views: tuple[str, ...]
    rows: int
    runs: tuple[tuple[int, int, int], ...]


def find_features(root: Path, video_id: str, *, digest: str) -> FeaturesLocation | None:
    """Return where in a video's file its features lie; None if the file is not laid out as `write_video` does it.

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
        # HDF5 fills in a chunk that is missing, and a chunk of another size has no checksum.
        if not is_whole or any(chunk.size != size for chunk in chunks):
            return None
        return FeaturesLocation(path, state, stored.shape, views_of(file, path), stored.chunks[0], _runs(starts, size))


def _runs(starts: dict[int, int], size: int) -> tuple[tuple[int, int, int], ...]:
    """Return the runs of chunks that lie one after the other; HDF5 puts tables of its own between some chunks."""
    runs: list[tuple[int, int, int]] = []
    for number, start in sorted(starts.items()):
        offset, first, count = runs[-1] if runs else (0, 0, _CHUNKS_AT_ONCE)
        if count < _CHUNKS_AT_ONCE and (number, start) == (first + count, offset + count * size):
            runs[-1] = (offset, first, count + 1)
        else:
            runs.append((start, number, 1))
    return tuple(runs)


def _state_of(file: Path | int) -> tuple[int, int, int]:
    stat = os.stat(file)
    return stat.st_ino, stat.st_size, stat.st_ctime_ns


def read_unchanged(location: FeaturesLocation, *, out: np.ndarray | None = None) -> np.ndarray | None:
    """Read features without checking checksums: (N, V, D) float16; None if the file has changed since.

    HDF5 takes longer to compare checksums than to read, and keeps Python's other threads waiting meanwhile.

    Args:
        out: an array that is filled and returned if it has the shape of the features.
    """
    if out is None or out.shape != location.shape:
        out = np.empty(location.shape, dtype=np.float16)
    checksum = np.empty(_CHECKSUM_BYTES, dtype=np.uint8)
    try:
        with open(location.path, "rb", buffering=0) as file:
            if _state_of(file.fileno()) != location.state:
                return None
            for offset, first, count in location.runs:
                rows = range(first * location.rows, (first + count) * location.rows, location.rows)
                buffers = [buffer.data for row in rows for buffer in (out[row : row + location.rows], checksum)]
                file.seek(offset)
                if os.readv(file.fileno(), buffers) != sum(buffer.nbytes for buffer in buffers):
                    return None
    except OSError:
        return None  # reading the file in full will tell what is wrong
    return out
