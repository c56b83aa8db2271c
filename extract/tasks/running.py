"""A note beside a feature set of the videos that a run is at: <set>/running/HOST.PID.json, for `extract status`.

Nothing else reads it, and nothing depends on it: a note that cannot be written is missing, and one that is no longer
renewed is out of date.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from features.errors import DataError
from features.files import read_json, write_json

_EVERY_S = 30.0
_AT_MOST_EVERY_S = 1.0
# What a killed run left is taken for running as long as this; a slow file system may keep a live one from its note.
STALE_S = 120.0


@dataclass(frozen=True)
class Note:
    """A run: where, as which task of how many (None: of its own), and at which videos."""

    host: str
    pid: int
    shard: tuple[int, int] | None
    videos: tuple[str, ...]


class Notekeeper:
    """Keeps the note of this process up to date, within a `with` statement; told of the videos that begin and end."""

    def __init__(self, root: Path, shard: tuple[int, int] | None) -> None:
        self._host, self._pid = socket.gethostname(), os.getpid()
        self._path = Path(root) / "running" / f"{self._host}.{self._pid}.json"
        self._shard = shard
        self._videos: dict[str, None] = {}  # in the order in which they began
        self._changed, self._ended = threading.Event(), threading.Event()
        # A thread, since the loop may be long at one batch.
        self._thread = threading.Thread(target=self._keep, name="notekeeper", daemon=True)

    def __enter__(self) -> Notekeeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._changed.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()  # refused while other runs have notes there

    def begin(self, video_id: str) -> None:
        """Note that a video has begun."""
        self._videos[video_id] = None
        self._changed.set()

    def end(self, video_id: str) -> None:
        """Note that a video is done or lost."""
        self._videos.pop(video_id, None)
        self._changed.set()

    def _keep(self) -> None:
        while not self._ended.is_set():
            self._changed.clear()
            with contextlib.suppress(DataError):
                write_json(self._path, asdict(Note(self._host, self._pid, self._shard, tuple(self._videos.copy()))))
            self._ended.wait(_AT_MOST_EVERY_S)
            self._changed.wait(_EVERY_S)


def read_notes(root: Path, *, now: float) -> list[Note]:
    """Give the notes that have been renewed lately, by task.

    Args:
        now: seconds since the epoch.
    """
    notes = []
    for path in sorted((Path(root) / "running").glob("[!.]*.json")):
        # One that is gone since, or not a note, says nothing.
        with contextlib.suppress(OSError, DataError, KeyError, TypeError):
            if now - path.stat().st_mtime > STALE_S:
                continue
            record = read_json(path)
            shard = None if record["shard"] is None else tuple(record["shard"])
            notes.append(Note(record["host"], record["pid"], shard, tuple(record["videos"])))
    return sorted(notes, key=lambda note: (note.shard or (-1, 0), note.host, note.pid))
