"""Hiera for video: a plain hierarchical transformer, pre-trained by masking, fine-tuned on Kinetics-400.

Ryali et al., Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles, ICML 2023. The network is that of
the authors' package hiera-transformer.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from extract.backbone_input import GREY_MEAN, GREY_STD, ClipShape, Preprocess
from extract.backbones.architecture import TorchModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedFile

if TYPE_CHECKING:
    from extract.backbones.networks.clip_network import ClipNetwork


def _network(size: str, *, depth: int | None) -> ClipNetwork:
    from extract.backbones.networks.hiera import hiera_network

    return hiera_network(size, depth=depth)


def _backbone(size: str, *, dim: int, parameters: int, gflops: float) -> Backbone:
    file = f"hiera_{size}_16x224.pth"
    return Backbone(
        name=f"hiera_{size}_16x224",
        family="Hiera",
        pretraining="Kinetics-400",
        model=TorchModel(partial(_network, size, depth=None)),
        dim=dim,
        # Every 4th frame at 30 frames per second.
        clip=ClipShape(16, 7.5, 8),
        side=7,
        parameters=parameters,
        gflops=gflops,
        preprocess=Preprocess(resize=256, crop=(224, 224), mean=GREY_MEAN, std=GREY_STD),
        layout=Layout(leave_out=("head.",)),
        weights=PublishedFile(revision=f"hiera/{file}", url=f"https://dl.fbaipublicfiles.com/hiera/{file}"),
        licence=Licence(code="Apache-2.0", weights="CC-BY-NC-4.0"),
        source="Ryali et al., Hiera, ICML 2023; hiera-transformer",
    )


# fmt: off
BACKBONES = (
    _backbone("base", dim=768, parameters=50_784_960, gflops=101.7),
    _backbone("base_plus", dim=896, parameters=69_033_440, gflops=132.3),
    _backbone("large", dim=1152, parameters=212_630_400, gflops=412.1),
    _backbone("huge", dim=2048, parameters=670_808_064, gflops=1157.8),
)
# fmt: on
