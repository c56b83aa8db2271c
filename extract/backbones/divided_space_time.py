"""LaViLa and EgoVLP: the block of "Frozen in Time", attention over time and then over space, on narrated Ego4D.

Zhao et al., Learning Video Representations from Large Language Models, CVPR 2023; Lin et al., Egocentric Video-Language
Pretraining, NeurIPS 2022.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from extract.backbone_input import (
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    SWAPPED_CLIP_MEAN,
    ClipShape,
    Preprocess,
)
from extract.backbones.architecture import TorchModel
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedFile

if TYPE_CHECKING:
    from extract.backbones.networks.clip_network import ClipNetwork

_FOLDER = "https://dl.fbaipublicfiles.com/lavila/checkpoints/dual_encoders"
_BASE = {"dim": 768, "depth": 12, "num_heads": 12, "patch": 16}
_LARGE = {"dim": 1024, "depth": 24, "num_heads": 16, "patch": 14}


def _tokens(**settings: Any) -> ClipNetwork:
    from extract.backbones.networks.divided_space_time import DividedSpaceTime, DividedSpaceTimeTokens

    return DividedSpaceTimeTokens(DividedSpaceTime(**settings))


# Text towers and classifiers are not under "visual.".
_LAVILA = Layout(prefix="visual.")
# As its authors save it, and as LaViLa's authors converted it.
_EGOVLP = Layout(
    leave_out=(
        *("text_model.", "txt_proj.", "vid_proj."),
        *("textual.", "text_projection.", "image_projection.", "logit_scale"),
    ),
    rename=((r"^(visual|video_model)\.", ""),),
)


def _backbone(
    name: str,
    file: str,
    *,
    sizes: dict[str, int],
    clip: ClipShape,
    pretraining: str,
    parameters: int,
    gflops: float,
    seen_of_epic: Literal["nothing", "labels"] = "nothing",
) -> Backbone:
    """Return the record of a variant whose weights are `file` in LaViLa's folder of dual encoders."""
    is_lavila = name.startswith("lavila")
    side = 224 // sizes["patch"]
    make = partial(_tokens, **sizes, side=side, num_positions=clip.num_frames, from_clip=is_lavila)
    mean, std = (SWAPPED_CLIP_MEAN, CLIP_STD) if is_lavila else (IMAGENET_MEAN, IMAGENET_STD)
    return Backbone(
        name=name,
        family="Frozen in Time",
        pretraining=pretraining,
        model=TorchModel(make),
        dim=sizes["dim"],
        clip=clip,
        side=side,
        parameters=parameters,
        gflops=gflops,
        preprocess=Preprocess(resize=224, crop=(224, 224), mean=mean, std=std),
        layout=_LAVILA if is_lavila else _EGOVLP,
        weights=PublishedFile(revision=file, url=f"{_FOLDER}/{file}"),
        licence=Licence(code="MIT", weights="not stated"),
        source="Zhao et al., Learning Video Representations from Large Language Models (LaViLa), CVPR 2023"
        if is_lavila
        else "Lin et al., Egocentric Video-Language Pretraining (EgoVLP), NeurIPS 2022; weights converted by LaViLa",
        seen_of_epic=seen_of_epic,
        class_token=True,
        num_layers=sizes["depth"],
        tokens="mean+cls",
    )


_EGO4D = "WIT-400M, Ego4D narrations"
_TUNED = f"{_EGO4D}, EPIC-KITCHENS-100"
# Their authors spread the frames of a clip over the whole segment, in training and tests. For whole videos, the rate is
# that of 16 frames over 2 s, the median length of an action of validation, and of 4 frames over 1 s, which is about the
# length of the Ego4D clips of pretraining.
_LONG, _SHORT = ClipShape(16, 8.0, 16, spread=True), ClipShape(4, 4.0, 4, spread=True)
# fmt: off
BACKBONES = (
    _backbone("lavila_tsfb_epic", "ek100_cls/clip_openai_timesformer_base.ft_ek100_cls.ep_0100.md5sum_4e3575.pth",
              sizes=_BASE, clip=_LONG, pretraining=_TUNED, seen_of_epic="labels",
              parameters=114_178_560, gflops=369.6),
    _backbone("lavila_tsfl_epic", "ek100_cls/clip_openai_timesformer_large.ft_ek100_cls.ep_0090.md5sum_4a2509.pth",
              sizes=_LARGE, clip=_LONG, pretraining=_TUNED, seen_of_epic="labels",
              parameters=404_006_912, gflops=1708),
    _backbone("lavila_tsfb_ego4d", "ego4d/clip_openai_timesformer_base.narrator_rephraser.ep_0005.md5sum_d73a9c.pth",
              sizes=_BASE, clip=_SHORT, pretraining=_EGO4D, parameters=114_169_344, gflops=92.3),
    _backbone("lavila_tsfl_ego4d", "ego4d/clip_openai_timesformer_large.narrator_rephraser.ep_0003.md5sum_c89337.pth",
              sizes=_LARGE, clip=_SHORT, pretraining=_EGO4D, parameters=403_994_624, gflops=426.6),
    _backbone("egovlp", "ego4d/egovlp_converted_f16.md5sum_c33363.pth",
              sizes=_BASE, clip=_SHORT, pretraining="ImageNet-21k, Ego4D narrations",
              parameters=114_168_576, gflops=92.3),
)
# fmt: on
