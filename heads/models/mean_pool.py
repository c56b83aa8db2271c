"""The simplest head: the average of the steps, then a linear layer per task."""

from __future__ import annotations

from torch import nn

from heads.data.steps import Steps
from heads.models.options import MeanPoolConfig
from heads.models.pooling import Classifiers, pooled, pooled_dim
from heads.models.shape import HeadShape, Logits


class MeanPool(nn.Module):
    """Steps -> logits by task. Segment and context are averaged separately, and the averages concatenated."""

    def __init__(self, shape: HeadShape, config: MeanPoolConfig) -> None:
        super().__init__()
        self.shape = shape
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = Classifiers(pooled_dim(shape), shape.tasks)

    def forward(self, steps: Steps) -> Logits:
        return self.classifier(self.dropout(pooled(steps, self.shape)))
