"""Video networks of torchvision without their classifiers: the last map averaged over space, with its temporal axis."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models.video import S3D, MViT, SwinTransformer3d, VideoResNet

from extract.backbones.networks.clip_network import ClipNetwork
from extract.backbones.networks.pooling import pooled_map, pooled_tokens


class ResNetSteps(ClipNetwork):
    """A video ResNet: (B, C, L, H, W) -> (B, P, grid * grid, D)."""

    network: VideoResNet

    def __init__(self, network: VideoResNet) -> None:
        network.fc = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        net = self.network
        for stage in (net.stem, net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
        return pooled_map(x, grid)


class S3dSteps(ClipNetwork):
    """S3D, whose classifier also does its pooling: (B, C, L, H, W) -> (B, P, grid * grid, D)."""

    network: S3D

    def __init__(self, network: S3D) -> None:
        network.classifier = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        return pooled_map(self.network.features(x), grid)


class MvitSteps(ClipNetwork):
    """An MViT's normalised tokens without the class token: (B, C, L, H, W) -> (B, P, grid * grid, D)."""

    network: MViT

    def __init__(self, network: MViT) -> None:
        network.head = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        net = self.network
        x = net.pos_encoding(net.conv_proj(x).flatten(2).transpose(1, 2))
        size = (net.pos_encoding.temporal_size, *net.pos_encoding.spatial_size)
        for block in net.blocks:
            x, size = block(x, size)
        return pooled_tokens(net.norm(x)[:, 1:].unflatten(1, (size[0], -1)), grid)  # time is the tokens' first axis


class SwinSteps(ClipNetwork):
    """A Swin3D's normalised map: (B, C, L, H, W) -> (B, P, grid * grid, D)."""

    network: SwinTransformer3d

    def __init__(self, network: SwinTransformer3d) -> None:
        network.head = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        net = self.network
        x = net.norm(net.features(net.pos_drop(net.patch_embed(x))))  # (B, P, H, W, D)
        return pooled_map(x.permute(0, 4, 1, 2, 3), grid)
