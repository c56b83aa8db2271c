"""Image transformers of the transformers library: the mean of their patch tokens."""

from __future__ import annotations

import torch
from torch import nn

from extract.backbones.networks.clip_network import ClipNetwork
from extract.backbones.networks.pooling import pooled_tokens


class PatchTokens(ClipNetwork):
    """The final normalised tokens of the patches: (B, C, 1, H, W) -> (B, 1, grid * grid, D).

    Args:
        num_prefix_tokens: class and register tokens, which come first and are left out.
    """

    def __init__(self, network: nn.Module, *, num_prefix_tokens: int) -> None:
        super().__init__(network)
        self._num_prefix_tokens = num_prefix_tokens

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        tokens = self.network(pixel_values=x.squeeze(2)).last_hidden_state[:, self._num_prefix_tokens :]
        return pooled_tokens(tokens.unsqueeze(1), grid)
