"""V-JEPA 2 of the transformers library: its encoder alone, the tokens of each temporal position averaged."""

from __future__ import annotations

import torch
from torch import nn

from extract.backbones.networks.clip_network import ClipNetwork
from extract.backbones.networks.pooling import pooled_tokens


class VJepa2(ClipNetwork):
    """The encoder's final normalised tokens: (B, C, L, H, W) -> (B, L / 2, grid * grid, D)."""

    def __init__(self, network: nn.Module) -> None:
        network.predictor = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        tokens = self.network.encoder(x.transpose(1, 2)).last_hidden_state
        return pooled_tokens(tokens.unflatten(1, (x.shape[2] // 2, -1)), grid)  # time is the tokens' first axis
