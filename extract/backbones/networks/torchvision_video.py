"""Video networks of torchvision without their classifiers: the last map with its temporal axis."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models.video import S3D, MViT, SwinTransformer3d, VideoResNet

from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens
from extract.backbones.networks.pooling import map_tokens, patches_of


class ResNetSteps(ClipNetwork):
    """A video ResNet, up to its last stage."""

    network: VideoResNet

    def __init__(self, network: VideoResNet) -> None:
        network.fc = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        net = self.network
        for stage in (net.stem, net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
        return (map_tokens(x),)


class S3dSteps(ClipNetwork):
    """S3D, whose classifier also does its pooling."""

    network: S3D

    def __init__(self, network: S3D) -> None:
        network.classifier = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        return (map_tokens(self.network.features(x)),)


class MvitSteps(ClipNetwork):
    """An MViT's normalised tokens. A clip has one class token."""

    network: MViT

    def __init__(self, network: MViT) -> None:
        network.head = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        net = self.network
        x = net.pos_encoding(net.conv_proj(x).flatten(2).transpose(1, 2))
        size = (net.pos_encoding.temporal_size, *net.pos_encoding.spatial_size)
        for block in net.blocks:
            x, size = block(x, size)
        x = net.norm(x)
        return (LayerTokens(patches_of(x[:, 1:], size[0]), x[:, :1]),)


class SwinSteps(ClipNetwork):
    """A Swin3D's normalised map."""

    network: SwinTransformer3d

    def __init__(self, network: SwinTransformer3d) -> None:
        network.head = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        net = self.network
        return (LayerTokens(net.norm(net.features(net.pos_drop(net.patch_embed(x))))),)
