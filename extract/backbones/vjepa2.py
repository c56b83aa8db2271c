"""V-JEPA 2: a video transformer trained to predict the features of masked parts; the encoder alone.

Assran et al., V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning, 2025.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extract.backbone_input import IMAGENET_MEAN, IMAGENET_STD, ClipShape, Preprocess
from extract.backbones.architecture import TransformersModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedRepo

if TYPE_CHECKING:
    from extract.backbones.networks.clip_network import ClipNetwork


def _steps(network: Any) -> ClipNetwork:
    from extract.backbones.networks.vjepa2 import VJepa2

    return VJepa2(network)


_SIZES = {
    "vitl": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
    "vith": {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16},
    "vitg": {"hidden_size": 1408, "num_hidden_layers": 40, "num_attention_heads": 22},
}
_MLP_RATIO = {"vitl": 4, "vith": 4, "vitg": 48 / 11}


def _backbone(size: str, pixels: int, *, parameters: int, gflops: float) -> Backbone:
    """Return the record of a size of encoder that was trained at `pixels` x `pixels`."""
    settings = {
        **_SIZES[size],
        "mlp_ratio": _MLP_RATIO[size],
        "crop_size": pixels,
        "patch_size": 16,
        "tubelet_size": 2,
        "layer_norm_eps": 1e-6,
    }
    return Backbone(
        name=f"vjepa2_{size}_{pixels}",
        family="V-JEPA 2",
        pretraining="VideoMix22M, self-supervised",
        model=TransformersModel("VJEPA2Model", "VJEPA2Config", settings, _steps, unused=("predictor.",)),
        dim=_SIZES[size]["hidden_size"],
        # The paper's own probe of EPIC-KITCHENS-100 takes 32 frames at 8 fps. Positions are relative (RoPE), so that
        # the 64 frames of the pre-training are no limit.
        clip=ClipShape(32, 8.0, 16),
        side=pixels // 16,
        parameters=parameters,
        gflops=gflops,
        preprocess=Preprocess(resize=pixels * 256 // 224, crop=(pixels, pixels), mean=IMAGENET_MEAN, std=IMAGENET_STD),
        layout=Layout(leave_out=("predictor.",)),
        weights=PublishedRepo(f"facebook/vjepa2-{size}-fpc64-{pixels}"),
        licence=Licence(code="Apache-2.0", weights="Apache-2.0" if size == "vitg" else "MIT"),
        source="Assran et al., V-JEPA 2, 2025; transformers",
        num_layers=_SIZES[size]["num_hidden_layers"],
    )


BACKBONES = (
    _backbone("vitl", 256, parameters=303_885_312, gflops=2068),
    _backbone("vith", 256, parameters=631_648_000, gflops=3959),
    _backbone("vitg", 256, parameters=1_012_173_952, gflops=6033),
    _backbone("vitg", 384, parameters=1_012_173_952, gflops=18890),
)
