"""The process that probes and decodes for another one: the other side of extract/decode/decoders.py.

It loads av and numpy and never torch, so that many of them start at once and stay small. Pictures go through shared
memory, everything else through a connection.
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
from pathlib import Path

import numpy as np

from extract.decode.planes import PlaneBatch, Planes
from extract.decode.staging import Staged, staged
from extract.decode.video import Reading, VideoError, decode, probe

# Each worker fills one buffer while another is being read. A buffer holds a picture of 4096 x 2160 pixels.
NUM_BUFFERS = 3
BUFFER_BYTES = 16 * 2**20
# Of smaller pictures it takes only so much: what has just been decoded should still be in the processor's cache.
_CHUNK_BYTES = 4 * 2**20
_CHUNK_FRAMES = 64
_ALIVE_EVERY_S = 1.0


# ---- what is sent: a path (to be probed), a Staged (to be copied first) or a Reading (to be decoded), and numbers of
# buffers that are free again. What comes back: first Ready; then for a path its VideoInfo, for a Reading any number of
# Filled; Finished or Refused at the end of each; and Alive in between.


@dataclass(frozen=True)
class Ready:
    """The worker has started."""


@dataclass(frozen=True)
class Alive:
    """The worker is copying a video or reading packets."""


@dataclass(frozen=True)
class Filled:
    """A buffer holds these frames, ascending; their pictures are of one size."""

    buffer: int
    frames: tuple[int, ...]
    height: int
    width: int


@dataclass(frozen=True)
class Finished:
    """All of the task is done."""


@dataclass(frozen=True)
class Refused:
    """The video cannot be used at all; why."""

    message: str


def serve(connection: int, memory: int, number: int) -> None:
    """Do the tasks that come through a connection until it is closed.

    Args:
        connection, memory: file descriptors of a socket and of a file that all workers map into their memory.
        number: of this worker, whose buffers lie at this place in it.
    """
    # A scheduler that stops a job sends this to all of its processes; the one that runs the backbone says when to end.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # Where backbone and decoders share the processor, a picture decoded early is of no use to a backbone held up.
    os.nice(19)
    _serve(Connection(connection), buffers_in(mmap.mmap(memory, 0), number))


def buffers_in(memory: mmap.mmap, number: int) -> np.ndarray:
    """Give the buffers of a worker, (NUM_BUFFERS, BUFFER_BYTES) uint8."""
    return np.frombuffer(memory, np.uint8).reshape(-1, NUM_BUFFERS, BUFFER_BYTES)[number]


def _serve(connection: Connection, buffers: np.ndarray) -> None:
    tasks: queue.SimpleQueue[Path | Staged | Reading] = queue.SimpleQueue()
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for buffer in range(NUM_BUFFERS):
        free.put(buffer)
    # Always listening, so that the other side never waits for this one to take a message.
    threading.Thread(target=_listen, args=(connection, tasks, free), daemon=True).start()
    connection.send(Ready())
    alive = _seldom(lambda: connection.send(Alive()))
    while True:
        task = tasks.get()
        try:
            if isinstance(task, Reading):
                _decode(task, connection, buffers, free, alive)
            else:
                path = staged(task, alive) if isinstance(task, Staged) else task
                connection.send(probe(path, on_packet=alive))
            connection.send(Finished())
        except VideoError as error:
            connection.send(Refused(str(error)))


def _listen(connection: Connection, tasks: queue.SimpleQueue, free: queue.SimpleQueue) -> None:
    try:
        while True:
            message = connection.recv()
            (free if isinstance(message, int) else tasks).put(message)
    except (EOFError, OSError):
        os._exit(0)  # the other side has closed the connection, or is gone


def _seldom(call: Callable[[], None]) -> Callable[[], None]:
    last = time.monotonic()

    def throttled() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _ALIVE_EVERY_S:
            last = now
            call()

    return throttled


def _decode(
    task: Reading,
    connection: Connection,
    buffers: np.ndarray,
    free: queue.SimpleQueue[int],
    alive: Callable[[], None],
) -> None:
    buffer: int | None = None
    frames: list[int] = []
    batch = PlaneBatch(np.empty((0, 0, 0), np.uint8), np.empty((0, 2, 0, 0), np.uint8))

    def send() -> None:
        connection.send(Filled(buffer, tuple(frames), *batch.y.shape[1:]))

    for frame, planes in decode(task, on_packet=alive):
        if frames and (len(frames) == len(batch) or planes.y.shape != batch.y.shape[1:]):
            send()
            frames = []
        if not frames:
            buffer = free.get()
            batch = batch_in(buffers[buffer], *planes.y.shape)
            if not len(batch):
                raise VideoError(f"{task.path}: its pictures {planes.y.shape} are larger than {BUFFER_BYTES} bytes.")
        _put(planes, batch, len(frames))
        frames.append(frame)
    if frames:
        send()


def _put(planes: Planes, batch: PlaneBatch, place: int) -> None:
    batch.y[place] = planes.y
    batch.uv[place, 0] = planes.u
    batch.uv[place, 1] = planes.v


def batch_in(space: np.ndarray, height: int, width: int) -> PlaneBatch:
    """Give the pictures of a size that lie in a buffer, (BUFFER_BYTES,) uint8: no more than one message hands over.

    None where not even one fits.
    """
    half = (height + 1) // 2, (width + 1) // 2
    luma, chroma = height * width, half[0] * half[1]
    num = min(_CHUNK_FRAMES, _CHUNK_BYTES // (luma + 2 * chroma)) or int(luma + 2 * chroma <= BUFFER_BYTES)
    y, uv = space[: num * luma], space[num * luma : num * (luma + 2 * chroma)]
    return PlaneBatch(y.reshape(num, height, width), uv.reshape(num, 2, *half))
