"""VideoMAE of the transformers library: the tokens of each temporal position are averaged."""

from __future__ import annotations

import torch
from torch import nn

from extract.backbones.networks.clip_network import ClipNetwork
from extract.backbones.networks.pooling import pooled_tokens


class VideoMae(ClipNetwork):
    """Tokens averaged over space: (B, C, L, H, W) -> (B, L / 2, grid * grid, D).

    A fine-tuned network normalises after its average (`fc_norm`), and so does this module; a pre-trained one normalises
    each token.
    """

    def __init__(self, network: nn.Module) -> None:
        if hasattr(network, "classifier"):
            network.classifier = nn.Identity()
        super().__init__(network)

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        tokens = self.network.base_model(pixel_values=x.transpose(1, 2)).last_hidden_state
        x = pooled_tokens(tokens.unflatten(1, (x.shape[2] // 2, -1)), grid)  # time is the tokens' first axis
        return self.network.fc_norm(x) if hasattr(self.network, "fc_norm") else x
