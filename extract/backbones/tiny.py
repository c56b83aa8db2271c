"""A small untrained convolutional network, for trying the whole path where no weights can be downloaded.

Random convolutions followed by rectification and pooling are a weak but honest feature extractor (Jarrett et al.,
"What is the best multi-stage architecture for object recognition?", ICCV 2009). A coarse grid is kept, so that a
step still says where in the picture something is.
"""

from __future__ import annotations

import torch
from torch import nn

from extract.backbones import Backbone, Licence, register
from extract.backbones.architecture import TorchModel
from extract.preprocess import Preprocess
from extract.sampling import ClipShape


class TinyCnn(nn.Module):
    """Two strided convolutions, max-pooled to 4 x 6 cells of 16 channels: (B, C, 1, H, W) -> (B, 1, 1, 384)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d((4, 6)),
        )

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        return self.network(x.squeeze(2)).flatten(1)[:, None, None]


register(
    Backbone(
        name="tiny_cnn",
        family="untrained",
        pretraining="none",
        model=TorchModel(TinyCnn),
        dim=16 * 4 * 6,
        clip=ClipShape(),
        side=1,
        parameters=3_536,
        gflops=0.0017,
        preprocess=Preprocess(resize=(48, 80), crop=None, mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225)),
        classifier=(),
        weights=None,
        licence=Licence(code="MIT", weights="none"),
        source="extract/backbones/tiny.py",
    )
)
