"""Video networks of torchvision: a clip in, the last map averaged over space out, time kept."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torchvision.models import WeightsEnum
from torchvision.models.video import (
    MC3_18_Weights,
    MViT_V1_B_Weights,
    MViT_V2_S_Weights,
    R2Plus1D_18_Weights,
    R3D_18_Weights,
    S3D_Weights,
    Swin3D_B_Weights,
    Swin3D_S_Weights,
    Swin3D_T_Weights,
    mc3_18,
    mvit_v1_b,
    mvit_v2_s,
    r2plus1d_18,
    r3d_18,
    s3d,
    swin3d_b,
    swin3d_s,
    swin3d_t,
)

from extract.backbones import Backbone, Licence, PublishedFile, register
from extract.backbones.architecture import TorchModel
from extract.backbones.pooling import pooled_map, pooled_tokens
from extract.preprocess import from_torchvision
from extract.sampling import ClipShape


class VideoResNet(nn.Module):
    """A video ResNet without its classifier: (B, C, L, H, W) -> (B, P, grid * grid, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.fc = nn.Identity()
        self.network = network

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        net = self.network
        for stage in (net.stem, net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
        return pooled_map(x, grid)


class VideoS3d(nn.Module):
    """S3D without its classifier, which also does its pooling: (B, C, L, H, W) -> (B, P, grid * grid, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.classifier = nn.Identity()
        self.network = network

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        return pooled_map(self.network.features(x), grid)


class VideoMvit(nn.Module):
    """An MViT's normalised tokens, less the class token: (B, C, L, H, W) -> (B, P, grid * grid, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.head = nn.Identity()
        self.network = network

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        net = self.network
        x = net.pos_encoding(net.conv_proj(x).flatten(2).transpose(1, 2))
        size = (net.pos_encoding.temporal_size, *net.pos_encoding.spatial_size)
        for block in net.blocks:
            x, size = block(x, size)
        return pooled_tokens(net.norm(x)[:, 1:].unflatten(1, (size[0], -1)), grid)  # tokens come time first


class VideoSwin(nn.Module):
    """A Swin3D's normalised map: (B, C, L, H, W) -> (B, P, grid * grid, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.head = nn.Identity()
        self.network = network

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        net = self.network
        x = net.norm(net.features(net.pos_drop(net.patch_embed(x))))  # (B, P, H, W, D)
        return pooled_map(x.permute(0, 4, 1, 2, 3), grid)


def _row(
    builder: Callable[[], nn.Module],
    weights: WeightsEnum,
    wrap: Callable[[nn.Module], nn.Module],
    *,
    family: str,
    pretraining: str = "Kinetics-400",
    dim: int,
    clip: ClipShape,
    parameters: int,
    gflops: float,
    classifier: str,
    source: str,
) -> None:
    register(
        Backbone(
            name=builder.__name__,
            family=family,
            pretraining=pretraining,
            model=TorchModel(lambda: wrap(builder())),
            dim=dim,
            clip=clip,
            side=7,
            parameters=parameters,
            gflops=gflops,
            preprocess=from_torchvision(weights.transforms()),
            classifier=(classifier,),
            weights=PublishedFile(revision=str(weights), url=weights.url),
            licence=Licence(code="BSD-3-Clause", weights="Kinetics' terms"),
            source=f"{source}; torchvision",
        )
    )


# Frame rates and lengths are those that torchvision tested its weights with (the `_docs` of each).
_R3D = "Tran et al., A Closer Look at Spatiotemporal Convolutions, CVPR 2018"
_MVIT = "Fan et al., Multiscale Vision Transformers, ICCV 2021"
_MVIT_V2 = "Li et al., MViTv2, CVPR 2022"
_SWIN = "Liu et al., Video Swin Transformer, CVPR 2022"
# S3D was tested with 128 frames, 8.5 s, which is three actions of a kitchen; it was trained with 64 (Xie et al.).
_S3D = "Xie et al., Rethinking Spatiotemporal Feature Learning, ECCV 2018"

# fmt: off
_row(r3d_18, R3D_18_Weights.KINETICS400_V1, VideoResNet, family="3D CNN", dim=512,
     clip=ClipShape(16, 15.0, 2), parameters=33_166_272, gflops=40.7, classifier="fc.", source=_R3D)
_row(mc3_18, MC3_18_Weights.KINETICS400_V1, VideoResNet, family="3D CNN", dim=512,
     clip=ClipShape(16, 15.0, 16), parameters=11_490_240, gflops=43.3, classifier="fc.", source=_R3D)
_row(r2plus1d_18, R2Plus1D_18_Weights.KINETICS400_V1, VideoResNet, family="3D CNN", dim=512,
     clip=ClipShape(16, 15.0, 2), parameters=31_300_125, gflops=40.5, classifier="fc.", source=_R3D)
_row(s3d, S3D_Weights.KINETICS400_V1, VideoS3d, family="3D CNN", dim=1024,
     clip=ClipShape(64, 15.0, 8), parameters=7_910_048, gflops=71.9, classifier="classifier.", source=_S3D)
_row(mvit_v1_b, MViT_V1_B_Weights.KINETICS400_V1, VideoMvit, family="MViT", dim=768,
     clip=ClipShape(16, 7.5, 8), parameters=36_303_072, gflops=70.6, classifier="head.", source=_MVIT)
_row(mvit_v2_s, MViT_V2_S_Weights.KINETICS400_V1, VideoMvit, family="MViT", dim=768,
     clip=ClipShape(16, 7.5, 8), parameters=34_230_144, gflops=64.2, classifier="head.", source=_MVIT_V2)
_row(swin3d_t, Swin3D_T_Weights.KINETICS400_V1, VideoSwin, family="Swin3D", dim=768,
     clip=ClipShape(32, 15.0, 16), parameters=27_850_470, gflops=87.8, classifier="head.", source=_SWIN)
_row(swin3d_s, Swin3D_S_Weights.KINETICS400_V1, VideoSwin, family="Swin3D", dim=768,
     clip=ClipShape(32, 15.0, 16), parameters=49_509_078, gflops=166.0, classifier="head.", source=_SWIN)
_row(swin3d_b, Swin3D_B_Weights.KINETICS400_IMAGENET22K_V1, VideoSwin, family="Swin3D", dim=1024,
     pretraining="ImageNet-22k, Kinetics-400",
     clip=ClipShape(32, 15.0, 16), parameters=87_638_984, gflops=281.0, classifier="head.", source=_SWIN)
# fmt: on
