"""V-JEPA 2.1: the encoder of videos, with the published names of its parameters.

Mur-Labadia et al., V-JEPA 2.1: Unlocking Dense Features in Video Self-Supervised Learning, 2026. The published V-JEPA
2.1 also encodes single images, with a patch embedding of their own; that part is left out here.

It is not the V-JEPA 2 of transformers under other names: an embedding marks the tokens as a video's, neighbouring
channels are rotated together, four layers have a norm of their own, and rows and columns may be rescaled to the grid of
the pretraining.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens
from extract.backbones.networks.transformer_parts import Mlp, PatchEmbedding

_EPS = 1e-6
_TUBELET, _PATCH = 2, 16
# Patches per side of the 256-pixel pictures of most of the pretraining.
_PRETRAINED_SIDE = 16


class Rotation(NamedTuple):
    """By which angle each pair of channels turns at each of N tokens: cosines and sines, both (N, 1, D / heads)."""

    cos: torch.Tensor
    sin: torch.Tensor

    def of(self, x: torch.Tensor) -> torch.Tensor:
        """Return queries or keys turned by their position: (B, N, heads, D / heads)."""
        quarter_turn = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
        return (x * self.cos + quarter_turn * self.sin).to(x.dtype)


def rotation(axes: Sequence[torch.Tensor], channels: int) -> Rotation:
    """Return the rotation of a grid of tokens, whose last axis runs fastest.

    Each axis has an equal and even share of the channels; what is left at the end does not turn.

    Args:
        axes: the positions along time, rows and columns, each (n,) float32.
        channels: of a head.
    """
    share = channels // (2 * len(axes)) * 2
    frequencies = 1e4 ** -(torch.arange(0, share, 2, device=axes[0].device) / share)
    positions = torch.cartesian_prod(*axes)  # (N, 3)
    angles = (positions[:, :, None] * frequencies).repeat_interleave(2, dim=2).flatten(1)
    angles = F.pad(angles, (0, channels - angles.shape[1]))[:, None]
    return Rotation(angles.cos(), angles.sin())


class Attention(nn.Module):
    """Self-attention with rotated queries and keys: (B, N, D) -> (B, N, D)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self._heads = heads

    def forward(self, x: torch.Tensor, turns: Rotation) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self._heads, -1)).unbind(2)  # (B, N, heads, D / heads)
        q, k, v = (y.transpose(1, 2) for y in (turns.of(q), turns.of(k), v))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and an MLP, each on normalised tokens and added to them: (B, N, D) -> (B, N, D)."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_EPS)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=_EPS)
        self.mlp = Mlp(dim, hidden, nn.GELU())

    def forward(self, x: torch.Tensor, turns: Rotation) -> torch.Tensor:
        x = x + self.attn(self.norm1(x), turns)
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    """The parts of the encoder; `VJepa21` runs them.

    Args:
        hidden: the width between the two linear layers of an MLP.
        levels: the blocks, numbered from 0, that have a norm of their own in `norms_block`; the last one's is also the
            norm of the output.
    """

    def __init__(self, *, dim: int, depth: int, heads: int, hidden: int, levels: Sequence[int]) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(dim, (_TUBELET, _PATCH, _PATCH))
        self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.ModuleList([Block(dim, heads, hidden) for _ in range(depth)])
        self.norms_block = nn.ModuleList([nn.LayerNorm(dim, eps=_EPS) for _ in levels])
        self.head_dim = dim // heads
        self._levels = tuple(levels)

    def norm_of(self, layer: int) -> nn.Module:
        """Return the norm that belongs to a block: its own, or else the norm of the output."""
        return self.norms_block[self._levels.index(layer) if layer in self._levels else -1]


class VJepa21(ClipNetwork):
    """The encoder's normalised tokens, without a class token: (B, C, L, H, W) -> (B, L / 2, H / 16, W / 16, D).

    Args:
        interpolated: whether rows and columns are counted from 0 to 15, whatever the size of the picture. So the
            network was trained, and so torch.hub builds it; the configurations of the published evaluations count
            patches instead. The features differ by a tenth.
    """

    network: Encoder

    def __init__(self, network: Encoder, *, interpolated: bool) -> None:
        super().__init__(network)
        self._interpolated = interpolated

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        net = self.network
        x = net.patch_embed(x)
        grid = tuple(x.shape[2:])
        x = x.flatten(2).transpose(1, 2) + net.video_mod_embed
        turns = rotation(self._axes(grid, x.device), net.head_dim)
        wanted = layers or (len(net.blocks) - 1,)
        tokens = {}
        for layer, block in enumerate(net.blocks[: max(wanted) + 1]):
            x = block(x, turns)
            if layer in wanted:
                tokens[layer] = LayerTokens(net.norm_of(layer)(x).unflatten(1, grid))
        return tuple(tokens[layer] for layer in wanted)

    def _axes(self, grid: Sequence[int], device: torch.device) -> list[torch.Tensor]:
        """Return the positions along time, rows and columns."""
        time, *sides = (torch.arange(size, device=device, dtype=torch.float32) for size in grid)
        if not self._interpolated:
            return [time, *sides]
        # A side of a single patch has only position 0, however it is scaled.
        return [time, *(side * ((_PRETRAINED_SIDE - 1) / max(len(side) - 1, 1)) for side in sides)]
