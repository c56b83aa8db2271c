"""VideoMAE as its authors publish it, not transformers: VideoMAE V2, and what others fine-tuned with their code.

Wang et al., VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking, CVPR 2023. Chalk et al., TIM: A Time
Interval Machine for Audio-Visual Action Recognition, CVPR 2024. The network is transformers' VideoMAE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extract.backbone_input import IMAGENET_MEAN, IMAGENET_STD, ClipShape, Preprocess
from extract.backbones.architecture import TransformersModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedFile, PublishedPage

if TYPE_CHECKING:
    from extract.backbones.layout import State
    from extract.backbones.networks.clip_network import ClipNetwork

_EPSILON = 1e-6  # of all their norms


def _steps(network: Any) -> ClipNetwork:
    from extract.backbones.networks.videomae import VideoMae

    network.fc_norm.eps = _EPSILON  # transformers has no setting for this one
    return VideoMae(network)


def _without_qkv(state: State) -> State:
    """Return a state dict with queries, keys and values apart, which the authors' code has in one matrix."""
    split: State = {}
    for name, tensor in state.items():
        if name.endswith(".qkv.weight"):
            parts = zip(("query", "key", "value"), tensor.chunk(3), strict=False)
            split.update({f"{name.removesuffix('qkv.weight')}{part}.weight": rows for part, rows in parts})
        else:
            split[name] = tensor
    return split


# Positions are a table that both compute.
LAYOUT = Layout(
    leave_out=("head.", "verb_head.", "noun_head."),
    rename=(
        (r"^patch_embed\.proj\.", "videomae.embeddings.patch_embeddings.projection."),
        (r"^blocks\.", "videomae.encoder.layer."),
        (r"\.norm1\.", ".layernorm_before."),
        (r"\.norm2\.", ".layernorm_after."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"\.attn\.", ".attention.attention."),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
    ),
    convert=_without_qkv,
)

_SIZES = {
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    "giant": {"hidden_size": 1408, "num_hidden_layers": 40, "num_attention_heads": 16, "intermediate_size": 6144},
}


def _backbone(
    name: str,
    size: str,
    weights: PublishedFile | PublishedPage,
    *,
    pretraining: str,
    clip: ClipShape,
    parameters: int,
    gflops: float,
    licence: Licence,
    source: str,
    is_epic: bool = False,
) -> Backbone:
    """Return the record of a network of some size, fine-tuned with the authors' code."""
    patch = 14 if size == "giant" else 16
    settings = {
        **_SIZES[size],
        "image_size": 224,
        "patch_size": patch,
        "num_frames": 16,
        "tubelet_size": 2,
        "layer_norm_eps": _EPSILON,
        "use_mean_pooling": True,
    }
    return Backbone(
        name=name,
        family="VideoMAE",
        pretraining=pretraining,
        model=TransformersModel(
            "VideoMAEForVideoClassification", "VideoMAEConfig", settings, _steps, unused=("classifier.",)
        ),
        dim=_SIZES[size]["hidden_size"],
        clip=clip,
        side=224 // patch,
        parameters=parameters,
        gflops=gflops,
        # They resize with OpenCV.
        preprocess=Preprocess(224, (224, 224), IMAGENET_MEAN, IMAGENET_STD, antialias=False),
        layout=LAYOUT,
        weights=weights,
        licence=licence,
        source=source,
        seen_of_epic="labels" if is_epic else "nothing",
        num_layers=_SIZES[size]["num_hidden_layers"],
    )


_HUB = "https://huggingface.co/OpenGVLab/VideoMAE2/resolve/main"
_V2: dict[str, Any] = {
    "licence": Licence(code="MIT", weights="Apache-2.0"),
    "source": "Wang et al., VideoMAE V2, CVPR 2023; network of transformers",
}


def _v2(size: str, file: str, *, parameters: int, gflops: float) -> Backbone:
    return _backbone(
        f"videomaev2_{size}_k710",
        size,
        PublishedFile(revision=f"OpenGVLab/VideoMAE2 {file}", url=f"{_HUB}/{file}"),
        pretraining="UnlabeledHybrid, self-supervised, Kinetics-710",
        clip=ClipShape(16, 7.5, 8),  # every 4th frame at 30 fps
        parameters=parameters,
        gflops=gflops,
        **_V2,
    )


BACKBONES = (
    _v2("small", "distill/vit_s_k710_dl_from_giant.pth", parameters=21_879_936, gflops=56.9),
    _v2("base", "distill/vit_b_k710_dl_from_giant.pth", parameters=86_227_200, gflops=180.0),
    _v2("giant", "mae-g/vit_g_hybrid_pt_1200e_k710_ft.pth", parameters=1_011_610_752, gflops=2543),
    _backbone(
        "videomae_large_epic",
        "large",
        PublishedPage(
            "https://github.com/JacobChalk/TIM/tree/main/feature_extractors/VideoMAE", "videomae_epic.pth.tar"
        ),
        pretraining="UnlabeledHybrid, self-supervised, EPIC-KITCHENS-100",
        # Tuned and tested with 16 frames spread over a segment. Its authors' features of whole videos come from windows
        # of 1.1 s with 16 frames each.
        clip=ClipShape(16, 15.0, 8, spread=True),
        parameters=303_860_736,
        gflops=597.0,
        licence=Licence(code="none stated", weights="none stated"),
        source="Chalk et al., TIM, CVPR 2024; network of transformers",
        is_epic=True,
    ),
)
