"""The video tower of LaViLa and EgoVLP: a transformer in which patches attend to their place, and then to their frame.

Bain et al., Frozen in Time, ICCV 2021 (the block); Zhao et al., Learning Video Representations from Large Language
Models, CVPR 2023 (LaViLa); Lin et al., Egocentric Video-Language Pretraining, NeurIPS 2022 (EgoVLP). It is not the
TimeSformer of transformers, whose attention over space is added to what attention over time gave.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens
from extract.backbones.networks.transformer_parts import (
    Mlp,
    QuickGelu,
    frame_positions,
    tokens_of_layers,
    with_positions,
)

_EPS = 1e-6


class DividedAttention(nn.Module):
    """Attention of patches within groups, and of the class token to all: (B, 1 + L * N, D) -> the same shape.

    A patch attends to its group and to the class token. A group is a place in all frames, or a frame.
    """

    def __init__(self, dim: int, num_heads: int, *, over_time: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.over_time = over_time
        self.qkv = nn.Linear(dim, 3 * dim)  # rows of all queries, then of all keys, then of all values
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, num_frames: int) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))  # (B, 1 + L * N, 3, heads, d)
        class_token = _attention(qkv, slice(0, 1))  # (B, 1, D)
        groups = self._swapped(qkv[:, 1:].unflatten(1, (num_frames, -1)))  # (B, G, M, 3, heads, d)
        B, G = groups.shape[:2]
        class_qkv = qkv[:, None, :1].expand(-1, G, -1, -1, -1, -1)
        groups = torch.cat([class_qkv, groups], dim=2).flatten(0, 1)  # (B * G, 1 + M, 3, heads, d)
        patches = self._swapped(_attention(groups, slice(1, None)).unflatten(0, (B, G)))  # (B, L, N, D)
        return self.proj(torch.cat([class_token, patches.flatten(1, 2)], dim=1))

    def _swapped(self, x: torch.Tensor) -> torch.Tensor:
        """Turn frames of places into groups of members, (B, L, N, ...) -> (B, G, M, ...), or back."""
        return x.transpose(1, 2) if self.over_time else x


def _attention(qkv: torch.Tensor, queries: slice) -> torch.Tensor:
    """Return what some of N tokens find when they attend to all N: (B, N, 3, heads, d) -> (B, queries, heads * d)."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q[:, :, queries], k, v).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """Attention over time and over space, and two linear layers.

    Attention over space sees what attention over time gave, but is added to the block's input.
    """

    def __init__(self, dim: int, num_heads: int, activation: nn.Module) -> None:
        super().__init__()
        self.norm3 = nn.LayerNorm(dim, eps=_EPS)
        self.timeattn = DividedAttention(dim, num_heads, over_time=True)
        self.norm1 = nn.LayerNorm(dim, eps=_EPS)
        self.attn = DividedAttention(dim, num_heads, over_time=False)
        self.norm2 = nn.LayerNorm(dim, eps=_EPS)
        self.mlp = Mlp(dim, 4 * dim, activation)

    def forward(self, x: torch.Tensor, num_frames: int) -> torch.Tensor:
        timed = x + self.timeattn(self.norm3(x), num_frames)
        x = x + self.attn(self.norm1(timed), num_frames)
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    """Pictures to patches, row by row: (N, 3, H, W) -> (N, h * w, D)."""

    def __init__(self, dim: int, patch: int, *, bias: bool) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, stride=patch, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class DividedSpaceTime(nn.Module):
    """The embedding, the blocks and the last norm.

    Args:
        patch: pixels per side of a patch.
        side: patches per side of a picture.
        num_positions: rows of the published embedding of time; clips may have any number of frames.
        from_clip: whether it began as OpenAI's CLIP (LaViLa): QuickGELU, a norm before the first block, and patches
            without a bias. EgoVLP began as an image transformer.
    """

    def __init__(
        self, *, dim: int, depth: int, num_heads: int, patch: int, side: int, num_positions: int, from_clip: bool
    ) -> None:
        super().__init__()
        self.side = side
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * dim**-0.5)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + side**2, dim) * dim**-0.5)
        self.temporal_embed = nn.Parameter(torch.randn(1, num_positions, dim) * dim**-0.5)
        self.patch_embed = PatchEmbedding(dim, patch, bias=not from_clip)
        self.ln_pre = nn.LayerNorm(dim) if from_clip else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(dim, num_heads, QuickGelu() if from_clip else nn.GELU()) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=_EPS)

    def embedded(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tokens that the first block takes: (B, 3, L, H, W) -> (B, 1 + L * N, D)."""
        B, _, L = x.shape[:3]
        patches = self.patch_embed(x.transpose(1, 2).flatten(0, 1))  # (B * L, N, D)
        moments = frame_positions(self.temporal_embed[0], L, first_rows=True)
        return self.ln_pre(
            with_positions(patches.unflatten(0, (B, L)), self.cls_token[0, 0], self.pos_embed[0], moments)
        )


class DividedSpaceTimeTokens(ClipNetwork):
    """Tokens after `norm`, before any projection: (B, C, L, H, W) -> patches (B, L, h, w, D), and a class token."""

    network: DividedSpaceTime

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        net, num_frames = self.network, x.shape[2]
        blocks = [partial(block, num_frames=num_frames) for block in net.blocks]
        size = (num_frames, net.side, net.side)
        return tokens_of_layers(net.embedded(x), blocks, net.norm, layers=layers, size=size)
