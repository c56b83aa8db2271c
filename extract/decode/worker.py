"""The process that probes and decodes videos for another process: the other side of extract/decode/decoders.py.

It loads av and numpy but never torch, so that many such processes start quickly and stay small. Pictures go through
shared memory, everything else through a connection.
"""

from __future__ import annotations

import mmap
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np

from extract.decode.container import VideoError
from extract.decode.planes import MAX_PICTURE_BYTES, PlaneBatch, Planes, planes_bytes
from extract.decode.reading import AnyTask, decode, probe
from extract.decode.sources import Source
from extract.decode.staging import Staged, staged

# Each worker fills one buffer while another is being read. Only what pictures need of a buffer takes memory.
NUM_BUFFERS = 3
BUFFER_BYTES = MAX_PICTURE_BYTES
# With smaller pictures only so much of it is used: what was just decoded should still be in the processor's cache.
CHUNK_BYTES = 4 * 2**20
# A GPU copies pictures itself, and what the other process does per message should be for many pictures: 64 of 640x360.
CHUNK_BYTES_FOR_GPU = 24 * 2**20
_CHUNK_FRAMES = 64
_HEARTBEAT_EVERY_S = 1.0


# ---- messages
#
# To the worker: a Source (to probe), a Staged (to copy first) or a task to decode; and the numbers of buffers that are
# free, first and again. From the worker: first Ready; then for a source its VideoInfo, or for a task to decode any
# number of FilledBuffers; at the end of each task Finished or Unreadable; and a Heartbeat in between.


@dataclass(frozen=True)
class Ready:
    """The worker has started."""


@dataclass(frozen=True)
class Heartbeat:
    """The worker is copying a video or reading packets."""


@dataclass(frozen=True)
class FilledBuffer:
    """A buffer holds the pictures of these frames, ascending; all have one size."""

    buffer: int
    frames: tuple[int, ...]
    height: int
    width: int


@dataclass(frozen=True)
class Finished:
    """The task is done."""


@dataclass(frozen=True)
class Unreadable:
    """The video cannot be used at all; the message says why."""

    message: str


def serve(connection: int, memory: int, number: int, chunk_bytes: int, stream: int | None) -> None:
    """Do the tasks that come through a connection until it is closed.

    Args:
        connection, memory: file descriptors of a socket and of a file that all workers map into their memory.
        number: the number of this worker, which says where its buffers lie in that memory.
        chunk_bytes: how much of a buffer pictures may fill, unless a single picture needs more.
        stream: the video stream to take, if not the one that a player shows.
    """
    # A scheduler that stops a job sends these signals to all of its processes; the process that runs the backbone
    # decides when to end.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # If backbone and decoders share the processor, the backbone goes first: early pictures are of no use to it.
    os.nice(19)
    _serve(Connection(connection), buffers_in(mmap.mmap(memory, 0))[number], chunk_bytes, stream)


def buffers_in(memory: mmap.mmap) -> np.ndarray:
    """Return the buffers of all workers, (workers, NUM_BUFFERS, BUFFER_BYTES) uint8."""
    return np.frombuffer(memory, np.uint8).reshape(-1, NUM_BUFFERS, BUFFER_BYTES)


def _serve(connection: Connection, buffers: np.ndarray, chunk_bytes: int, stream: int | None) -> None:
    tasks: queue.SimpleQueue[Source | Staged | AnyTask] = queue.SimpleQueue()
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    # A thread always listens, so that the other side never waits until this one takes a message.
    threading.Thread(target=_listen, args=(connection, tasks, free), daemon=True).start()
    connection.send(Ready())
    heartbeat = _throttled(lambda: connection.send(Heartbeat()))
    while True:
        task = tasks.get()
        try:
            if isinstance(task, AnyTask):
                _decode(task, connection, buffers, free, chunk_bytes, heartbeat)
            else:
                source = staged(task, heartbeat) if isinstance(task, Staged) else task
                connection.send(probe(source, stream=stream, on_packet=heartbeat))
            connection.send(Finished())
        except VideoError as error:
            connection.send(Unreadable(str(error)))


def _listen(connection: Connection, tasks: queue.SimpleQueue, free: queue.SimpleQueue) -> None:
    try:
        while True:
            message = connection.recv()
            (free if isinstance(message, int) else tasks).put(message)
    except (EOFError, OSError):
        os._exit(0)  # the other side has closed the connection, or is gone


def _throttled(call: Callable[[], None]) -> Callable[[], None]:
    """Return a function that makes the call, but at most once per second."""
    last = time.monotonic()

    def call_if_due() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _HEARTBEAT_EVERY_S:
            last = now
            call()

    return call_if_due


def _decode(
    task: AnyTask,
    connection: Connection,
    buffers: np.ndarray,
    free: queue.SimpleQueue[int],
    chunk_bytes: int,
    heartbeat: Callable[[], None],
) -> None:
    buffer = 0
    frames: list[int] = []
    batch = PlaneBatch(np.empty((0, 0, 0), np.uint8), np.empty((0, 2, 0, 0), np.uint8))

    def send() -> None:
        height, width = batch.y.shape[1:]
        connection.send(FilledBuffer(buffer, tuple(frames), height, width))

    for frame, planes in decode(task, on_packet=heartbeat):
        if frames and (len(frames) == len(batch) or planes.y.shape != batch.y.shape[1:]):
            send()
            frames = []
        if not frames:
            buffer = free.get()
            height, width = planes.y.shape
            batch = batch_in(buffers[buffer], height, width, chunk_bytes)
        _put(planes, batch, len(frames))
        frames.append(frame)
    if frames:
        send()


def _put(planes: Planes, batch: PlaneBatch, index: int) -> None:
    batch.y[index] = planes.y
    batch.uv[index, 0] = planes.u
    batch.uv[index, 1] = planes.v


def batch_in(space: np.ndarray, height: int, width: int, chunk_bytes: int) -> PlaneBatch:
    """Return the batch of pictures that a buffer holds, at most as many as one message announces.

    The batch is a view of the buffer.

    Args:
        space: (BUFFER_BYTES,) uint8.
        height, width: of a picture of at most BUFFER_BYTES.
        chunk_bytes: how much of the buffer several pictures may fill.
    """
    half = (height + 1) // 2, (width + 1) // 2
    luma, size = height * width, planes_bytes(height, width)
    num = min(_CHUNK_FRAMES, chunk_bytes // size) or 1
    y, uv = space[: num * luma], space[num * luma : num * size]
    return PlaneBatch(y.reshape(num, height, width), uv.reshape(num, 2, *half))
