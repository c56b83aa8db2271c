"""Dilated temporal convolutions with residuals: each layer sees twice as far to both sides as the one before.

Temporal convolutional network: Bai et al., "An empirical evaluation of generic convolutional and recurrent networks for
sequence modeling", 2018; not causal, and with a 1 x 1 convolution in each layer: Farha and Gall, "MS-TCN", CVPR 2019.
Departures: normalisation (layer norm of each step, before the convolution) and GELU; one stage.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from heads.data.steps import Steps
from heads.models.options import TcnConfig
from heads.models.pooling import Classifiers, masked_mean, zeroed
from heads.models.shape import HeadShape, Logits


class Tcn(nn.Module):
    """Steps -> logits by task. Context and segment are convolved; the outputs are averaged over the segment only."""

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
    """x (B, T, W), mask (B, T) -> x plus a function of the step and those `dilation` before and after."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = nn.LayerNorm(width)
        # A convolution of three taps as one matrix product: nn.Conv1d would need (B, W, T), a copy there and back.
        self.taps = nn.Linear(3 * width, width)
        self.mix = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        steps = zeroed(self.norm(x), mask)  # the padding of a row counts as zero, as beyond the batch
        padded = F.pad(steps, (0, 0, self.dilation, self.dilation))
        before, after = padded[:, : x.shape[1]], padded[:, 2 * self.dilation :]
        taps = self.taps(torch.cat([before, steps, after], dim=-1))
        return x + self.dropout(self.mix(F.gelu(taps)))
