"""TimeSformer of the transformers library: the tokens of each frame are averaged."""

from __future__ import annotations

import torch

from extract.backbones.networks.clip_network import ClipNetwork
from extract.backbones.networks.pooling import pooled_tokens


class TimeSformer(ClipNetwork):
    """The final normalised tokens without the class token: (B, C, L, H, W) -> (B, L, grid * grid, D)."""

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        tokens = self.network(pixel_values=x.transpose(1, 2)).last_hidden_state[:, 1:]
        by_patch = tokens.unflatten(1, (-1, x.shape[2]))  # (B, N, L, D): the frames of a patch come one after another
        return pooled_tokens(by_patch.transpose(1, 2), grid)
