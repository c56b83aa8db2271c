"""The tokens of a network become steps: averaged over space, kept as a small grid, or its class token."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens
from extract.backbones.tokens import Tokens


def steps(network: ClipNetwork, x: torch.Tensor, tokens: Tokens) -> torch.Tensor:
    """Return the cells of each step of clips: (B, C, L, H, W) -> (B, P, cells, D), in the order of `Tokens.cells`.

    A class token that a clip has for all its steps is repeated on each of them.
    """
    return torch.cat(
        [_cells(network, layer, kind) for layer in network(x, tokens.layers) for kind in tokens.kinds], dim=2
    )


def _cells(network: ClipNetwork, layer: LayerTokens, kind: str) -> torch.Tensor:
    if kind == "cls":
        assert layer.class_token is not None
        return layer.class_token.expand(-1, layer.patches.shape[1], -1).unsqueeze(2)
    return network.normalised_mean(averaged(layer.patches, 1 if kind == "mean" else int(kind.removeprefix("grid"))))


def averaged(patches: torch.Tensor, side: int) -> torch.Tensor:
    """Return the averages over a grid of `side` x `side` cells, row by row: (B, P, h, w, D) -> (B, P, side * side, D).

    If h or w is no multiple of `side`, neighbouring cells share a row or a column (torch's adaptive pooling).
    """
    if side == 1:
        return patches.mean(dim=(2, 3)).unsqueeze(2)
    maps = patches.flatten(0, 1).permute(0, 3, 1, 2)  # MPS has no adaptive pooling in three dimensions
    return F.adaptive_avg_pool2d(maps, side).flatten(2).transpose(1, 2).unflatten(0, patches.shape[:2])


def map_tokens(x: torch.Tensor) -> LayerTokens:
    """Return a map with channels second as tokens: (B, D, P, h, w) -> patches (B, P, h, w, D)."""
    return LayerTokens(x.permute(0, 2, 3, 4, 1))


def patches_of(tokens: torch.Tensor, num_steps: int) -> torch.Tensor:
    """Return the tokens of square maps, step by step and row by row, as maps: (B, P * N, D) -> (B, P, h, w, D)."""
    side = math.isqrt(tokens.shape[1] // num_steps)
    return tokens.unflatten(1, (num_steps, side, side))
