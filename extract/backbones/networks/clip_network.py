"""The module that every backbone is: clips in, steps out."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn


class ClipNetwork(nn.Module):
    """A network that maps (B, C, L, H, W) and the side of a grid to steps, (B, P, grid * grid, D).

    Attributes:
        network: the published network without its classifier, with the published names of its parameters.
    """

    network: Any  # subclasses name its class

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        """Return the steps of clips, averaged over each cell of the grid."""
        raise NotImplementedError


class LayerTokens(NamedTuple):
    """The tokens of a layer: patches (B, P, h, w, D), and class tokens (B, P, D) or (B, 1, D), one per clip."""

    patches: torch.Tensor
    class_token: torch.Tensor | None
