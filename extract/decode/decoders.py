"""Processes that probe and decode videos, and the events that they send. Knows no segment, no clip and no torch.

If a worker dies or hangs, its current task is reported as failed, and a new worker takes over the rest.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from typing import BinaryIO, Generic, TypeAlias, TypeVar

import numpy as np

from extract.decode.planes import PlaneBatch
from extract.decode.probing import VideoInfo
from extract.decode.reading import AnyTask
from extract.decode.sources import Source
from extract.decode.staging import Staged
from extract.decode.worker import (
    BUFFER_BYTES,
    CHUNK_BYTES,
    NUM_BUFFERS,
    FilledBuffer,
    Finished,
    Heartbeat,
    Ready,
    Unreadable,
    batch_in,
    buffers_in,
)
from features.errors import DataError, OptionError
from features.failures import FailureKind

# A worker sends a heartbeat every second while it reads. Network file systems stall for a minute and come back.
HUNG_S = 300.0
# How often to ask whether the device has copied pictures, while it does and no worker has a message.
_POLL_S = 0.001
# One task to do and one to continue with, so that a worker never waits for the next.
_TASKS_PER_WORKER = 2


def num_workers_for(workers: int | None) -> int:
    """Return how many workers to start: `workers`, or by default one per CPU that this process may use.

    Raises:
        OptionError: `workers` is below 1.
    """
    if workers is not None and workers < 1:
        raise OptionError("--workers", f"{workers} is not a number of processes above 0.")
    if workers is not None:
        return workers
    # A SLURM job has fewer CPUs than its machine; macOS does not say.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Task: TypeAlias = Source | Staged | AnyTask
# What the caller knows a task by.
Key = TypeVar("Key")


@dataclass(frozen=True, eq=False)
class Frames:
    """Decoded frames, ascending. Their pictures lie in shared memory and are valid until `release` is called."""

    frames: tuple[int, ...]
    pictures: PlaneBatch
    release: Callable[[], None]


@dataclass(frozen=True)
class TaskFailure:
    """Why a task failed, or did not reach its end.

    Attributes:
        error: UNREADABLE_VIDEO, WORKER_DIED or WORKER_HUNG.
    """

    error: FailureKind
    message: str


@dataclass(frozen=True, eq=False)
class Event(Generic[Key]):
    """A result of a task: a VideoInfo, some Frames, or its end, which is Finished or a TaskFailure."""

    key: Key
    result: VideoInfo | Frames | Finished | TaskFailure


@dataclass(eq=False)
class _Worker(Generic[Key]):
    process: subprocess.Popen
    connection: Connection
    number: int  # says where its buffers lie in the shared memory
    tasks: deque[tuple[Key, Task]] = field(default_factory=deque)
    is_ready: bool = False
    heard_at: float = field(default_factory=time.monotonic)


class Decoders(Generic[Key]):
    """A fixed number of workers, used in a `with` statement, which ends them.

    `submit` tasks while `wants_task` says so, and take `events` as long as tasks are open.

    Args:
        chunk_bytes: how much of a buffer pictures may fill, unless a single picture needs more.
        stream: the number of the video stream to take in each file; by default the one that a player shows.
    """

    def __init__(self, num_workers: int, *, chunk_bytes: int = CHUNK_BYTES, stream: int | None = None) -> None:
        self._chunk_bytes, self._stream = chunk_bytes, stream
        self._file = _memory_file(num_workers * NUM_BUFFERS * BUFFER_BYTES)
        self._memory = mmap.mmap(self._file.fileno(), 0)
        self._unreleased: list[set[int]] = [set() for _ in range(num_workers)]  # the buffers of each worker's number
        self._backlog: deque[tuple[Key, Task]] = deque()
        # multiprocessing's `wait` makes a new one per call, which takes as long as all else that is done per message.
        self._selector = selectors.DefaultSelector()
        self._workers = [self._started(number) for number in range(num_workers)]

    def __enter__(self) -> Decoders[Key]:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.connection.close()
            worker.process.kill()
        for worker in self._workers:
            _wait_for(worker.process)
        self._selector.close()
        self._file.close()

    def _started(self, number: int) -> _Worker[Key]:
        # multiprocessing would make each worker import the program that runs here, and torch with it (3 s on a busy
        # machine), and would require `if __name__ == "__main__"` in every script.
        connection, worker_end = Pipe()
        arguments = (worker_end.fileno(), self._file.fileno(), number, self._chunk_bytes, self._stream)
        code = f"import sys; sys.path[:] = {sys.path!r}; from extract.decode.worker import serve; serve{arguments}"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            pass_fds=arguments[:2],
            start_new_session=True,  # Ctrl-C reaches every process of a terminal; only this process ends the workers
        )
        worker_end.close()  # so that the connection ends with the process
        self._selector.register(connection, selectors.EVENT_READ)
        worker: _Worker[Key] = _Worker(process, connection, number)
        for buffer in set(range(NUM_BUFFERS)) - self._unreleased[number]:
            self._send(worker, buffer)
        return worker

    def buffers(self) -> np.ndarray:
        """Return the memory in which pictures lie, unless a single one is larger: (N, bytes) uint8."""
        return buffers_in(self._memory).reshape(-1, BUFFER_BYTES)[:, : self._chunk_bytes]

    @property
    def num_workers(self) -> int:
        """How many workers there are."""
        return len(self._workers)

    @property
    def num_open(self) -> int:
        """How many submitted tasks have not ended."""
        return len(self._backlog) + sum(len(worker.tasks) for worker in self._workers)

    def wants_task(self) -> bool:
        """Return whether a task that is submitted now would start soon."""
        return self.num_open < _TASKS_PER_WORKER * len(self._workers)

    def submit(self, key: Key, task: Task) -> None:
        """Add a task: a source to probe, a `Staged` to copy and probe, or frames to decode. Events carry the key."""
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

    def _send(self, worker: _Worker[Key], message: object) -> None:
        # If it has died, the next read from its connection shows that.
        with contextlib.suppress(OSError):
            worker.connection.send(message)

    def events(self, poll: Callable[[], bool] = lambda: False) -> Iterator[Event[Key]]:
        """Wait until some tasks have results, and yield those. A worker waits while none of its buffers is released.

        Args:
            poll: is called again and again while this waits. It may release frames, and returns whether it has more to
                release soon.

        Raises:
            DataError: a worker does not even start.
        """
        has_events = False
        while self.num_open and not has_events:
            timeout = _POLL_S if poll() else 1.0
            ready = {key.fileobj for key, _ in self._selector.select(timeout)}
            now = time.monotonic()
            for worker in list(self._workers):
                # One message of each worker at a time: what a dead worker left in its buffers must be read before
                # the next worker takes the buffers over.
                if worker.connection in ready:
                    events = self._received(worker, now)
                elif (
                    worker.tasks
                    and len(self._unreleased[worker.number]) < NUM_BUFFERS
                    and now - worker.heard_at > HUNG_S
                ):
                    message = f"the process that read it gave no sign of life for {HUNG_S:.0f} s and was ended"
                    events = self._replaced(worker, TaskFailure(FailureKind.WORKER_HUNG, message))
                else:
                    continue
                for event in events:
                    has_events = True
                    yield event

    def _received(self, worker: _Worker[Key], now: float) -> list[Event[Key]]:
        """Take one message of a worker and return the events that it means."""
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            code = worker.process.wait()
            cause = f"signal {-code}" if code < 0 else f"exit code {code}"
            return self._replaced(
                worker, TaskFailure(FailureKind.WORKER_DIED, f"the process that read it ended by {cause}")
            )
        worker.heard_at = now
        if isinstance(message, Ready):
            worker.is_ready = True
        if isinstance(message, (Ready, Heartbeat)):
            return []
        key = worker.tasks[0][0]
        if isinstance(message, (Finished, Unreadable)):
            worker.tasks.popleft()
            self._hand_out()
        if isinstance(message, Unreadable):
            return [Event(key, TaskFailure(FailureKind.UNREADABLE_VIDEO, message.message))]
        return [Event(key, self._frames(worker, message) if isinstance(message, FilledBuffer) else message)]

    def _frames(self, worker: _Worker[Key], filled: FilledBuffer) -> Frames:
        batch = batch_in(
            buffers_in(self._memory)[worker.number, filled.buffer], filled.height, filled.width, self._chunk_bytes
        )
        num = len(filled.frames)
        unreleased = self._unreleased[worker.number]
        unreleased.add(filled.buffer)

        def release() -> None:
            unreleased.remove(filled.buffer)
            # If another worker has taken over, the buffer is its own now.
            owner = next(each for each in self._workers if each.number == worker.number)
            owner.heard_at = time.monotonic()  # it may have waited for this buffer
            self._send(owner, filled.buffer)

        return Frames(filled.frames, PlaneBatch(batch.y[:num], batch.uv[:num]), release)

    def _replaced(self, worker: _Worker[Key], failure: TaskFailure) -> list[Event[Key]]:
        """End a worker and start another in its place; return the failure of the task that it was doing."""
        if not worker.is_ready:
            raise DataError(f"a process to decode videos cannot start ({failure.message}); it may have printed why.")
        self._selector.unregister(worker.connection)
        worker.connection.close()
        worker.process.kill()
        _wait_for(worker.process)
        self._workers[self._workers.index(worker)] = self._started(worker.number)
        tasks = list(worker.tasks)
        self._backlog.extendleft(reversed(tasks[1:]))
        self._hand_out()
        return [Event(key, failure) for key, _ in tasks[:1]]


def _wait_for(process: subprocess.Popen) -> None:
    # A process that hangs in a network file system may not end even now.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)


def _memory_file(num_bytes: int) -> BinaryIO:
    """Return a file of this size that disappears once it is closed: in memory if there is room, else on disk."""
    in_memory = "/dev/shm"  # Linux; in containers often only 64 MB
    has_room = os.path.isdir(in_memory) and shutil.disk_usage(in_memory).free > num_bytes
    file = tempfile.TemporaryFile(dir=in_memory if has_room else None)  # noqa: SIM115 - closed with the workers
    file.truncate(num_bytes)
    return file
