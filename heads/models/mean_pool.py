"""The simplest head: average the steps, then one linear layer a task. Blind to their order, so the one to beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from heads.models import need_probability, register
from heads.models.pooling import VerbNounClassifier, masked_mean


@dataclass(frozen=True)
class MeanPoolConfig:
    """dropout: on the averaged features."""

    dropout: float = 0.0

    def __post_init__(self) -> None:
        need_probability(self, "dropout")


@register("mean_pool", MeanPoolConfig)
class MeanPool(nn.Module):
    """Features (B, T, D), mask (B, T) -> verb logits (B, 97), noun logits (B, 300)."""

    def __init__(self, dim: int, config: MeanPoolConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = VerbNounClassifier(dim)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.classifier(self.dropout(masked_mean(features, mask)))
