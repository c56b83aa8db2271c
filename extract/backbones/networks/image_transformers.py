"""Image transformers of the transformers library: one frame in, the tokens of its patches and the class token out."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from extract.backbones.networks.clip_network import LayerTokens
from extract.backbones.networks.pooling import patches_of
from extract.backbones.networks.transformer import TransformerNetwork


class Dino(TransformerNetwork):
    """A DINOv2 or DINOv3: the class token is the first token.

    Args:
        num_prefix_tokens: class and register tokens, which come before the patches; registers are left out.
    """

    def __init__(self, network: nn.Module, *, num_prefix_tokens: int) -> None:
        super().__init__(network)
        self._num_prefix_tokens = num_prefix_tokens

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        return tuple(
            LayerTokens(patches_of(tokens[:, self._num_prefix_tokens :], 1), tokens[:, :1])
            for tokens in self.tokens_of(x, layers)
        )

    def last_tokens(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(pixel_values=x.squeeze(2)).last_hidden_state

    def normalised(self, tokens: torch.Tensor) -> torch.Tensor:
        norm = self.network.layernorm if hasattr(self.network, "layernorm") else self.network.norm
        return norm(tokens)


class Siglip(TransformerNetwork):
    """A SigLIP 2, whose class token is what its head pools from all tokens: the vector that was trained with text."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self._vision.use_head = False  # the head is called here, for each layer that is asked for

    @property
    def _vision(self) -> Any:
        """The transformer itself: until transformers 5 a module of its own."""
        return getattr(self.network, "vision_model", self.network)

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        return tuple(
            LayerTokens(patches_of(tokens, 1), self._vision.head(tokens).unsqueeze(1))
            for tokens in self.tokens_of(x, layers)
        )

    def last_tokens(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(pixel_values=x.squeeze(2)).last_hidden_state

    def normalised(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._vision.post_layernorm(tokens)
