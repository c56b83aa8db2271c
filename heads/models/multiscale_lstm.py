"""Three bidirectional LSTMs that read every step, every 2nd and every 4th; their averages over time are fused.

A coarse branch spans the segment in few recurrences and sees slow changes, the fine one sees fast ones (the idea of
clockwork and temporal-pyramid networks: Koutnik et al., "A Clockwork RNN", ICML 2014).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import nn

from heads.data.steps import Steps
from heads.models import register
from heads.models.pooling import BidirectionalLstm, Classifiers, masked_mean
from heads.models.shape import HeadShape, Logits
from heads.registry import need_positive, need_probability

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
    """Steps -> logits by task. The LSTMs read the context as well; averaged are their outputs over the segment."""

    def __init__(self, shape: HeadShape, config: MultiscaleLstmConfig) -> None:
        super().__init__()
        width = 2 * config.hidden
        self.branches = nn.ModuleList(BidirectionalLstm(shape.dim, **asdict(config)) for _ in STRIDES)
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

    def _pooled(self, steps: Steps, stride: int, lstm: BidirectionalLstm) -> torch.Tensor:
        x, mask, within = every(steps, stride)
        return masked_mean(lstm(x, mask), within)


def every(steps: Steps, stride: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Give every stride-th step, counted so that the segment's first is among them: features, mask, within.

    c c c S S S     stride 2: starts at the second step, so that the first S is met
      ^   ^   ^
    """
    phase = steps.within.int().argmax(dim=1, keepdim=True) % stride  # (B, 1)
    index = phase + torch.arange(0, steps.mask.shape[1], stride, device=phase.device)
    beyond = index >= steps.mask.shape[1]
    index = index.masked_fill(beyond, 0)
    x = steps.features.gather(1, index.unsqueeze(-1).expand(-1, -1, steps.features.shape[-1]))
    return x, steps.mask.gather(1, index) & ~beyond, steps.within.gather(1, index) & ~beyond
