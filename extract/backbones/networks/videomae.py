"""VideoMAE of the transformers library."""

from __future__ import annotations

import torch
from torch import nn

from extract.backbones.networks.clip_network import LayerTokens
from extract.backbones.networks.pooling import patches_of
from extract.backbones.networks.transformer import TransformerNetwork


class VideoMae(TransformerNetwork):
    """A step has two frames, and there is no class token.

    A fine-tuned network normalises after its average (`fc_norm`), and so does this module; a pre-trained one normalises
    each token.
    """

    def __init__(self, network: nn.Module) -> None:
        if hasattr(network, "classifier"):
            network.classifier = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        num_steps = x.shape[2] // 2
        return tuple(LayerTokens(patches_of(tokens, num_steps)) for tokens in self.tokens_of(x, layers))

    def last_tokens(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.base_model(pixel_values=x.transpose(1, 2)).last_hidden_state

    def normalised(self, tokens: torch.Tensor) -> torch.Tensor:
        norm = self.network.base_model.layernorm  # None in a fine-tuned network
        return tokens if norm is None else norm(tokens)

    def normalised_mean(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.fc_norm(x) if hasattr(self.network, "fc_norm") else x
