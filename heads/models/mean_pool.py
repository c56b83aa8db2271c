"""The simplest head: average the steps, then one linear layer a task. Blind to their order, so the one to beat."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from heads.data.steps import Steps
from heads.models import register
from heads.models.pooling import Classifiers, pooled, pooled_dim
from heads.models.shape import HeadShape, Logits
from heads.registry import need_probability


@dataclass(frozen=True)
class MeanPoolConfig:
    """dropout: on the averaged features."""

    dropout: float = 0.0

    def __post_init__(self) -> None:
        need_probability(self, "dropout")


@register("mean_pool", MeanPoolConfig)
class MeanPool(nn.Module):
    """Steps -> logits by task. Segment and context are averaged apart."""

    def __init__(self, shape: HeadShape, config: MeanPoolConfig) -> None:
        super().__init__()
        self.shape = shape
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = Classifiers(pooled_dim(shape), shape.tasks)

    def forward(self, steps: Steps) -> Logits:
        return self.classifier(self.dropout(pooled(steps, self.shape)))
