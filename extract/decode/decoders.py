"""Processes that probe and decode videos, and what comes of them. Knows no segment, no clip and no torch.

A worker that dies or hangs costs the task it was at, which is reported as lost; another worker takes its place.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import BinaryIO

from extract.decode.planes import PlaneBatch
from extract.decode.staging import Staged
from extract.decode.video import Reading, VideoInfo
from extract.decode.worker import (
    BUFFER_BYTES,
    NUM_BUFFERS,
    Alive,
    Filled,
    Finished,
    Ready,
    Refused,
    batch_in,
    buffers_in,
)
from features.errors import DataError, OptionError
from features.failures import FailureKind

# A worker gives a sign of life every second while it reads. Network file systems stall for a minute and come back.
HUNG_S = 300.0
# One to do and one to go on with, so that a worker never waits for word from here.
_TASKS_PER_WORKER = 2


def num_workers_for(asked: int | None) -> int:
    """Give how many workers to start: as many as asked for, by default one for each CPU that this process may use.

    Raises:
        OptionError: fewer than one.
    """
    if asked is not None and asked < 1:
        raise OptionError("--workers", f"{asked} is not a number of processes above 0.")
    if asked is not None:
        return asked
    # A SLURM job has fewer CPUs than its machine; macOS does not say.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, eq=False)
class Frames:
    """Decoded frames, ascending; the pictures lie in shared memory, and are good until `release` is called."""

    frames: tuple[int, ...]
    pictures: PlaneBatch
    release: Callable[[], None]


@dataclass(frozen=True)
class Lost:
    """A task that came to nothing, or not to its end.

    Attributes:
        error: UNREADABLE_VIDEO, WORKER_DIED or WORKER_HUNG.
    """

    error: FailureKind
    message: str


@dataclass(frozen=True, eq=False)
class Event:
    """What a task gave: a VideoInfo, some Frames, or its end: Finished or Lost."""

    key: Hashable
    what: VideoInfo | Frames | Finished | Lost


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen
    connection: Connection
    number: int  # of its place in the shared memory
    tasks: deque[tuple[Hashable, Path | Staged | Reading]] = field(default_factory=deque)
    is_ready: bool = False
    unread: int = 0  # buffers that are not free again
    heard_at: float = field(default_factory=time.monotonic)


class Decoders:
    """A fixed number of workers; to be used in a `with` statement, which ends them.

    `submit` tasks while `wants_task` says so, and take `events` as long as tasks are open.
    """

    def __init__(self, num_workers: int) -> None:
        self._file = _memory_file(num_workers * NUM_BUFFERS * BUFFER_BYTES)
        self._memory = mmap.mmap(self._file.fileno(), 0)
        self._backlog: deque[tuple[Hashable, Path | Staged | Reading]] = deque()
        self._workers = [self._started(number) for number in range(num_workers)]

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.connection.close()
            worker.process.kill()
        for worker in self._workers:
            _wait_for(worker.process)
        self._file.close()

    def _started(self, number: int) -> _Worker:
        # multiprocessing would have each worker import the program that runs here, and torch with it (3 s on a busy
        # machine), and asks every script for an `if __name__ == "__main__"`.
        ours, theirs = Pipe()
        arguments = (theirs.fileno(), self._file.fileno(), number)
        code = f"import sys; sys.path[:] = {sys.path!r}; from extract.decode.worker import serve; serve{arguments}"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            pass_fds=arguments[:2],
            start_new_session=True,  # Ctrl-C reaches every process of a terminal; this one says when they end
        )
        theirs.close()  # so that the end of the process is the end of the connection
        return _Worker(process, ours, number)

    @property
    def num_workers(self) -> int:
        """How many there are."""
        return len(self._workers)

    @property
    def num_open(self) -> int:
        """How many tasks have been submitted and not ended."""
        return len(self._backlog) + sum(len(worker.tasks) for worker in self._workers)

    def wants_task(self) -> bool:
        """Whether a task that is submitted now is soon begun."""
        return self.num_open < _TASKS_PER_WORKER * len(self._workers)

    def submit(self, key: Hashable, task: Path | Staged | Reading) -> None:
        """Have a video probed, copied first if it is to be staged, or frames of it decoded; events carry the key."""
        self._backlog.append((key, task))
        self._hand_out()

    def _hand_out(self) -> None:
        while self._backlog:
            worker = min(self._workers, key=lambda worker: len(worker.tasks))
            if len(worker.tasks) == _TASKS_PER_WORKER:
                return
            if not worker.tasks:
                worker.heard_at = time.monotonic()
            worker.tasks.append(self._backlog.popleft())
            self._send(worker, worker.tasks[-1][1])

    def _send(self, worker: _Worker, message: object) -> None:
        # Where it has died, the next look at its connection shows that.
        with contextlib.suppress(OSError):
            worker.connection.send(message)

    def events(self) -> Iterator[Event]:
        """Wait until some tasks give something, and give that. Pictures must be released before the next call.

        Raises:
            DataError: a worker does not even start.
        """
        found = False
        while self.num_open and not found:
            ready = set(wait([worker.connection for worker in self._workers], timeout=1.0))
            now = time.monotonic()
            for worker in list(self._workers):
                # One message of each: what a worker that has died left in its buffers must be read before another
                # worker takes them over.
                if worker.connection in ready:
                    events = self._heard(worker, now)
                elif worker.tasks and worker.unread < NUM_BUFFERS and now - worker.heard_at > HUNG_S:
                    what = f"the process that read it gave no sign of life for {HUNG_S:.0f} s and was ended"
                    events = self._replaced(worker, FailureKind.WORKER_HUNG, what)
                else:
                    continue
                for event in events:
                    found = True
                    yield event

    def _heard(self, worker: _Worker, now: float) -> list[Event]:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            code = worker.process.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            return self._replaced(worker, FailureKind.WORKER_DIED, f"the process that read it ended by {how}")
        worker.heard_at = now
        if isinstance(message, Ready):
            worker.is_ready = True
        if isinstance(message, (Ready, Alive)):
            return []
        key = worker.tasks[0][0]
        if isinstance(message, (Finished, Refused)):
            worker.tasks.popleft()
            self._hand_out()
            lost = isinstance(message, Refused)
            return [Event(key, Lost(FailureKind.UNREADABLE_VIDEO, message.message) if lost else message)]
        return [Event(key, self._frames(worker, message) if isinstance(message, Filled) else message)]

    def _frames(self, worker: _Worker, filled: Filled) -> Frames:
        worker.unread += 1
        whole = batch_in(buffers_in(self._memory, worker.number)[filled.buffer], filled.height, filled.width)
        num = len(filled.frames)

        def release() -> None:
            worker.unread -= 1
            worker.heard_at = time.monotonic()  # it may have waited for this
            self._send(worker, filled.buffer)

        return Frames(filled.frames, PlaneBatch(whole.y[:num], whole.uv[:num]), release)

    def _replaced(self, worker: _Worker, error: FailureKind, what: str) -> list[Event]:
        """End a worker and start another in its place; give the loss of the task it was at."""
        if not worker.is_ready:
            raise DataError(f"a process to decode videos cannot start ({what}); it may have printed why.")
        worker.connection.close()
        worker.process.kill()
        _wait_for(worker.process)
        self._workers[self._workers.index(worker)] = self._started(worker.number)
        tasks = list(worker.tasks)
        self._backlog.extendleft(reversed(tasks[1:]))
        self._hand_out()
        return [Event(key, Lost(error, what)) for key, _ in tasks[:1]]


def _wait_for(process: subprocess.Popen) -> None:
    # One that hangs within a network file system may outlive even this.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)


def _memory_file(num_bytes: int) -> BinaryIO:
    """Give a file of this size that is gone once it is closed: in memory where there is room, else on disk."""
    in_memory = "/dev/shm"  # Linux; in containers often only 64 MB
    has_room = os.path.isdir(in_memory) and shutil.disk_usage(in_memory).free > num_bytes
    file = tempfile.TemporaryFile(dir=in_memory if has_room else None)  # noqa: SIM115 - closed with the workers
    file.truncate(num_bytes)
    return file
