"""The video tower of AVION and EgoHOD: a CLIP transformer in which every token attends to all tokens of a clip.

Zhao and Krähenbühl, Training a Large Video Model on a Single Machine in a Day, 2023; Pei et al., Modeling Fine-Grained
Hand-Object Dynamics for Egocentric Video Representation Learning, ICLR 2025. Names of parameters are those of files
that were trained with flash attention.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens
from extract.backbones.networks.transformer_parts import (
    Mlp,
    frame_positions,
    tokens_of_layers,
    with_positions,
)

_EPS = 1e-6


class JointAttention(nn.Module):
    """Attention among all tokens: (B, N, D) -> (B, N, D)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.Wqkv = nn.Linear(dim, 3 * dim)  # rows of all queries, then of all keys, then of all values
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.Wqkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, d) each
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and two linear layers, each normalised before and added to its input."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim, eps=_EPS)
        self.attn = JointAttention(dim, num_heads)
        self.ln_2 = nn.LayerNorm(dim, eps=_EPS)
        self.mlp = Mlp(dim, 4 * dim, nn.GELU())  # exact, although it began as OpenAI's CLIP

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """The blocks, under the name that they have in published files."""

    def __init__(self, dim: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(dim, num_heads) for _ in range(depth))


class SpaceTimeClip(nn.Module):
    """The embedding, the blocks and the last norm.

    Args:
        patch: pixels per side of a patch.
        side: patches per side of a picture.
        num_positions: rows of the published embedding of time; clips may have any number of frames.
        first_rows: whether a shorter clip takes the first of these rows (AVION), or interpolated ones (EgoHOD).
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        num_heads: int,
        patch: int,
        side: int,
        num_positions: int,
        first_rows: bool,
    ) -> None:
        super().__init__()
        self.side = side
        self.first_rows = first_rows
        self.class_embedding = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn(1 + side**2, dim) * dim**-0.5)
        self.temporal_embedding = nn.Parameter(torch.randn(num_positions, dim) * dim**-0.5)
        self.conv1 = nn.Conv2d(3, dim, patch, stride=patch, bias=False)
        self.ln_pre = nn.LayerNorm(dim, eps=_EPS)
        self.transformer = Transformer(dim, depth, num_heads)
        self.ln_post = nn.LayerNorm(dim, eps=_EPS)

    def embedded(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tokens that the first block takes: (B, 3, L, H, W) -> (B, 1 + L * N, D)."""
        B, _, L = x.shape[:3]
        patches = self.conv1(x.transpose(1, 2).flatten(0, 1)).flatten(2).transpose(1, 2)  # (B * L, N, D)
        moments = frame_positions(self.temporal_embedding, L, first_rows=self.first_rows)
        patches = patches.unflatten(0, (B, L))
        return self.ln_pre(with_positions(patches, self.class_embedding, self.positional_embedding, moments))


class SpaceTimeClipTokens(ClipNetwork):
    """Tokens after `ln_post`, before any projection: (B, C, L, H, W) -> patches (B, L, h, w, D), and a class token."""

    network: SpaceTimeClip

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        net = self.network
        blocks = list(net.transformer.resblocks)
        size = (x.shape[2], net.side, net.side)
        return tokens_of_layers(net.embedded(x), blocks, net.ln_post, layers=layers, size=size)
