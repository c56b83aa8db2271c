"""AVION and EgoHOD: CLIP's vision transformer with attention over a whole clip, trained on narrated egocentric video.

Zhao and Krähenbühl, Training a Large Video Model on a Single Machine in a Day, 2023; Pei et al., Modeling Fine-Grained
Hand-Object Dynamics for Egocentric Video Representation Learning, ICLR 2025.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from extract.backbone_input import CLIP_MEAN, CLIP_STD, SWAPPED_CLIP_MEAN, ClipShape, Preprocess
from extract.backbones.architecture import TorchModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedPage

if TYPE_CHECKING:
    import torch

    from extract.backbones.networks.clip_network import ClipNetwork

_SIZES = {
    "vitb": {"dim": 768, "depth": 12, "num_heads": 12, "patch": 16},
    "vitl": {"dim": 1024, "depth": 24, "num_heads": 16, "patch": 14},
}


def _tokens(**settings: Any) -> ClipNetwork:
    from extract.backbones.networks.space_time_clip import SpaceTimeClip, SpaceTimeClipTokens

    return SpaceTimeClipTokens(SpaceTimeClip(**settings))


def _with_patches_as_pictures(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights with `conv1` as a convolution: (D, 3 * p * p) of a linear layer -> (D, 3, p, p)."""
    weight = state.get("conv1.weight")
    if weight is None or weight.ndim != 2:
        return state
    patch = math.isqrt(weight.shape[1] // 3)
    if weight.shape[1] != 3 * patch**2:
        return state  # which then does not fit, and is refused with its name and shape
    return {**state, "conv1.weight": weight.unflatten(1, (3, patch, patch))}


# Text towers and classifiers are not under "visual.". Files trained without flash attention have CLIP's own names; both
# keep all queries, all keys and all values in this order.
_LAYOUT = Layout(
    prefix="visual.",
    leave_out=("image_projection",),
    rename=(
        (r"\.attn\.in_proj_(weight|bias)$", r".attn.Wqkv.\1"),
        (r"\.mlp\.c_fc\.", ".mlp.fc1."),
        (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    ),
    convert=_with_patches_as_pictures,
)


def _backbone(
    name: str,
    weights: PublishedPage,
    *,
    num_positions: int,
    clip: ClipShape,
    pretraining: str,
    parameters: int,
    gflops: float,
    pixels: int = 224,
    seen_of_epic: Literal["nothing", "labels"] = "nothing",
) -> Backbone:
    """Return the record of a variant.

    Args:
        num_positions: frames per clip of the published embedding of time.
    """
    publisher, size, *_ = name.split("_")
    sizes = _SIZES[size]
    is_avion = publisher == "avion"
    side = pixels // sizes["patch"]
    make = partial(_tokens, **sizes, side=side, num_positions=num_positions, first_rows=is_avion)
    return Backbone(
        name=name,
        family="Space-time CLIP",
        pretraining=pretraining,
        model=TorchModel(make),
        dim=sizes["dim"],
        clip=clip,
        side=side,
        parameters=parameters,
        gflops=gflops,
        preprocess=Preprocess(
            resize=pixels, crop=(pixels, pixels), mean=SWAPPED_CLIP_MEAN if is_avion else CLIP_MEAN, std=CLIP_STD
        ),
        layout=_LAYOUT,
        weights=weights,
        licence=Licence(code="MIT", weights="not stated") if is_avion else Licence("Apache-2.0", "not stated"),
        source="Zhao and Krähenbühl, Training a Large Video Model on a Single Machine in a Day (AVION), 2023"
        if is_avion
        else "Pei et al., Modeling Fine-Grained Hand-Object Dynamics (EgoHOD), ICLR 2025",
        seen_of_epic=seen_of_epic,
        class_token=True,
        num_layers=sizes["depth"],
        tokens="mean+cls",
    )


_AVION = "https://github.com/zhaoyue-zephyrus/AVION/blob/main/docs/MODEL_ZOO.md"
_EGOHOD = "https://huggingface.co/Jazzcharles/EgoVideo"
_EGO4D = "WIT-400M, Ego4D narrations"
_TUNED = f"{_EGO4D}, EPIC-KITCHENS-100"
_HOD = f"{_EGO4D}, How2-Interlink-7M"
# Their authors spread the frames of a clip over the whole segment, in training and tests. For whole videos, the rate is
# that of 16 frames over 2 s, the median length of an action of validation, and of 4 frames over 1 s, which is about the
# length of the Ego4D clips of pretraining. EgoHOD was trained with 4 frames and is tested with 16.
_LONG, _SHORT = ClipShape(16, 8.0, 16, spread=True), ClipShape(4, 4.0, 4, spread=True)
# EgoHOD's files have these names in its authors' configurations. The page may have other ones.
# fmt: off
BACKBONES = (
    _backbone("avion_vitb_epic", PublishedPage(_AVION, "avion_finetune_cls_lavila_vitb_best.pt"), num_positions=16,
              clip=_LONG, pretraining=_TUNED, seen_of_epic="labels", parameters=85_811_712, gflops=449.7),
    _backbone("avion_vitl_epic", PublishedPage(_AVION, "avion_finetune_cls_lavila_vitl_best.pt"), num_positions=16,
              clip=_LONG, pretraining=_TUNED, seen_of_epic="labels", parameters=303_196_160, gflops=2065),
    _backbone("avion_vitb_ego4d", PublishedPage(_AVION, "avion_pretrain_lavila_vitb_best.pt"), num_positions=4,
              clip=_SHORT, pretraining=_EGO4D, parameters=85_802_496, gflops=78.5),
    _backbone("avion_vitl_ego4d", PublishedPage(_AVION, "avion_pretrain_lavila_vitl_best.pt"), num_positions=4,
              clip=_SHORT, pretraining=_EGO4D, parameters=303_183_872, gflops=361.8),
    _backbone("egohod_vitb", PublishedPage(_EGOHOD, "base_best.pt"), num_positions=4,
              clip=_LONG, pretraining=_HOD, parameters=85_802_496, gflops=449.7),
    _backbone("egohod_vitl_336", PublishedPage(_EGOHOD, "large_best.pt"), num_positions=4, pixels=336,
              clip=_LONG, pretraining=_HOD, parameters=303_511_552, gflops=6965),
)
# fmt: on
