"""V-JEPA 2 of the transformers library: its encoder alone."""

from __future__ import annotations

import torch
from torch import nn

from extract.backbones.networks.clip_network import LayerTokens
from extract.backbones.networks.pooling import patches_of
from extract.backbones.networks.transformer import TransformerNetwork


class VJepa2(TransformerNetwork):
    """A step has two frames, and there is no class token."""

    def __init__(self, network: nn.Module) -> None:
        network.predictor = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        num_steps = x.shape[2] // 2
        return tuple(LayerTokens(patches_of(tokens, num_steps)) for tokens in self.tokens_of(x, layers))

    def last_tokens(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.encoder(x.transpose(1, 2)).last_hidden_state

    def normalised(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.network.encoder.layernorm(tokens)
