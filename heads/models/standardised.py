"""A head with its input standardised by the training set's own statistics."""

from __future__ import annotations

import torch
from torch import nn


class Standardised(nn.Module):
    """Gives a head features of mean 0 and standard deviation 1 in every dimension.

    The statistics are buffers, not parameters: the head keeps its own count of these, and a checkpoint carries what
    its weights were trained on.

    Args:
        head: features (B, T, D), mask (B, T) -> verb logits, noun logits.
        mean, std: (D,) over all steps of the training segments.
    """

    def __init__(self, head: nn.Module, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.head((features - self.mean) / self.std, mask)
