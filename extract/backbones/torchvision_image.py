"""Image networks of torchvision: one frame in, the last map averaged over space out, as their classifiers average it.

Preprocessing and addresses are those of torchvision's own weights (`ResNet50_Weights.IMAGENET1K_V2.transforms()` and
`.url`), written out so that the table can be listed without loading torchvision; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from extract.backbone_input import IMAGENET_MEAN, IMAGENET_STD, ClipShape, Preprocess
from extract.backbones.architecture import TorchModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedFile

if TYPE_CHECKING:
    from extract.backbones.networks.clip_network import ClipNetwork

_RESNET = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016; torchvision"
_EFFICIENTNET = "Tan and Le, EfficientNet, ICML 2019; torchvision"
_CONVNEXT = "Liu et al., A ConvNet for the 2020s, CVPR 2022; torchvision"


def _resnet(name: str) -> ClipNetwork:
    from torchvision.models import get_model

    from extract.backbones.networks.torchvision_image import ImageResNet

    return ImageResNet(get_model(name))


def _efficientnet(name: str) -> ClipNetwork:
    from torchvision.models import get_model

    from extract.backbones.networks.torchvision_image import ImageFeatures

    return ImageFeatures(get_model(name))


def _convnext(name: str) -> ClipNetwork:
    from torchvision.models import get_model

    from extract.backbones.networks.torchvision_image import ImageConvNext

    return ImageConvNext(get_model(name))


def _backbone(
    name: str,
    make: Callable[[str], ClipNetwork],
    *,
    revision: str,
    file: str,
    dim: int,
    side: int,
    parameters: int,
    gflops: float,
    classifier: str,
    resize: int,
    crop: int = 224,
    interpolation: str = "bilinear",
    source: str,
) -> Backbone:
    """Return the record of a network that torchvision calls `name`; `make` builds it by that name."""
    return Backbone(
        name=name,
        family="image",
        pretraining="ImageNet-1k",
        model=TorchModel(lambda: make(name)),
        dim=dim,
        clip=ClipShape(),
        side=side,
        parameters=parameters,
        gflops=gflops,
        preprocess=Preprocess(
            resize=resize, crop=(crop, crop), mean=IMAGENET_MEAN, std=IMAGENET_STD, interpolation=interpolation
        ),
        layout=Layout(leave_out=(classifier,)),
        weights=PublishedFile(revision=revision, url=f"https://download.pytorch.org/models/{file}"),
        licence=Licence(code="BSD-3-Clause", weights="ImageNet's terms"),
        source=source,
    )


# fmt: off
BACKBONES = (
    _backbone("resnet50", _resnet,
              revision="ResNet50_Weights.IMAGENET1K_V2", file="resnet50-11ad3fa6.pth",
              dim=2048, side=7, parameters=23_508_032, gflops=4.09, classifier="fc.",
              resize=232, source=_RESNET),
    _backbone("efficientnet_b4", _efficientnet,
              revision="EfficientNet_B4_Weights.IMAGENET1K_V1", file="efficientnet_b4_rwightman-23ab8bcd.pth",
              dim=1792, side=12, parameters=17_548_616, gflops=4.39, classifier="classifier.1.",
              resize=384, crop=380, interpolation="bicubic", source=_EFFICIENTNET),
    _backbone("convnext_tiny", _convnext,
              revision="ConvNeXt_Tiny_Weights.IMAGENET1K_V1", file="convnext_tiny-983f1562.pth",
              dim=768, side=7, parameters=27_820_128, gflops=4.46, classifier="classifier.2.",
              resize=236, source=_CONVNEXT),
    _backbone("convnext_base", _convnext,
              revision="ConvNeXt_Base_Weights.IMAGENET1K_V1", file="convnext_base-6075fbad.pth",
              dim=1024, side=7, parameters=87_566_464, gflops=15.3, classifier="classifier.2.",
              resize=232, source=_CONVNEXT),
)
# fmt: on
