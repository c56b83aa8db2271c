"""Cells that a step can lack, such as a hand's: which of them attention sees, and what the other heads are told.

`Steps.has_region` says which cells have their region. The others are of the plain centre crop, so they say what the
whole picture says, once more. Heads that attend leave them out where the segment has anything better. The other heads
read all values of a step, and one more: the share of the segment's steps that have any region.
"""

from __future__ import annotations

import torch

from heads.data.steps import Steps
from heads.models.pooling import zeroed


def seen_cells(steps: Steps) -> torch.Tensor:
    """Return which cells of each step attention sees, (B, T, cells) bool: at least one of each segment's own.

    These are the cells that have their region. A segment whose own steps have none is seen with all cells of these
    steps, and with all of its context too if that has none either.
    """
    assert steps.has_region is not None
    own, valid = steps.within.unsqueeze(-1), steps.mask.unsqueeze(-1)  # (B, T, 1)
    has_region = steps.has_region & valid
    has_own = (has_region & own).flatten(1).any(dim=1)[:, None, None]
    has_any = has_region.flatten(1).any(dim=1)[:, None, None]
    return has_region | torch.where(has_any, own & ~has_own, valid)


def seen_tokens(steps: Steps, cells: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cells of all steps one after the other, N = T x cells of them: values (B, N, d), and which are seen.

    The latter is (B, N) bool. Values of cells that attention does not see are zeros.
    """
    if steps.has_region is None:
        features, seen = zeroed(steps.features, steps.mask), steps.mask.repeat_interleave(cells, dim=1)
    else:
        of_steps = seen_cells(steps)
        features, seen = without_unseen(steps.features, of_steps), of_steps.flatten(1)
    return features.unflatten(-1, (cells, -1)).flatten(1, 2), seen


def seen_steps(steps: Steps) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features (B, T, D) with zeros in cells that attention does not see, and the steps with any, (B, T) bool.

    Features are standardised, so a zero is the average of the training segments.
    """
    if steps.has_region is None:
        return zeroed(steps.features, steps.mask), steps.mask
    seen = seen_cells(steps)
    return without_unseen(steps.features, seen), seen.any(dim=-1)


def without_unseen(features: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return features (B, T, D) with zeros in the cells that are not seen, (B, T, cells) bool."""
    return features.unflatten(-1, (seen.shape[-1], -1)).masked_fill(~seen.unsqueeze(-1), 0).flatten(-2)


def share_with_region(steps: Steps) -> torch.Tensor:
    """Return the share of each segment's own steps that have a region, any of them: (B,) float32."""
    assert steps.has_region is not None
    return (steps.has_region.any(dim=-1) & steps.within).sum(dim=1) / steps.within.sum(dim=1)
