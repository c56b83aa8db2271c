"""Hidden layers on the averaged steps: what a linear classifier of the average misses, still blind to their order.

GELU: Hendrycks and Gimpel, "Gaussian error linear units", 2016.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from heads.data.steps import Steps
from heads.models import register
from heads.models.pooling import Classifiers, pooled, pooled_dim
from heads.models.shape import HeadShape, Logits
from heads.registry import need_positive, need_probability


@dataclass(frozen=True)
class MlpConfig:
    """hidden: units of a hidden layer; layers: hidden ones; dropout: after each of them."""

    hidden: int = 1024
    layers: int = 1
    dropout: float = 0.5

    def __post_init__(self) -> None:
        need_positive(self, "hidden", "layers")
        need_probability(self, "dropout")


@register("mlp", MlpConfig)
class Mlp(nn.Module):
    """Steps -> logits by task. Segment and context are averaged apart."""

    def __init__(self, shape: HeadShape, config: MlpConfig) -> None:
        super().__init__()
        self.shape = shape
        dims = [pooled_dim(shape)] + [config.hidden] * (config.layers - 1)
        layers = [(nn.Linear(dim, config.hidden), nn.GELU(), nn.Dropout(config.dropout)) for dim in dims]
        self.hidden = nn.Sequential(*(module for layer in layers for module in layer))
        self.classifier = Classifiers(config.hidden, shape.tasks)

    def forward(self, steps: Steps) -> Logits:
        return self.classifier(self.hidden(pooled(steps, self.shape)))
