"""Hiera of its authors' package: the last map, which is normalised after the average."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens


class HieraMaps(ClipNetwork):
    """A Hiera without its classifier: the last of its maps, with 8 steps of 7 x 7 positions."""

    def __init__(self, network: nn.Module) -> None:
        network.head = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        _, maps = self.network(x, return_intermediates=True)
        return (LayerTokens(maps[-1]),)

    def normalised_mean(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.norm(x)


# Width of the first stage, its heads, and blocks per stage.
_SIZES = {
    "base": (96, 1, (2, 3, 16, 3)),
    "base_plus": (112, 2, (2, 3, 16, 3)),
    "large": (144, 2, (2, 6, 36, 4)),
    "huge": (256, 4, (2, 6, 36, 4)),
}


def hiera_network(size: str, *, depth: int | None = None) -> HieraMaps:
    """Return a Hiera for clips of 16 frames with random weights: size "base", "base_plus", "large" or "huge".

    Args:
        depth: blocks per stage, if there are to be fewer.
    """
    with warnings.catch_warnings():
        # The package imports a module of timm by its old name.
        warnings.filterwarnings("ignore", message="Importing from timm.models.layers", category=FutureWarning)
        import hiera
    width, heads, stages = _SIZES[size]
    with _LinspaceOnCpu():
        network = hiera.hiera_base_16x224(embed_dim=width, num_heads=heads, stages=(depth,) * 4 if depth else stages)
    return HieraMaps(network)


class _LinspaceOnCpu(TorchFunctionMode):
    """The package reads values of a `torch.linspace` while it builds, and on the device "meta" there are none."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        device = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **{**(kwargs or {}), **device})
