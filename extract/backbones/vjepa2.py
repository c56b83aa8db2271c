"""V-JEPA 2: a video transformer trained to predict the features of masked parts; its encoder alone.

Assran et al., V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning, 2025.
"""

from __future__ import annotations

import torch
from torch import nn

from extract.backbones import Backbone, Licence, PublishedRepo, register
from extract.backbones.architecture import TransformersModel
from extract.backbones.pooling import pooled_tokens
from extract.preprocess import Preprocess
from extract.sampling import ClipShape


class VJepa2(nn.Module):
    """The encoder's final normalised tokens: (B, C, L, H, W) -> (B, L / 2, grid * grid, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.predictor = nn.Identity()
        self.network = network

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        tokens = self.network.encoder(x.transpose(1, 2)).last_hidden_state
        return pooled_tokens(tokens.unflatten(1, (x.shape[2] // 2, -1)), grid)  # tokens come time first


_SIZES = {
    "vitl": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "mlp_ratio": 4},
    "vith": {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16, "mlp_ratio": 4},
    "vitg": {"hidden_size": 1408, "num_hidden_layers": 40, "num_attention_heads": 22, "mlp_ratio": 48 / 11},
}


def _row(size: str, pixels: int, *, parameters: int, gflops: float) -> None:
    settings = {**_SIZES[size], "crop_size": pixels, "patch_size": 16, "tubelet_size": 2, "layer_norm_eps": 1e-6}
    register(
        Backbone(
            name=f"vjepa2_{size}_{pixels}",
            family="V-JEPA 2",
            pretraining="VideoMix22M, self-supervised",
            model=TransformersModel("VJEPA2Model", "VJEPA2Config", settings, VJepa2, unused=("predictor.",)),
            dim=_SIZES[size]["hidden_size"],
            # 32 frames at 8 a second, as the paper's own probe of EPIC-KITCHENS-100; positions are relative (RoPE),
            # so that the 64 frames of the pre-training are no limit.
            clip=ClipShape(32, 8.0, 16),
            side=pixels // 16,
            parameters=parameters,
            gflops=gflops,
            preprocess=Preprocess(
                resize=pixels * 256 // 224, crop=(pixels, pixels), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
            ),
            classifier=("predictor.",),
            weights=PublishedRepo(f"facebook/vjepa2-{size}-fpc64-{pixels}"),
            licence=Licence(code="Apache-2.0", weights="Apache-2.0" if size == "vitg" else "MIT"),
            source="Assran et al., V-JEPA 2, 2025; transformers",
        )
    )


_row("vitl", 256, parameters=303_885_312, gflops=2068)
_row("vith", 256, parameters=631_648_000, gflops=3959)
_row("vitg", 256, parameters=1_012_173_952, gflops=6033)
_row("vitg", 384, parameters=1_012_173_952, gflops=18890)
