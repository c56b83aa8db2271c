"""TimeSformer: attention alternates between time and space; the tokens of each frame are averaged.

Bertasius et al., Is Space-Time Attention All You Need for Video Understanding?, ICML 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extract.backbone_input import GREY_MEAN, GREY_STD, ClipShape, Preprocess
from extract.backbones.architecture import TransformersModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedRepo

if TYPE_CHECKING:
    from extract.backbones.networks.clip_network import ClipNetwork


def _steps(network: Any) -> ClipNetwork:
    from extract.backbones.networks.timesformer import TimeSformer

    return TimeSformer(network)


def _backbone(
    variant: str,
    repo: str,
    *,
    pretraining: str,
    num_frames: int,
    fps: float,
    spread: bool = False,
    pixels: int,
    parameters: int,
    gflops: float,
) -> Backbone:
    """Return the record of a variant, published as the repository `repo`."""
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
    return Backbone(
        name=f"timesformer_{variant}",
        family="TimeSformer",
        pretraining=pretraining,
        model=TransformersModel("TimesformerModel", "TimesformerConfig", settings, _steps),
        dim=768,
        clip=ClipShape(num_frames, fps, num_frames, spread),
        side=pixels // 16,
        parameters=parameters,
        gflops=gflops,
        preprocess=Preprocess(resize=pixels, crop=(pixels, pixels), mean=GREY_MEAN, std=GREY_STD),
        layout=Layout(leave_out=("classifier.",)),
        weights=PublishedRepo(repo),
        licence=Licence(code="Apache-2.0", weights="CC-BY-NC-4.0"),
        source="Bertasius et al., Is Space-Time Attention All You Need?, ICML 2021; transformers",
        class_token=True,
        num_layers=12,
    )


# Kinetics: every 32nd frame at 30 fps (every 16th at high resolution, every 4th for the long variant), as in the
# authors' configurations. Something-Something: frames spread over a whole video, which is of one action and some 4 s
# long; the rate is for videos of more than one.
# fmt: off
BACKBONES = (
    _backbone("base_k400", "facebook/timesformer-base-finetuned-k400", pretraining="ImageNet-21k, Kinetics-400",
              num_frames=8, fps=0.9375, pixels=224, parameters=121_258_752, gflops=196.0),
    _backbone("base_k600", "facebook/timesformer-base-finetuned-k600", pretraining="ImageNet-21k, Kinetics-600",
              num_frames=8, fps=0.9375, pixels=224, parameters=121_258_752, gflops=196.0),
    _backbone("base_ssv2", "facebook/timesformer-base-finetuned-ssv2",
              pretraining="ImageNet-21k, Something-Something v2",
              num_frames=8, fps=2.0, spread=True, pixels=224, parameters=121_258_752, gflops=196.0),
    _backbone("hr_k400", "facebook/timesformer-hr-finetuned-k400", pretraining="ImageNet-21k, Kinetics-400",
              num_frames=16, fps=1.875, pixels=448, parameters=121_716_480, gflops=1703),
    _backbone("hr_k600", "facebook/timesformer-hr-finetuned-k600", pretraining="ImageNet-21k, Kinetics-600",
              num_frames=16, fps=1.875, pixels=448, parameters=121_716_480, gflops=1703),
    _backbone("hr_ssv2", "facebook/timesformer-hr-finetuned-ssv2", pretraining="ImageNet-21k, Something-Something v2",
              num_frames=16, fps=4.0, spread=True, pixels=448, parameters=121_716_480, gflops=1703),
    _backbone("long_k400", "fcakyon/timesformer-large-finetuned-k400", pretraining="ImageNet-21k, Kinetics-400",
              num_frames=96, fps=7.5, pixels=224, parameters=121_326_336, gflops=2380),
)
# fmt: on
