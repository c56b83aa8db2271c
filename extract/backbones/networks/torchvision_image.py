"""Image networks of torchvision without their classifiers: one frame in, the last map out."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import ConvNeXt, EfficientNet, ResNet

from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens
from extract.backbones.networks.pooling import map_tokens


class ImageResNet(ClipNetwork):
    """A ResNet, up to its last stage."""

    network: ResNet

    def __init__(self, network: ResNet) -> None:
        network.fc = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        net = self.network
        x = net.maxpool(net.relu(net.bn1(net.conv1(x.squeeze(2)))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return (map_tokens(x.unsqueeze(2)),)


class ImageFeatures(ClipNetwork):
    """An EfficientNet, or the features of another network like it."""

    network: EfficientNet | ConvNeXt

    def __init__(self, network: EfficientNet | ConvNeXt) -> None:
        network.classifier[-1] = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        return (map_tokens(self.network.features(x.squeeze(2)).unsqueeze(2)),)


class ImageConvNext(ImageFeatures):
    """A ConvNeXt: it normalises after the average and before the linear layer, and so does this module."""

    def normalised_mean(self, x: torch.Tensor) -> torch.Tensor:
        norm = self.network.classifier[0]  # over channels, which it expects second
        return norm(x.transpose(1, 3)).transpose(1, 3)
