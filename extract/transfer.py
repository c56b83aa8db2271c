"""The planes of decoded frames go to where they are scaled, and their buffers back to the workers. Knows no clip.

CPU, MPS   planes are scaled where they lie; the buffer is free once that is done
CUDA       buffers are pinned memory: the device copies planes straight out of them, while this process goes on, and
           a buffer is free once the device has copied it
"""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch

from extract.decode.decoders import Frames
from extract.decode.planes import PlaneBatch


class Transfer(Protocol):
    """How planes get to where they are scaled."""

    def planes(self, batch: PlaneBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return luma (K, H, W) and chroma (K, 2, H / 2, W / 2), valid until `release` is called."""

    def release(self, frames: Frames) -> None:
        """Release the frames whose planes were taken last, as soon as they are not read any more."""

    def poll(self) -> bool:
        """Release what is not read any more; return whether some frames are still read."""


@contextmanager
def transfer_to(device: torch.device, buffers: np.ndarray | None = None) -> Iterator[Transfer]:
    """Give the transfer to a device while frames are taken.

    Args:
        buffers: (N, bytes) uint8, the memory in which frames will lie. CUDA has it pinned meanwhile; frames elsewhere
            are copied to pinned memory first.
    """
    if device.type != "cuda":
        yield _InPlace()  # older MPS cannot resize with antialiasing, and a small picture is copied faster than a large
        return
    pinned = _pinned(buffers, device) if buffers is not None else []
    transfer = _ToCuda(device, pinned)
    try:
        yield transfer
    finally:
        transfer.finish()
        for buffer in pinned:
            torch.cuda.cudart().cudaHostUnregister(buffer.ctypes.data)


class _InPlace:
    def planes(self, batch: PlaneBatch) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(batch.y), torch.from_numpy(batch.uv)

    def release(self, frames: Frames) -> None:
        frames.release()

    def poll(self) -> bool:
        return False


class _ToCuda:
    """Copies planes on a stream of its own; on the default stream they would wait until the backbone's batch is done.

    Args:
        pinned: the memory that the device reads itself.
    """

    def __init__(self, device: torch.device, pinned: list[np.ndarray]) -> None:
        self._device = device
        self._pinned = [(buffer.ctypes.data, buffer.ctypes.data + buffer.nbytes) for buffer in pinned]
        self._stream = torch.cuda.Stream(device)
        self._copied: torch.cuda.Event | None = None  # the planes that were taken last, if the device reads them itself
        self._copying: deque[tuple[torch.cuda.Event, Frames]] = deque()

    def planes(self, batch: PlaneBatch) -> tuple[torch.Tensor, torch.Tensor]:
        is_pinned = self._is_pinned(batch)
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            y, uv = (
                (part if is_pinned else part.pin_memory()).to(self._device, non_blocking=True)
                for part in (torch.from_numpy(batch.y), torch.from_numpy(batch.uv))
            )
            self._copied = None
            if is_pinned:
                self._copied = torch.cuda.Event()
                self._copied.record(self._stream)
        computing.wait_stream(self._stream)
        for copy in (y, uv):
            copy.record_stream(computing)  # or its memory would be free for the next copy while it is still being read
        return y, uv

    def _is_pinned(self, batch: PlaneBatch) -> bool:
        start, stop = batch.y.ctypes.data, batch.uv.ctypes.data + batch.uv.nbytes
        return any(first <= start and stop <= last for first, last in self._pinned)

    def release(self, frames: Frames) -> None:
        if self._copied is None:
            frames.release()
        else:
            self._copying.append((self._copied, frames))
            self.poll()

    def poll(self) -> bool:
        while self._copying and self._copying[0][0].query():
            self._copying.popleft()[1].release()
        return bool(self._copying)

    def finish(self) -> None:
        """Wait until the device has copied everything, and release it."""
        while self._copying:
            self._copying[0][0].synchronize()
            self.poll()


def _pinned(buffers: np.ndarray, device: torch.device) -> list[np.ndarray]:
    """Have memory pinned, and return the buffers that are; say so where that is not possible."""
    pinned = []
    for buffer in buffers:
        error = torch.cuda.cudart().cudaHostRegister(buffer.ctypes.data, buffer.nbytes, 0)
        if int(error):
            print(
                f"CUDA cannot read the memory of decoded frames itself (cudaHostRegister: error {int(error)}), so they "
                "are copied once more, which takes time of this process.",
                file=sys.stderr,
                flush=True,
            )
            # CUDA reports the error again at the next launch of a kernel, and only there.
            with contextlib.suppress(RuntimeError):
                torch.zeros(1, device=device)
            break
        pinned.append(buffer)
    return pinned
