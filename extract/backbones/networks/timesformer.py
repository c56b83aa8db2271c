"""TimeSformer of the transformers library."""

from __future__ import annotations

import math

import torch

from extract.backbones.networks.clip_network import LayerTokens
from extract.backbones.networks.transformer import TransformerNetwork


class TimeSformer(TransformerNetwork):
    """A step is a frame, and a clip has one class token."""

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        num_frames = x.shape[2]
        return tuple(_by_frame(tokens, num_frames) for tokens in self.tokens_of(x, layers))

    def last_tokens(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(pixel_values=x.transpose(1, 2)).last_hidden_state

    def normalised(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.network.layernorm(tokens)


def _by_frame(tokens: torch.Tensor, num_frames: int) -> LayerTokens:
    """Return a clip's tokens, (B, 1 + N * L, D), in which the frames of a patch come one after another."""
    side = math.isqrt((tokens.shape[1] - 1) // num_frames)
    patches = tokens[:, 1:].unflatten(1, (side, side, num_frames))
    return LayerTokens(patches.permute(0, 3, 1, 2, 4), tokens[:, :1])
