"""InternVideo2's video transformer, which is also EgoVideo's, with the published names of its parameters.

Wang et al., InternVideo2: Scaling Foundation Models for Multimodal Video Understanding, ECCV 2024; Pei et al.,
EgoVideo, 2024. The published networks end in an attention pooling and classifiers or decoders, which are left out here.
There is no norm after the last block.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens
from extract.backbones.networks.transformer_parts import Mlp, PatchEmbedding, frame_positions, tokens_of_layers

_EPS = 1e-6
_PATCH = 14


class RmsNorm(nn.Module):
    """Values divided by the root of their mean square, and scaled: (..., D) -> (..., D). torch has it since 2.4."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        full = x.float()
        full = full * torch.rsqrt(full.square().mean(dim=-1, keepdim=True) + _EPS)
        return full.to(x.dtype) * self.weight


class LayerScale(nn.Module):
    """Values scaled channel by channel: (..., D) -> (..., D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class Attention(nn.Module):
    """Self-attention whose queries and keys are normalised over all heads at once: (B, N, D) -> (B, N, D)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_norm = RmsNorm(dim)
        self.k_norm = RmsNorm(dim)
        self.proj = nn.Linear(dim, dim)
        self._heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=2)
        q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        q, k, v = (y.unflatten(2, (self._heads, -1)).transpose(1, 2) for y in (q, k, v))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and an MLP, each on normalised tokens, scaled, and added to them: (B, N, D) -> (B, N, D)."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = RmsNorm(dim)
        self.attn = Attention(dim, heads)
        self.ls1 = LayerScale(dim)
        self.norm2 = RmsNorm(dim)
        # Trained with flash-attention's fused MLP, which has no other GELU. The plain MLP in the publisher's code has
        # the same names of parameters and the exact GELU.
        self.mlp = Mlp(dim, hidden, nn.GELU(approximate="tanh"))
        self.ls2 = LayerScale(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Encoder(nn.Module):
    """The parts of the encoder; `InternVideo2` runs them.

    Args:
        hidden: the width between the two linear layers of an MLP.
        num_frames, side: the frames of a clip, and the patches on each side of a frame, that have a position each.
    """

    def __init__(self, *, dim: int, depth: int, heads: int, hidden: int, num_frames: int, side: int) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(dim, (1, _PATCH, _PATCH))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        # The class token's position first, then those of the patches, frame by frame.
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + num_frames * side**2, dim))
        self.blocks = nn.ModuleList([Block(dim, heads, hidden) for _ in range(depth)])
        self.num_frames = num_frames

    def positions(self, num_frames: int) -> torch.Tensor:
        """Return the embeddings of positions, (1, 1 + N, D), linear in time for another number of frames."""
        of_class, of_patches = self.pos_embed[0].split([1, self.pos_embed.shape[1] - 1])
        rows = frame_positions(of_patches.unflatten(0, (self.num_frames, -1)).flatten(1), num_frames, first_rows=False)
        return torch.cat([of_class, rows.unflatten(1, (-1, of_class.shape[1])).flatten(0, 1)]).unsqueeze(0)


class InternVideo2(ClipNetwork):
    """The tokens of each frame, and one class token of the clip: (B, C, L, H, W) -> (B, L, H / 14, W / 14, D)."""

    network: Encoder

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        net = self.network
        x = net.patch_embed(x)
        num_frames, height, width = x.shape[2:]
        x = torch.cat([net.cls_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        x = x + net.positions(num_frames)
        size = (num_frames, height, width)
        return tokens_of_layers(x, list(net.blocks), nn.Identity(), layers=layers, size=size)


def joined_positions(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict with one table of positions, where it has one for space, one for time and one for the class.

    Others are returned as they are; if they do not fit the network, they are refused with their names.
    """
    names = ("pos_embed_spatial", "pos_embed_temporal", "pos_embed_cls")
    if "pos_embed" in state or any(name not in state or state[name].ndim != 3 for name in names):
        return dict(state)
    space, time, of_class = (state[name] for name in names)
    patches = (time[:, :, None] + space[:, None]).flatten(1, 2)  # (1, frames * h * w, D)
    others = {name: tensor for name, tensor in state.items() if name not in names}
    return {**others, "pos_embed": torch.cat([of_class, patches], dim=1)}
