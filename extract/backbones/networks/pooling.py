"""The maps and tokens of a network become steps: averaged over space, or kept as a small grid."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F


def pooled_map(x: torch.Tensor, grid: int) -> torch.Tensor:
    """Return a map averaged over each cell of a `grid` x `grid` grid: (B, D, P, H, W) -> (B, P, grid * grid, D).

    Cells go row by row. If H or W is no multiple of `grid`, neighbouring cells share a row or a column
    (torch's adaptive pooling).
    """
    if grid == 1:
        return x.mean(dim=(3, 4)).transpose(1, 2).unsqueeze(2)
    frames = x.transpose(1, 2)  # (B, P, D, H, W); MPS has no adaptive pooling in three dimensions
    cells = F.adaptive_avg_pool2d(frames.flatten(0, 1), grid).unflatten(0, frames.shape[:2])
    return cells.flatten(3).transpose(2, 3)


def pooled_tokens(x: torch.Tensor, grid: int) -> torch.Tensor:
    """Return the averages of the N tokens of each temporal position: (B, P, N, D) -> (B, P, grid * grid, D).

    The tokens are the rows of a square map.
    """
    if grid == 1:
        return x.mean(dim=2, keepdim=True)
    side = math.isqrt(x.shape[2])
    return pooled_map(x.unflatten(2, (side, side)).permute(0, 4, 1, 2, 3), grid)
