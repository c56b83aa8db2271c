"""Hidden layers on the average of the steps. They learn what a linear classifier of the average cannot.

GELU: Hendrycks and Gimpel, "Gaussian error linear units", 2016.
"""

from __future__ import annotations

from torch import nn

from heads.data.steps import Steps
from heads.models.options import MlpConfig
from heads.models.pooling import Classifiers, pooled, pooled_dim
from heads.models.shape import HeadShape, Logits


class Mlp(nn.Module):
    """Steps -> logits by task. Segment and context are averaged separately, and the averages concatenated."""

    def __init__(self, shape: HeadShape, config: MlpConfig) -> None:
        super().__init__()
        self.shape = shape
        dims = [pooled_dim(shape)] + [config.hidden] * (config.layers - 1)
        layers = [(nn.Linear(dim, config.hidden), nn.GELU(), nn.Dropout(config.dropout)) for dim in dims]
        self.hidden = nn.Sequential(*(module for layer in layers for module in layer))
        self.classifier = Classifiers(config.hidden, shape.tasks)

    def forward(self, steps: Steps) -> Logits:
        return self.classifier(self.hidden(pooled(steps, self.shape)))
