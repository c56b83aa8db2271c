"""VideoPrism: a video transformer pre-trained on text and by masked distillation, meant to be used frozen.

Zhao et al., VideoPrism: A Foundational Visual Encoder for Video Understanding, ICML 2024. transformers has it from
version 5 on, which needs Python 3.11 and torch 2.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extract.backbone_input import ClipShape, Preprocess
from extract.backbones.architecture import TransformersModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedRepo

if TYPE_CHECKING:
    from extract.backbones.networks.clip_network import ClipNetwork


def _steps(network: Any) -> ClipNetwork:
    from extract.backbones.networks.videoprism import VideoPrism

    return VideoPrism(network)


_SIZES = {
    "base": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "num_spatial_layers": 12},
    "large": {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096, "num_spatial_layers": 24},
}


def _backbone(size: str, *, frames: int, fps: float, parameters: int, gflops: float) -> Backbone:
    settings = {
        **_SIZES[size],
        "image_size": 288,
        "num_frames": frames,
        "num_temporal_layers": 4,
        "tubelet_size": [1, 18, 18],
    }
    return Backbone(
        name=f"videoprism_{size}",
        family="VideoPrism",
        pretraining="private video and text",
        model=TransformersModel(
            model="VideoPrismVisionModel", config="VideoPrismVisionConfig", settings=settings, wrap=_steps
        ),
        dim=_SIZES[size]["hidden_size"],
        clip=ClipShape(frames, fps, frames),
        side=16,
        parameters=parameters,
        gflops=gflops,
        # The whole picture, squeezed to a square, as values in 0..1.
        preprocess=Preprocess(resize=(288, 288), crop=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        layout=Layout(),
        weights=PublishedRepo(f"google/videoprism-{size}-f{frames}r288"),
        licence=Licence(code="Apache-2.0", weights="Apache-2.0"),
        source="Zhao et al., VideoPrism, ICML 2024; transformers",
    )


# The authors spread frames evenly over a clip of some seconds; here that is 2 s.
# fmt: off
BACKBONES = (
    _backbone("base", frames=16, fps=8.0, parameters=114_365_184, gflops=486.6),
    _backbone("large", frames=8, fps=4.0, parameters=353_965_056, gflops=749.5),
)
# fmt: on
