"""Video ResNets of torchvision: a clip in, its last feature map averaged over space out, time kept."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models.video import R2Plus1D_18_Weights, r2plus1d_18

from extract.backbones import Backbone, PublishedWeights, register
from extract.preprocess import from_torchvision
from extract.sampling import ClipShape


class PooledOverSpace(nn.Module):
    """A video ResNet without its pooling and classifier, as (B, C, L, H, W) -> (B, P, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.fc = nn.Identity()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        net = self.network
        for stage in (net.stem, net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
        return x.mean(dim=(3, 4)).transpose(1, 2)  # (B, P, D)


_R2PLUS1D_18 = R2Plus1D_18_Weights.KINETICS400_V1

register(
    Backbone(
        name="r2plus1d_18",
        pretraining="Kinetics-400",
        build=lambda: PooledOverSpace(r2plus1d_18()),
        dim=512,
        # 16 frames at 15 fps: how torchvision trained and tested it (its R2Plus1D_18_Weights documentation).
        clip=ClipShape(num_frames=16, fps=15.0, num_steps=2),
        preprocess=from_torchvision(_R2PLUS1D_18.transforms()),
        classifier=("fc.",),
        weights=PublishedWeights(revision=str(_R2PLUS1D_18), url=_R2PLUS1D_18.url),
        source="Tran et al., A Closer Look at Spatiotemporal Convolutions, CVPR 2018; torchvision",
    )
)
