"""Heads that read windows, where a test has segments with their own steps: each is a window with one query."""

from __future__ import annotations

import torch
from torch import nn

from heads.data.steps import Queries, Steps


def as_windows(steps: Steps) -> tuple[tuple[Steps], Queries]:
    """Each segment's steps as a window, and a query from its first own step to its last."""
    start = steps.seconds.masked_fill(~steps.within, torch.inf).amin(dim=1)
    stop = steps.seconds.masked_fill(~steps.within, -torch.inf).amax(dim=1)
    return (steps,), Queries(torch.stack([start, stop], dim=-1)[:, None], torch.arange(len(start)).to(start.device))


def reading_segments(head: nn.Module) -> nn.Module:
    """Return a head that reads windows, with segments as its input."""
    head.register_forward_pre_hook(lambda _, inputs: as_windows(*inputs))
    return head
