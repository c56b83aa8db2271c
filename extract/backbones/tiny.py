"""A small untrained convolutional network, for trying the whole path where no weights can be downloaded.

Random convolutions followed by rectification and pooling are a weak but honest feature extractor (Jarrett et al.,
"What is the best multi-stage architecture for object recognition?", ICCV 2009). A coarse grid is kept, so that a
step still says where in the picture something is.
"""

from __future__ import annotations

import torch
from torch import nn

from extract.backbones import Backbone, register
from extract.preprocess import Preprocess
from extract.sampling import ClipShape


class TinyCnn(nn.Module):
    """Two strided convolutions, max-pooled to a grid of 4 x 6 cells of 16 channels: (B, C, 1, H, W) -> (B, 1, 384)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d((4, 6)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x.squeeze(2)).flatten(1).unsqueeze(1)


register(
    Backbone(
        name="tiny_cnn",
        pretraining="none",
        build=TinyCnn,
        dim=16 * 4 * 6,
        clip=ClipShape(),
        preprocess=Preprocess(resize=(48, 80), crop=None, mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225)),
        classifier=(),
        weights=None,
        source="extract/backbones/tiny.py",
    )
)
