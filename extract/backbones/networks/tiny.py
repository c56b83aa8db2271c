"""The network of `tiny_cnn`: random convolutions, rectified and max-pooled to a coarse grid."""

from __future__ import annotations

import torch
from torch import nn

from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens


class TinyCnn(ClipNetwork):
    """Two strided convolutions, max-pooled to 4 x 6 places of 16 channels, which make one token of 384 values."""

    network: nn.Sequential

    def __init__(self) -> None:
        super().__init__(
            nn.Sequential(
                nn.Conv2d(3, 16, 5, stride=2, padding=2),
                nn.ReLU(),
                nn.Conv2d(16, 16, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.AdaptiveMaxPool2d((4, 6)),
            )
        )

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        return (LayerTokens(self.network(x.squeeze(2)).flatten(1)[:, None, None, None]),)
