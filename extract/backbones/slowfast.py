"""SlowFast and its slow pathway alone, with the weights of PyTorchVideo's model zoo.

Feichtenhofer et al., SlowFast Networks for Video Recognition, ICCV 2019.
"""

from __future__ import annotations

import torch
from torch import nn

from extract.backbones import Backbone, Licence, PublishedFile, register
from extract.backbones.architecture import TorchModel
from extract.backbones.pooling import pooled_map
from extract.preprocess import Preprocess
from extract.sampling import ClipShape

_ZOO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"


class PooledPathways(nn.Module):
    """The last maps of the pathways, concatenated: (B, C, L, H, W) -> (B, 8, grid * grid, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        return pooled_map(self.network(x).permute(0, 4, 1, 2, 3), grid)


def _row(
    name: str, network: nn.Module, file: str, *, dim: int, clip: ClipShape, parameters: int, gflops: float, head: str
) -> None:
    register(
        Backbone(
            name=name,
            family="SlowFast",
            pretraining="Kinetics-400",
            model=TorchModel(lambda: PooledPathways(network())),
            dim=dim,
            clip=clip,
            side=8,
            parameters=parameters,
            gflops=gflops,
            preprocess=Preprocess(
                resize=256, crop=(256, 256), mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225), antialias=False
            ),
            classifier=(head,),
            weights=PublishedFile(revision=f"pytorchvideo/model_zoo/kinetics/{file}", url=f"{_ZOO}/{file}"),
            licence=Licence(code="MIT", weights="Apache-2.0"),
            source="Feichtenhofer et al., SlowFast Networks, ICCV 2019; extract/backbones/slowfast_network.py",
        )
    )
