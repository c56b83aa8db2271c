"""The status file of a running task: <set>/running/HOST.PID.json names the videos it works on, for `extract status`.

Nothing else reads these files and nothing depends on them: a file that cannot be written is missing, and one that is no
longer renewed is out of date.
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
# The file of a killed task counts as running for this long; a slow file system may delay a living task's file.
STALE_S = 120.0


@dataclass(frozen=True)
class RunningTask:
    """A running task: its machine and process, its share, and the videos that it works on.

    Attributes:
        shard: (task, number of tasks); None if the run is no task of an array.
    """

    host: str
    pid: int
    shard: tuple[int, int] | None
    videos: tuple[str, ...]


class StatusWriter:
    """Keeps the status file of this process up to date within a `with` statement."""

    def __init__(self, root: Path, shard: tuple[int, int] | None) -> None:
        self._host, self._pid = socket.gethostname(), os.getpid()
        self._path = Path(root) / "running" / f"{self._host}.{self._pid}.json"
        self._shard = shard
        self._videos: dict[str, None] = {}  # in the order in which they began
        self._changed, self._ended = threading.Event(), threading.Event()
        # A thread, because the loop may take long over one batch.
        self._thread = threading.Thread(target=self._keep_writing, name="status-writer", daemon=True)

    def __enter__(self) -> StatusWriter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._changed.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()  # refused while other tasks have files there

    def begin(self, video_id: str) -> None:
        """Note that a video has begun."""
        self._videos[video_id] = None
        self._changed.set()

    def end(self, video_id: str) -> None:
        """Note that a video is finished, with or without features."""
        self._videos.pop(video_id, None)
        self._changed.set()

    def _keep_writing(self) -> None:
        while not self._ended.is_set():
            self._changed.clear()
            task = RunningTask(self._host, self._pid, self._shard, tuple(self._videos.copy()))
            with contextlib.suppress(DataError):
                write_json(self._path, asdict(task))
            self._ended.wait(_AT_MOST_EVERY_S)
            self._changed.wait(_EVERY_S)


def read_running_tasks(root: Path, *, now: float) -> list[RunningTask]:
    """Return the tasks whose status files have been renewed lately, by task number.

    Args:
        now: seconds since the epoch.
    """
    tasks = []
    for path in sorted((Path(root) / "running").glob("[!.]*.json")):
        # A file that has just been removed, or holds something else, is skipped.
        with contextlib.suppress(OSError, DataError, KeyError, TypeError, IndexError):
            if now - path.stat().st_mtime > STALE_S:
                continue
            record = read_json(path)
            shard = None if record["shard"] is None else (record["shard"][0], record["shard"][1])
            tasks.append(RunningTask(record["host"], record["pid"], shard, tuple(record["videos"])))
    return sorted(tasks, key=lambda task: (task.shard or (-1, 0), task.host, task.pid))
