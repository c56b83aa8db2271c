"""Where the boxes of each video are: a folder of the published detections, or tables of other detectors."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.regions.boxes import VideoBoxes
from extract.regions.tables import ENDINGS, read_tables
from features.errors import DataError
from features.files import unreadable

_PICKLE = ".pkl"
# Beside the published detections lie masks, whose files have the same names.
_MASKS = "masks"
_ENDS_BYTES = 65536


@dataclass(frozen=True)
class BoxFiles:
    """The boxes of the videos of a run.

    Attributes:
        path: the folder or the table that was given.
        files: video -> its own file, in a folder.
        tables: video -> its boxes, in a single table.
        min_score: the least score of a box that counts.
    """

    path: Path
    files: Mapping[str, Path]
    tables: Mapping[str, VideoBoxes]
    min_score: float

    @property
    def name(self) -> str:
        """What they are called in featureset.json: the format, and the name of the folder or the table."""
        formats = sorted({"epic" if path.suffix == _PICKLE else "table" for path in self.files.values()} or {"table"})
        return f"{'+'.join(formats)}:{self.path.resolve().name}"

    def __contains__(self, video_id: object) -> bool:
        return video_id in self.files or video_id in self.tables

    def fingerprint(self, video_id: str) -> str:
        """Return a text that differs for other boxes of a video; of a large file, by its size and its two ends.

        Raises:
            DataError: its file cannot be read.
        """
        if video_id in self.tables:
            boxes = self.tables[video_id]
            digest = hashlib.sha256(boxes.seconds.tobytes() + boxes.boxes.tobytes())
            return f"{self.path.name}, {len(boxes.seconds)} frames, {digest.hexdigest()[:16]}"
        path = self.files[video_id]
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest = hashlib.sha256(file.read(_ENDS_BYTES))
                file.seek(max(0, size - _ENDS_BYTES))
                digest.update(file.read(_ENDS_BYTES))
        except OSError as error:
            raise unreadable(path, error) from error
        return f"{path.name}, {size} bytes, {digest.hexdigest()[:16]}"

    def read(self, video_id: str) -> VideoBoxes:
        """Read the boxes of a video.

        Raises:
            DataError: there are none of it, or its file is damaged or of another video.
        """
        if video_id not in self:
            raise DataError(self.missing_message(video_id))
        return self.tables[video_id] if self.tables else read_boxes(self.files[video_id], video_id, self.min_score)

    def missing_message(self, video_id: str) -> str:
        """Return what to say of a video without boxes."""
        return f"{self.path}: holds no boxes of {video_id}."


def read_boxes(path: Path, video_id: str, min_score: float) -> VideoBoxes:
    """Read the boxes of a video from its own file, of either format.

    Raises:
        DataError: the file is damaged, or of another video.
    """
    if path.suffix == _PICKLE:
        from extract.regions.hand_objects import read_hand_objects

        return read_hand_objects(path, video_id, min_score=min_score)
    tables = read_tables(path, min_score=min_score)
    if set(tables) != {video_id}:
        others = ", ".join(sorted(set(tables) - {video_id}))
        raise DataError(
            f"{path}: is of {others}; a file in a folder of boxes holds those of the video it is named after."
        )
    return tables[video_id]


def find_boxes(path: Path, video_ids: Iterable[str], *, min_score: float) -> BoxFiles:
    """Return where the boxes of videos are: `path` is a table of all, or a folder with a file for each video below it.

    Files are named after their video: P01/hand-objects/P01_101.pkl, or P01_101.csv and so on in any folder.

    Raises:
        DataError: there is nothing at `path`, a table is wrong, or a folder has two files for a video or none at all.
    """
    path = Path(path)
    if path.is_file():
        if not path.name.endswith(ENDINGS):
            raise DataError(f"{path}: is neither a folder nor a table ({', '.join(ENDINGS)}).")
        return BoxFiles(path, {}, read_tables(path, min_score=min_score), min_score)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder or table of boxes.")
    files: dict[str, Path] = {}
    for folder, names, entries in os.walk(path):
        names[:] = sorted(name for name in names if name != _MASKS and not name.startswith("."))
        for entry in sorted(entries):
            stem, ending = _split(entry)
            if ending is None or entry.startswith("."):
                continue
            if stem in files:
                raise DataError(
                    f"{path}: the boxes of {stem} are there twice: {files[stem]} and {Path(folder, entry)}."
                )
            files[stem] = Path(folder, entry)
    if not set(files) & set(video_ids):
        raise DataError(f"{path}: holds no boxes of these videos, such as P01/hand-objects/P01_101.pkl or P01_101.csv.")
    return BoxFiles(path, files, {}, min_score)


def _split(name: str) -> tuple[str, str | None]:
    """Return the name of a file without its ending, and the ending if it is one of boxes."""
    for ending in (_PICKLE, *ENDINGS):
        if name.endswith(ending):
            return name.removesuffix(ending), ending
    return name, None


class BoxReader:
    """Reads the boxes of videos in processes of its own, ahead of need: those of an hour take some seconds."""

    def __init__(self, files: BoxFiles, num_processes: int) -> None:
        self._files = files
        self._pool = ThreadPoolExecutor(num_processes, "boxes")  # each thread waits for one process

    def __enter__(self) -> BoxReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(self, video_id: str) -> Callable[[], VideoBoxes]:
        """Start to read the boxes of a video, and return the function that waits for them.

        It raises DataError if the file is damaged, or of another video.
        """
        if video_id in self._files.tables:
            return lambda: self._files.tables[video_id]
        return self._pool.submit(_read_apart, self._files.files[video_id], video_id, self._files.min_score).result


def _read_apart(path: Path, video_id: str, min_score: float) -> VideoBoxes:
    """Read the boxes of a video in another process, which imports neither torch nor the program that runs here."""
    arguments = (str(path), video_id, min_score)
    code = f"import sys; sys.path[:] = {sys.path!r}; from extract.regions.source import _write; _write{arguments!r}"
    process = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        start_new_session=True,  # Ctrl-C reaches every process of a terminal; this one lets the other finish
    )
    if process.returncode:
        message = process.stderr.decode(errors="replace").strip()
        if process.returncode != _DATA_ERROR:
            cause = message.splitlines()[-1] if message else f"exit code {process.returncode}"
            message = f"{path}: the process that read it failed ({cause}); is the memory full?"
        raise DataError(message)
    content = np.load(io.BytesIO(process.stdout), allow_pickle=False)
    return VideoBoxes(content["seconds"], content["boxes"])


_DATA_ERROR = 65  # the exit code of a process that has found a file to be wrong


def _write(path: str, video_id: str, min_score: float) -> None:
    """Write the boxes of a video to the standard output; a process does nothing else."""
    try:
        found = read_boxes(Path(path), video_id, min_score)
    except DataError as error:
        print(error, file=sys.stderr)
        sys.exit(_DATA_ERROR)
    content = io.BytesIO()
    np.savez(content, seconds=found.seconds, boxes=found.boxes)
    sys.stdout.buffer.write(content.getbuffer())
