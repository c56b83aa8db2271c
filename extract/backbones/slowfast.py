"""SlowFast and its slow pathway alone, with the weights of PyTorchVideo's model zoo."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from extract.backbones import Backbone, Licence, PublishedFile, register
from extract.backbones.architecture import TorchModel
from extract.backbones.pooling import pooled_map
from extract.backbones.slowfast_network import Slow, SlowFast
from extract.preprocess import Preprocess
from extract.sampling import ClipShape

_ZOO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"


class PooledPathways(nn.Module):
    """The last maps of the pathways, one above the other: (B, C, L, H, W) -> (B, 8, grid * grid, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        return pooled_map(self.network(x), grid)


def _row(
    name: str,
    make: Callable[[], nn.Module],
    file: str,
    *,
    dim: int,
    clip: ClipShape,
    parameters: int,
    gflops: float,
    classifier: str,
) -> None:
    register(
        Backbone(
            name=name,
            family="SlowFast",
            pretraining="Kinetics-400",
            model=TorchModel(lambda: PooledPathways(make())),
            dim=dim,
            clip=clip,
            side=8,
            parameters=parameters,
            gflops=gflops,
            # As PyTorchVideo's tutorial runs them, at 256 pixels.
            preprocess=Preprocess(
                resize=256, crop=(256, 256), mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225), antialias=False
            ),
            classifier=(classifier,),
            weights=PublishedFile(revision=f"pytorchvideo model_zoo/kinetics/{file}", url=f"{_ZOO}/{file}"),
            licence=Licence(code="MIT", weights="Apache-2.0"),
            source="Feichtenhofer et al., SlowFast Networks, ICCV 2019; weights of PyTorchVideo",
        )
    )


# 8 frames of every 8th of 30 a second for the slow pathway, 32 of every 2nd for the fast one.
# fmt: off
_row("slow_r50", Slow, "SLOW_8x8_R50.pyth", dim=2048, clip=ClipShape(8, 3.75, 8),
     parameters=31_634_496, gflops=54.5, classifier="blocks.5.")
_row("slowfast_r50", SlowFast, "SLOWFAST_8x8_R50.pyth", dim=2304, clip=ClipShape(32, 15.0, 8),
     parameters=33_644_488, gflops=65.7, classifier="blocks.6.")
_row("slowfast_r101", lambda: SlowFast((3, 4, 23, 3), 5), "SLOWFAST_8x8_R101.pyth", dim=2304,
     clip=ClipShape(32, 15.0, 8), parameters=61_904_968, gflops=126.0, classifier="blocks.6.")
# fmt: on
