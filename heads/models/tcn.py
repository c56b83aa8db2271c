"""Dilated temporal convolutions with residuals: layer after layer, each looks twice as far to both sides.

Temporal convolutional network: Bai et al., "An empirical evaluation of generic convolutional and recurrent networks for
sequence modeling", 2018; not causal, and with a 1 x 1 convolution in each layer: Farha and Gall, "MS-TCN", CVPR 2019.
Departures: normalisation (layer norm of each step, before the convolution) and GELU; one stage.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from heads.data.steps import Steps
from heads.models import register
from heads.models.pooling import Classifiers, masked_mean, zeroed
from heads.models.shape import HeadShape, Logits
from heads.registry import need_positive, need_probability


@dataclass(frozen=True)
class TcnConfig:
    """width: values of a step inside; layers: of dilation 1, 2, 4, ...; dropout: in each, and before the classifiers.

    4 layers reach 15 steps to either side: all of 16.
    """

    width: int = 512
    layers: int = 4
    dropout: float = 0.3

    def __post_init__(self) -> None:
        need_positive(self, "width", "layers")
        need_probability(self, "dropout")


@register("tcn", TcnConfig)
class Tcn(nn.Module):
    """Steps -> logits by task. The context is convolved with the segment; averaged are the outputs over the segment."""

    def __init__(self, shape: HeadShape, config: TcnConfig) -> None:
        super().__init__()
        self.input = nn.Linear(shape.dim, config.width)
        self.layers = nn.ModuleList(
            DilatedLayer(config.width, 2**layer, config.dropout) for layer in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = Classifiers(config.width, shape.tasks)

    def forward(self, steps: Steps) -> Logits:
        x = self.input(zeroed(steps.features, steps.mask))
        for layer in self.layers:
            x = layer(x, steps.mask)
        return self.classifier(self.dropout(masked_mean(self.norm(x), steps.within)))


class DilatedLayer(nn.Module):
    """x (B, T, W), mask (B, T) -> x plus what three steps say: the one `dilation` before, the step, the one after."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = nn.LayerNorm(width)
        # A convolution of three taps as one matrix product: nn.Conv1d would need (B, W, T), a copy there and back, and
        # becomes a grouped convolution, many times slower, where several heads are trained at once under vmap.
        self.taps = nn.Linear(3 * width, width)
        self.mix = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        steps = zeroed(self.norm(x), mask)  # beyond a row's last step is as beyond the batch
        padded = F.pad(steps, (0, 0, self.dilation, self.dilation))
        before, after = padded[:, : x.shape[1]], padded[:, 2 * self.dilation :]
        taps = self.taps(torch.cat([before, steps, after], dim=-1))
        return x + self.dropout(self.mix(F.gelu(taps)))
