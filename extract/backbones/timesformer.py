"""TimeSformer: attention over time and over space in turn; the tokens of each frame are averaged.

Bertasius et al., Is Space-Time Attention All You Need for Video Understanding?, ICML 2021.
"""

from __future__ import annotations

import torch
from torch import nn

from extract.backbones import Backbone, Licence, PublishedRepo, register
from extract.backbones.architecture import TransformersModel
from extract.backbones.pooling import pooled_tokens
from extract.preprocess import Preprocess
from extract.sampling import ClipShape


class TimeSformer(nn.Module):
    """The final normalised tokens, less the class token: (B, C, L, H, W) -> (B, L, grid * grid, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, grid: int) -> torch.Tensor:
        tokens = self.network(pixel_values=x.transpose(1, 2)).last_hidden_state[:, 1:]
        by_patch = tokens.unflatten(1, (-1, x.shape[2]))  # (B, N, L, D): here the frames of a patch stand together
        return pooled_tokens(by_patch.transpose(1, 2), grid)


def _row(
    variant: str,
    repo: str,
    *,
    pretraining: str,
    num_frames: int,
    fps: float,
    pixels: int,
    parameters: int,
    gflops: float,
) -> None:
    settings = {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "image_size": pixels,
        "patch_size": 16,
        "num_frames": num_frames,
        "attention_type": "divided_space_time",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
    }
    register(
        Backbone(
            name=f"timesformer_{variant}",
            family="TimeSformer",
            pretraining=pretraining,
            model=TransformersModel("TimesformerModel", "TimesformerConfig", settings, TimeSformer),
            dim=768,
            clip=ClipShape(num_frames, fps, num_frames),
            side=pixels // 16,
            parameters=parameters,
            gflops=gflops,
            preprocess=Preprocess(
                resize=pixels, crop=(pixels, pixels), mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225)
            ),
            classifier=("classifier.",),
            weights=PublishedRepo(repo),
            licence=Licence(code="Apache-2.0", weights="CC-BY-NC-4.0"),
            source="Bertasius et al., Is Space-Time Attention All You Need?, ICML 2021; transformers",
        )
    )


# Kinetics: every 32nd frame of 30 a second (every 16th at high resolution, every 4th for the long one), as in the
# authors' configurations. Something-Something: spread over the whole of a video, which is some 4 s long.
# fmt: off
_row("base_k400", "facebook/timesformer-base-finetuned-k400", pretraining="ImageNet-21k, Kinetics-400",
     num_frames=8, fps=0.9375, pixels=224, parameters=121_258_752, gflops=196.0)
_row("base_k600", "facebook/timesformer-base-finetuned-k600", pretraining="ImageNet-21k, Kinetics-600",
     num_frames=8, fps=0.9375, pixels=224, parameters=121_258_752, gflops=196.0)
_row("base_ssv2", "facebook/timesformer-base-finetuned-ssv2", pretraining="ImageNet-21k, Something-Something v2",
     num_frames=8, fps=2.0, pixels=224, parameters=121_258_752, gflops=196.0)
_row("hr_k400", "facebook/timesformer-hr-finetuned-k400", pretraining="ImageNet-21k, Kinetics-400",
     num_frames=16, fps=1.875, pixels=448, parameters=121_716_480, gflops=1703)
_row("hr_k600", "facebook/timesformer-hr-finetuned-k600", pretraining="ImageNet-21k, Kinetics-600",
     num_frames=16, fps=1.875, pixels=448, parameters=121_716_480, gflops=1703)
_row("hr_ssv2", "facebook/timesformer-hr-finetuned-ssv2", pretraining="ImageNet-21k, Something-Something v2",
     num_frames=16, fps=4.0, pixels=448, parameters=121_716_480, gflops=1703)
_row("long_k400", "fcakyon/timesformer-large-finetuned-k400", pretraining="ImageNet-21k, Kinetics-400",
     num_frames=96, fps=7.5, pixels=224, parameters=121_326_336, gflops=2380)
# fmt: on
