"""Pictures on the device, addressed by number, so that a batch is gathered by a few operations, not one per picture.

    frames of a message, one part of each    -> a block of k pictures, k numbers       (one resize, one copy)
    clips that are complete                  -> numbers of their pictures, (n, L)      (no operation on the device)
    a batch of clips                         -> `gathered`, (B * L, 3, h, w)           (one operation per block)

Knows no video and no colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class Blocks:
    """Pictures that are numbered through.

    Attributes:
        first: (N,) int64, the number of the first picture of each block, ascending.
        tensors: N blocks, each (k, 3, h, w) uint8.
    """

    first: np.ndarray
    tensors: tuple[torch.Tensor, ...]


class BlockStore:
    """Blocks that are kept until their last use. Uses are numbered in the order in which they come."""

    def __init__(self) -> None:
        self._num_pictures = 0
        self._kept: list[tuple[int, int, torch.Tensor]] = []  # first number, last use, pictures

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, block: torch.Tensor, *, last_use: int) -> np.ndarray:
        """Keep a block and return the numbers of its pictures, (k,) int64."""
        first = self._num_pictures
        self._num_pictures += len(block)
        self._kept.append((first, last_use, block))
        return np.arange(first, self._num_pictures)

    def kept(self) -> Blocks:
        """Return the blocks that are kept now."""
        first = np.array([first for first, _, _ in self._kept], np.int64)
        return Blocks(first, tuple(block for _, _, block in self._kept))

    def forget(self, num_uses: int) -> None:
        """Forget the blocks that have no use from this one on."""
        self._kept = [kept for kept in self._kept if kept[1] >= num_uses]


@torch.inference_mode()
def gathered(runs: Sequence[tuple[Blocks, np.ndarray]]) -> torch.Tensor:
    """Return the pictures of several runs of clips as one tensor.

    Args:
        runs: blocks and numbers of pictures in them, of any shape; all pictures have one size and device.

    Returns:
        (K, 3, h, w) uint8 on the device of the blocks, in the order of the numbers.
    """
    tensors: list[torch.Tensor] = []
    block_parts, row_parts = [], []
    for blocks, numbers in runs:
        index = np.searchsorted(blocks.first, numbers.ravel(), side="right") - 1
        block_parts.append(index + len(tensors))
        row_parts.append(numbers.ravel() - blocks.first[index])
        tensors.extend(blocks.tensors)
    block = np.concatenate(block_parts)
    device = tensors[0].device
    order = np.argsort(block, kind="stable")
    rows = on_device(np.concatenate(row_parts)[order], device)
    pictures = tensors[0].new_empty(len(block), *tensors[0].shape[1:])
    start = 0
    for tensor, count in zip(tensors, np.bincount(block, minlength=len(tensors)).tolist(), strict=True):
        if count:
            part = slice(start, start + count)
            torch.index_select(tensor, 0, rows[part], out=pictures[part])
            start += count
    if (block[1:] >= block[:-1]).all():
        return pictures
    return pictures.index_select(0, on_device(np.argsort(order), device))


def on_device(numbers: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return numbers as a tensor on a device. CUDA copies them later, and nothing waits for that."""
    tensor = torch.from_numpy(numbers)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
