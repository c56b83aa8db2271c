"""VideoPrism of the transformers library: a step per frame."""

from __future__ import annotations

import torch

from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens
from extract.backbones.networks.pooling import patches_of


class VideoPrism(ClipNetwork):
    """The tokens after the temporal blocks and their norm: L frames give L steps."""

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        tokens = self.network(pixel_values_videos=x.transpose(1, 2)).last_hidden_state
        return (LayerTokens(patches_of(tokens, x.shape[2])),)
