"""Maps and tokens of a network to the steps of a feature set: averaged over space, or kept as a small grid."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F


def pooled_map(x: torch.Tensor, grid: int) -> torch.Tensor:
    """Average a map over the cells of a grid of `grid` x `grid`: (B, D, P, H, W) -> (B, P, grid * grid, D).

    Cells go row by row. Where H or W is no multiple of `grid`, neighbouring cells share a row or a column
    (torch's adaptive pooling).
    """
    return F.adaptive_avg_pool3d(x, (None, grid, grid)).flatten(3).permute(0, 2, 3, 1)


def pooled_tokens(x: torch.Tensor, grid: int) -> torch.Tensor:
    """Average the N tokens of each temporal position, rows of a square: (B, P, N, D) -> (B, P, grid * grid, D)."""
    if grid == 1:
        return x.mean(dim=2, keepdim=True)
    side = math.isqrt(x.shape[2])
    return pooled_map(x.unflatten(2, (side, side)).permute(0, 4, 1, 2, 3), grid)
