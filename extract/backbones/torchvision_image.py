"""Image networks of torchvision: one frame in, the last map averaged over space out, as their classifiers take it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torchvision.models import (
    ConvNeXt_Base_Weights,
    ConvNeXt_Tiny_Weights,
    EfficientNet_B4_Weights,
    ResNet50_Weights,
    WeightsEnum,
    convnext_base,
    convnext_tiny,
    efficientnet_b4,
    resnet50,
)

from extract.backbones import Backbone, Licence, PublishedFile, register
from extract.backbones.architecture import TorchModel
from extract.backbones.pooling import pooled_map
from extract.preprocess import from_torchvision
from extract.sampling import ClipShape


class ImageResNet(nn.Module):
    """A ResNet without its classifier: (B, C, 1, H, W) -> (B, 1, grid * grid, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.fc = nn.Identity()
        self.network = network

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        net = self.network
        x = net.maxpool(net.relu(net.bn1(net.conv1(x.squeeze(2)))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return pooled_map(x.unsqueeze(2), grid)


class ImageFeatures(nn.Module):
    """An EfficientNet without its classifier: (B, C, 1, H, W) -> (B, 1, grid * grid, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.classifier[-1] = nn.Identity()
        self.network = network

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        return pooled_map(self.network.features(x.squeeze(2)).unsqueeze(2), grid)


class ImageConvNext(ImageFeatures):
    """A ConvNeXt likewise; its normalisation comes after the average, and before the linear layer."""

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        x = super().forward(x, grid)  # (B, 1, G, D)
        norm = self.network.classifier[0]  # over channels, which it wants second
        return norm(x.transpose(1, 3)).transpose(1, 3)


_RESNET = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016; torchvision"
_EFFICIENTNET = "Tan and Le, EfficientNet, ICML 2019; torchvision"
_CONVNEXT = "Liu et al., A ConvNet for the 2020s, CVPR 2022; torchvision"


def _row(
    builder: Callable[[], nn.Module],
    weights: WeightsEnum,
    wrap: Callable[[nn.Module], nn.Module],
    *,
    dim: int,
    side: int,
    parameters: int,
    gflops: float,
    classifier: str,
    source: str,
) -> None:
    register(
        Backbone(
            name=builder.__name__,
            family="image",
            pretraining="ImageNet-1k",
            model=TorchModel(lambda: wrap(builder())),
            dim=dim,
            clip=ClipShape(),
            side=side,
            parameters=parameters,
            gflops=gflops,
            preprocess=from_torchvision(weights.transforms()),
            classifier=(classifier,),
            weights=PublishedFile(revision=str(weights), url=weights.url),
            licence=Licence(code="BSD-3-Clause", weights="ImageNet's terms"),
            source=source,
        )
    )


# fmt: off
_row(resnet50, ResNet50_Weights.IMAGENET1K_V2, ImageResNet, dim=2048, side=7,
     parameters=23_508_032, gflops=4.09, classifier="fc.", source=_RESNET)
_row(efficientnet_b4, EfficientNet_B4_Weights.IMAGENET1K_V1, ImageFeatures, dim=1792, side=12,
     parameters=17_548_616, gflops=4.39, classifier="classifier.1.", source=_EFFICIENTNET)
_row(convnext_tiny, ConvNeXt_Tiny_Weights.IMAGENET1K_V1, ImageConvNext, dim=768, side=7,
     parameters=27_820_128, gflops=4.46, classifier="classifier.2.", source=_CONVNEXT)
_row(convnext_base, ConvNeXt_Base_Weights.IMAGENET1K_V1, ImageConvNext, dim=1024, side=7,
     parameters=87_566_464, gflops=15.3, classifier="classifier.2.", source=_CONVNEXT)
# fmt: on
