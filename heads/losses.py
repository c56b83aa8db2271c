"""THE registry of losses: logits (B, K) and labels (B,) of one task -> the loss of each segment, (B,).

Contract: a loss is made as loss(counts, config), where counts (K,) int64 says how often each class stands in the
training segments, and forward(logits (B, K) float32, labels (B,) int64, done) gives (B,) float32. `done` is the share
of training that is over, from 0 to 1. What a loss derives from the counts is a buffer, so that it moves with its device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from heads.registry import Registry, need_probability

_LOSSES = Registry("loss", option="--loss", set_option="--loss")
register, names, get, loss_config = _LOSSES.register, _LOSSES.names, _LOSSES.get, _LOSSES.config


@dataclass(frozen=True)
class CrossEntropyConfig:
    """smoothing: share of the target that is spread evenly over all classes (Szegedy et al., CVPR 2016)."""

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        need_probability(self, "smoothing")


@register("ce", CrossEntropyConfig)
class CrossEntropy(nn.Module):
    """Cross-entropy, with label smoothing."""

    def __init__(self, counts: torch.Tensor, config: CrossEntropyConfig) -> None:
        super().__init__()
        self.smoothing = config.smoothing

    def forward(self, logits: torch.Tensor, labels: torch.Tensor, done: float) -> torch.Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing, reduction="none")
