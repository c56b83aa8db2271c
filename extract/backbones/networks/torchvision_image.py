"""Image networks of torchvision without their classifiers: one frame in, the last map averaged over space out."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import ConvNeXt, EfficientNet, ResNet

from extract.backbones.networks.clip_network import ClipNetwork
from extract.backbones.networks.pooling import pooled_map


class ImageResNet(ClipNetwork):
    """A ResNet: (B, C, 1, H, W) -> (B, 1, grid * grid, D)."""

    network: ResNet

    def __init__(self, network: ResNet) -> None:
        network.fc = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        net = self.network
        x = net.maxpool(net.relu(net.bn1(net.conv1(x.squeeze(2)))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return pooled_map(x.unsqueeze(2), grid)


class ImageFeatures(ClipNetwork):
    """An EfficientNet, or the features of another network like it: (B, C, 1, H, W) -> (B, 1, grid * grid, D)."""

    network: EfficientNet | ConvNeXt

    def __init__(self, network: EfficientNet | ConvNeXt) -> None:
        network.classifier[-1] = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        return pooled_map(self.network.features(x.squeeze(2)).unsqueeze(2), grid)


class ImageConvNext(ImageFeatures):
    """A ConvNeXt: it normalises after the average and before the linear layer, and so does this module."""

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        x = super().forward(x, grid)  # (B, 1, G, D)
        norm = self.network.classifier[0]  # over channels, which it expects second
        return norm(x.transpose(1, 3)).transpose(1, 3)
