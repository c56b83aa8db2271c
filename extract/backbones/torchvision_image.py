"""Image backbones of torchvision: one frame in, the pooled features before the classifier out."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import ResNet50_Weights, resnet50

from extract.backbones import Backbone, PublishedWeights, register
from extract.preprocess import from_torchvision
from extract.sampling import ClipShape


class PooledImage(nn.Module):
    """A ResNet without its classifier, as (B, C, 1, H, W) -> (B, 1, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.fc = nn.Identity()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x.squeeze(2)).unsqueeze(1)


_RESNET50 = ResNet50_Weights.IMAGENET1K_V2

register(
    Backbone(
        name="resnet50",
        pretraining="ImageNet-1k",
        build=lambda: PooledImage(resnet50()),
        dim=2048,
        clip=ClipShape(),
        preprocess=from_torchvision(_RESNET50.transforms()),
        classifier=("fc.",),
        weights=PublishedWeights(revision=str(_RESNET50), url=_RESNET50.url),
        source="He et al., Deep Residual Learning for Image Recognition, CVPR 2016; torchvision",
    )
)
