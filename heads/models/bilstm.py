"""A bidirectional LSTM over the steps, its outputs averaged over time, one linear layer a task.

LSTM: Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; both directions: Graves and Schmidhuber, 2005.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import nn

from heads.data.steps import Steps
from heads.models import register
from heads.models.pooling import BidirectionalLstm, Classifiers, masked_mean
from heads.models.shape import HeadShape, Logits
from heads.registry import need_positive, need_probability


@dataclass(frozen=True)
class BiLstmConfig:
    """hidden: units a direction; layers: stacked; dropout: between layers and before the classifiers."""

    hidden: int = 1024
    layers: int = 2
    dropout: float = 0.3

    def __post_init__(self) -> None:
        need_positive(self, "hidden", "layers")
        need_probability(self, "dropout")


@register("bilstm", BiLstmConfig)
class BiLstm(nn.Module):
    """Steps -> logits by task. The LSTM reads the context as well; averaged are its outputs over the segment."""

    def __init__(self, shape: HeadShape, config: BiLstmConfig) -> None:
        super().__init__()
        self.lstm = BidirectionalLstm(shape.dim, **asdict(config))
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = Classifiers(2 * config.hidden, shape.tasks)

    def forward(self, steps: Steps) -> Logits:
        x = masked_mean(self.lstm(steps.features, steps.mask), steps.within)
        return self.classifier(self.dropout(x))
