"""Three bidirectional LSTMs that read every step, every 2nd and every 4th; their averages over time are fused.

A coarse branch spans the segment in few recurrences and sees slow changes, the fine one sees fast ones (the idea of
clockwork and temporal-pyramid networks: Koutnik et al., "A Clockwork RNN", ICML 2014).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from heads.models import need_positive, need_probability, register
from heads.models.pooling import VerbNounClassifier, masked_mean, run_lstm

STRIDES = (1, 2, 4)


@dataclass(frozen=True)
class MultiscaleLstmConfig:
    """hidden: units a direction of a branch; layers: stacked in it; dropout: between layers, around the fusion."""

    hidden: int = 512
    layers: int = 2
    dropout: float = 0.3

    def __post_init__(self) -> None:
        need_positive(self, "hidden", "layers")
        need_probability(self, "dropout")


@register("multiscale_lstm", MultiscaleLstmConfig)
class MultiscaleLstm(nn.Module):
    """Features (B, T, D), mask (B, T) -> verb logits (B, 97), noun logits (B, 300)."""

    def __init__(self, dim: int, config: MultiscaleLstmConfig) -> None:
        super().__init__()
        between = config.dropout if config.layers > 1 else 0.0
        width = 2 * config.hidden
        self.branches = nn.ModuleList(
            nn.LSTM(dim, config.hidden, config.layers, batch_first=True, bidirectional=True, dropout=between)
            for _ in STRIDES
        )
        self.fuse = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(len(STRIDES) * width, width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
        )
        self.classifier = VerbNounClassifier(width)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pooled = []
        for stride, lstm in zip(STRIDES, self.branches, strict=True):
            x, valid = features[:, ::stride], mask[:, ::stride]  # the first step of a row is always valid
            pooled.append(masked_mean(run_lstm(lstm, x, valid), valid))
        return self.classifier(self.fuse(torch.cat(pooled, dim=-1)))
