"""A bidirectional LSTM over the steps, its outputs averaged over time, one linear layer a task.

LSTM: Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; both directions: Graves and Schmidhuber, 2005.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from heads.models import need_positive, need_probability, register
from heads.models.pooling import VerbNounClassifier, masked_mean, run_lstm


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
    """Features (B, T, D), mask (B, T) -> verb logits (B, 97), noun logits (B, 300)."""

    def __init__(self, dim: int, config: BiLstmConfig) -> None:
        super().__init__()
        between = config.dropout if config.layers > 1 else 0.0
        self.lstm = nn.LSTM(dim, config.hidden, config.layers, batch_first=True, bidirectional=True, dropout=between)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = VerbNounClassifier(2 * config.hidden)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = masked_mean(run_lstm(self.lstm, features, mask), mask)
        return self.classifier(self.dropout(x))
