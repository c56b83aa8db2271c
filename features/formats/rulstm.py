"""The features of RULSTM (Furnari and Farinella, ICCV 2019): a row per frame at 30 per second, in LMDB databases.

Keys are `P01_101_frame_0000000123.jpg`, counted from 1; values are float32. Frames without a key are gaps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import DataError
from features.formats.source import Grid, Request, Rows, Source, as_float16, on_grid

if TYPE_CHECKING:
    import lmdb

# Values of a row.
WIDTHS = {"rgb": 1024, "flow": 1024, "obj": 352}
_FPS = 30.0
_KEY = re.compile(rb"([A-Za-z0-9_-]+)_frame_(\d{10})\.jpg")
_ROWS_AT_ONCE = 1024


def open_rulstm(request: Request) -> Source:
    """Open the database of one kind: its folder, or the folder with rgb, flow and obj in it."""
    assert request.part is not None
    path, width = _find_database(request.path, request.part), WIDTHS[request.part]
    environment = _open_lmdb(path)
    grid = Grid(_FPS, 1, 0)

    def read(video_id: str) -> Rows:
        with environment.begin() as transaction:
            numbers, blocks = [], []
            for found in _blocks(transaction.cursor(), video_id, width, path):
                numbers += [number for number, _ in found]
                values = np.stack([value for _, value in found])
                blocks.append(as_float16(values, f"{path}, video {video_id}, frame {found[0][0]} and on"))
        return Rows(np.concatenate(blocks), (np.array(numbers) - 1) / _FPS)

    with environment.begin() as transaction:
        files = dict.fromkeys(_video_ids(transaction.cursor(), path), path)
    return on_grid(files, read, grid, close=environment.close)


def _find_database(path: Path, part: str) -> Path:
    """Return the file of a database: of the part in a folder of several, or the given one."""
    folders = [path / part, path / f"{part}_full", path]
    files = [folder / "data.mdb" for folder in folders] + [path]
    for file in files:
        if file.is_file():
            return file
    raise DataError(f"{path}: holds no {part}/data.mdb, {part}_full/data.mdb or data.mdb.")


def _open_lmdb(path: Path) -> lmdb.Environment:
    """Open a database for reading, without a lock file.

    LMDB maps the file into memory: reading behind its end would end the process, so the size is checked here.
    """
    try:
        import lmdb
    except ModuleNotFoundError as error:
        raise DataError("lmdb is not installed, and reads these files: pip install '.[import]'") from error
    try:
        environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False, create=False)
        num_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    except lmdb.Error as error:
        raise DataError(f"{path}: not an LMDB database, or cut short ({error}); download it again.") from error
    if num_bytes > path.stat().st_size:
        raise DataError(f"{path}: {path.stat().st_size:,} bytes of {num_bytes:,}: it is cut short; download it again.")
    return environment


def _video_ids(cursor: Any, path: Path) -> Iterator[str]:
    """Yield the ids of the videos, by a jump behind the last possible frame of each."""
    has_key = cursor.first()
    while has_key:
        video_id, _ = _parsed(cursor.key(), path)
        yield video_id
        has_key = cursor.set_range(f"{video_id}_frame_~".encode())


def _parsed(key: bytes, path: Path) -> tuple[str, int]:
    match = _KEY.fullmatch(key)
    if match is None:
        raise DataError(f"{path}: its key {key[:80]!r} is not of the form P01_101_frame_0000000123.jpg.")
    return match[1].decode(), int(match[2])


def _blocks(cursor: Any, video_id: str, width: int, path: Path) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Yield the rows of a video in the order of its frames, as (number, values), some at a time."""
    prefix, block = f"{video_id}_frame_".encode(), []
    has_key = cursor.set_range(prefix)
    while has_key and cursor.key().startswith(prefix):
        _, number = _parsed(cursor.key(), path)
        value = cursor.value()
        if len(value) != 4 * width:
            raise DataError(
                f"{path}, video {video_id}, frame {number}: {len(value)} bytes, not {width} values of float32; "
                "is --part right?"
            )
        block.append((number, np.frombuffer(value, dtype="<f4")))
        has_key = cursor.next()
        if len(block) == _ROWS_AT_ONCE:
            yield block
            block = []
    if block:
        yield block
