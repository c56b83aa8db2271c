"""Three bidirectional LSTMs, over every step, every 2nd and every 4th; their averages over time are fused.

A coarse branch spans the segment in few recurrences and sees slow changes; the fine branch sees fast changes (the idea
of clockwork and temporal-pyramid networks: Koutnik et al., "A Clockwork RNN", ICML 2014).
"""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import nn

from heads.data.steps import Steps
from heads.models.options import MultiscaleLstmConfig
from heads.models.pooling import Classifiers, bidirectional_lstm, lstm_outputs, masked_mean
from heads.models.shape import HeadShape, Logits

STRIDES = (1, 2, 4)


class MultiscaleLstm(nn.Module):
    """Steps -> logits by task. The LSTMs read the context too; their outputs are averaged over the segment only."""

    def __init__(self, shape: HeadShape, config: MultiscaleLstmConfig) -> None:
        super().__init__()
        width = 2 * config.hidden
        self.branches = nn.ModuleList(bidirectional_lstm(shape.dim, **asdict(config)) for _ in STRIDES)
        self.fuse = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(len(STRIDES) * width, width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
        )
        self.classifier = Classifiers(width, shape.tasks)

    def forward(self, steps: Steps) -> Logits:
        x = [self._pooled(steps, stride, lstm) for stride, lstm in zip(STRIDES, self.branches, strict=True)]
        return self.classifier(self.fuse(torch.cat(x, dim=-1)))

    def _pooled(self, steps: Steps, stride: int, lstm: nn.Module) -> torch.Tensor:
        x, mask, within = strided(steps, stride)
        return masked_mean(lstm_outputs(lstm, x, mask), within)


def strided(steps: Steps, stride: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return features, mask and within of every stride-th step, counted so that the segment's first step is included.

    c c c S S S     stride 2: starts at the second step, so that the first S is included
      ^   ^   ^
    """
    phase = steps.within.int().argmax(dim=1, keepdim=True) % stride  # (B, 1)
    index = phase + torch.arange(0, steps.mask.shape[1], stride, device=phase.device)
    beyond = index >= steps.mask.shape[1]
    index = index.masked_fill(beyond, 0)
    x = steps.features.gather(1, index.unsqueeze(-1).expand(-1, -1, steps.features.shape[-1]))
    return x, steps.mask.gather(1, index) & ~beyond, steps.within.gather(1, index) & ~beyond
