"""The module that every backbone is: clips in, the tokens of its layers out. pooling.py makes steps of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn


class LayerTokens(NamedTuple):
    """What a network makes of B clips in one of its layers, normalised as its publisher does it.

    Attributes:
        patches: (B, P, h, w, D), the last map or the tokens of the patches: h x w of them for each of P steps.
        class_token: (B, P, D), or (B, 1, D) where a clip has one for all its steps; None where the network has none.
    """

    patches: torch.Tensor
    class_token: torch.Tensor | None = None


class ClipNetwork(nn.Module):
    """A network that maps clips (B, C, L, H, W) to the tokens of its layers.

    Attributes:
        network: the published network without its classifier, with the published names of its parameters.
    """

    network: Any  # subclasses name its class

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        """Return the tokens of layers, in their order; those of the last layer if none is named.

        Args:
            layers: numbers of layers, counted from 0, ascending. A network whose record has no layers is never given
                any.
        """
        raise NotImplementedError

    def normalised_mean(self, x: torch.Tensor) -> torch.Tensor:
        """Return averages over patches, (B, P, cells, D), normalised where the publisher does that after averaging."""
        return x
