"""InternVideo2: a video transformer that learned other networks' features; and EgoVideo, which is tuned from it.

Wang et al., InternVideo2: Scaling Foundation Models for Multimodal Video Understanding, ECCV 2024. Pei et al.,
EgoVideo: Exploring Egocentric Foundation Model and Downstream Adaptation, 2024; 45.9 mAP in zero-shot retrieval on
EPIC-KITCHENS-100.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from extract.backbone_input import IMAGENET_MEAN, IMAGENET_STD, ClipShape, Preprocess
from extract.backbones.architecture import TorchModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedPage, PublishedRepo

if TYPE_CHECKING:
    import torch

    from extract.backbones.networks.clip_network import ClipNetwork


_SIDE = 16
# Attention pooling, classifiers of tuned networks, and what the pretraining compares with its teachers.
_UNUSED = (
    "clip_projector.",
    "fc_norm.",
    "head.",
    "extra_mlp.",
    "clip_pos_embed",
    "clip_decoder.",
    "final_clip_decoder.",
    "mae_pos_embed",
    "mae_decoder.",
)


def _network(*, dim: int, depth: int, heads: int, hidden: int, num_frames: int, side: int = _SIDE) -> ClipNetwork:
    from extract.backbones.networks.internvideo2 import Encoder, InternVideo2

    return InternVideo2(Encoder(dim=dim, depth=depth, heads=heads, hidden=hidden, num_frames=num_frames, side=side))


def _joined_positions(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    from extract.backbones.networks.internvideo2 import joined_positions

    return joined_positions(state)


def _backbone(
    name: str,
    model: partial[ClipNetwork],
    weights: PublishedRepo | PublishedPage,
    *,
    pretraining: str,
    parameters: int,
    gflops: float,
    antialias: bool = False,
    prefix: str = "",
    licence: Licence = Licence(code="Apache-2.0", weights="Apache-2.0"),  # noqa: B008
    source: str = "Wang et al., InternVideo2, ECCV 2024",
) -> Backbone:
    num_frames = model.keywords["num_frames"]
    return Backbone(
        name=name,
        family="InternVideo2",
        pretraining=pretraining,
        model=TorchModel(model),
        dim=model.keywords["dim"],
        # Their authors spread the frames over the whole video or segment, in pretraining and tests. For whole videos,
        # 2 fps are 8 frames over 4 s, about a video of Something-Something, and 4 over 2 s, the median segment of
        # EPIC-KITCHENS.
        clip=ClipShape(num_frames, 2.0, num_frames, spread=True),
        side=_SIDE,
        parameters=parameters,
        gflops=gflops,
        preprocess=Preprocess(resize=224, crop=(224, 224), mean=IMAGENET_MEAN, std=IMAGENET_STD, antialias=antialias),
        layout=Layout(prefix=prefix, leave_out=_UNUSED, convert=_joined_positions),
        weights=weights,
        licence=licence,
        source=source,
        class_token=True,
        num_layers=model.keywords["depth"],
    )


def _distilled(size: str, model: partial[ClipNetwork], *, parameters: int, gflops: float) -> Backbone:
    """Return the record of a network that was distilled from the one of 1 billion parameters."""
    run = f"{size[0].upper()}14"
    return _backbone(
        f"internvideo2_{size}",
        model,
        PublishedRepo(
            "OpenGVLab/InternVideo2_distillation_models", file=f"stage1/{run}/{run}_dist_1B_stage2/pytorch_model.bin"
        ),
        pretraining="K-Mash-1.1M, InternVideo2-1B's features",
        parameters=parameters,
        gflops=gflops,
        licence=Licence(code="Apache-2.0", weights="not stated"),
    )


_SMALL = partial(_network, dim=384, depth=12, heads=6, hidden=1536, num_frames=8)
_BASE = partial(_network, dim=768, depth=12, heads=12, hidden=3072, num_frames=8)
_LARGE = partial(_network, dim=1024, depth=24, heads=16, hidden=4096, num_frames=8)
_BILLION = partial(_network, dim=1408, depth=40, heads=16, hidden=6144)

BACKBONES = (
    _distilled("small", _SMALL, parameters=22_302_336, gflops=82.7),
    _distilled("base", _BASE, parameters=87_072_000, gflops=252.0),
    _distilled("large", _LARGE, parameters=304_987_136, gflops=826.0),
    _backbone(
        "internvideo2_1b",
        partial(_BILLION, num_frames=8),
        PublishedRepo("OpenGVLab/InternVideo2-Stage1-1B-224p-f8", gated=True, file="pretrain.pth"),
        pretraining="K-Mash-1.1M, InternVL-6B's and VideoMAEv2-g's features",
        parameters=1_013_666_432,
        gflops=2543.0,
    ),
    _backbone(
        "egovideo_1b",
        partial(_BILLION, num_frames=4),
        PublishedPage("https://github.com/OpenGVLab/EgoVideo/tree/main/backbone", "ckpt_4frames.pth"),
        pretraining="InternVideo2-1B, Ego4D narrations, HowTo100M, EgoExoLearn",
        parameters=1_012_224_640,
        gflops=1154.0,
        antialias=True,  # its decoder resizes frames, where OpenCV does so for the others
        prefix="visual.",
        licence=Licence(code="not stated", weights="not stated"),
        source="Pei et al., EgoVideo, 2024",
    ),
)
