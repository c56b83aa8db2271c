"""SlowFast and its slow pathway alone, with the weights of PyTorchVideo's model zoo."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from extract.backbone_input import GREY_MEAN, GREY_STD, ClipShape, Preprocess
from extract.backbones.architecture import TorchModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedFile

if TYPE_CHECKING:
    from extract.backbones.networks.clip_network import ClipNetwork

_ZOO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"


def _slow_r50() -> ClipNetwork:
    from extract.backbones.networks.slowfast import Maps, Slow

    return Maps(Slow())


def _slowfast_r50() -> ClipNetwork:
    from extract.backbones.networks.slowfast import Maps, SlowFast

    return Maps(SlowFast())


def _slowfast_r101() -> ClipNetwork:
    from extract.backbones.networks.slowfast import Maps, SlowFast

    return Maps(SlowFast(depths=(3, 4, 23, 3), fusion_kernel=5))


def _backbone(
    name: str,
    make: Callable[[], ClipNetwork],
    file: str,
    *,
    dim: int,
    clip: ClipShape,
    parameters: int,
    gflops: float,
    classifier: str,
) -> Backbone:
    """Return the record of a network whose weights are `file` in PyTorchVideo's model zoo."""
    return Backbone(
        name=name,
        family="SlowFast",
        pretraining="Kinetics-400",
        model=TorchModel(make),
        dim=dim,
        clip=clip,
        side=8,
        parameters=parameters,
        gflops=gflops,
        # PyTorchVideo's tutorial runs them at 256 pixels.
        preprocess=Preprocess(resize=256, crop=(256, 256), mean=GREY_MEAN, std=GREY_STD, antialias=False),
        layout=Layout(leave_out=(classifier,)),
        weights=PublishedFile(revision=f"pytorchvideo model_zoo/kinetics/{file}", url=f"{_ZOO}/{file}"),
        licence=Licence(code="MIT", weights="Apache-2.0"),
        source="Feichtenhofer et al., SlowFast Networks, ICCV 2019; weights of PyTorchVideo",
    )


# At 30 frames per second the slow pathway takes 8 frames, every 8th, and the fast pathway 32 frames, every 2nd.
# fmt: off
BACKBONES = (
    _backbone("slow_r50", _slow_r50, "SLOW_8x8_R50.pyth", dim=2048, clip=ClipShape(8, 3.75, 8),
              parameters=31_634_496, gflops=54.5, classifier="blocks.5."),
    _backbone("slowfast_r50", _slowfast_r50, "SLOWFAST_8x8_R50.pyth", dim=2304, clip=ClipShape(32, 15.0, 8),
              parameters=33_644_488, gflops=65.7, classifier="blocks.6."),
    _backbone("slowfast_r101", _slowfast_r101, "SLOWFAST_8x8_R101.pyth", dim=2304, clip=ClipShape(32, 15.0, 8),
              parameters=61_904_968, gflops=126.0, classifier="blocks.6."),
)
# fmt: on
