"""The level of supervision of a backbone's pretraining, by the challenge's scale (epic-kitchens/SLS)."""

from __future__ import annotations

from extract.backbones.registry import Backbone
from features.featureset import Weights

# 0 none; 1 public images; 2 public images and video; 3 self-supervised on public data; 4 supervised on egocentric video
# (the challenge's FAQ of 2026 names Ego4D); 5 private data. Of the names in a backbone's `pretraining`, the highest
# level counts.
_LEVELS = {
    "none": 0,
    "ImageNet-1k": 1,
    "ImageNet-21k": 1,
    "ImageNet-22k": 1,
    "SUN RGB-D": 1,
    "Kinetics-400": 2,
    "Kinetics-600": 2,
    "Kinetics-710": 2,
    "Something-Something v2": 2,
    "VideoMix22M": 2,
    "HowTo100M": 2,
    "How2-Interlink-7M": 2,
    "K-Mash-1.1M": 2,
    "self-supervised": 3,
    "Ego4D narrations": 4,
    "EgoExoLearn": 4,
    "LVD-142M": 5,
    "LVD-1689M": 5,
    "WebLI": 5,
    "WIT-400M": 5,  # OpenAI's, for CLIP
    "VisionMix163M": 5,  # LVD-142M is part of it
    "InternVL-6B's and VideoMAEv2-g's features": 5,  # VideoMAEv2-g saw private videos
    "private video and text": 5,
    "InternVideo2-1B's features": 5,
    "InternVideo2-1B": 5,
    "UnlabeledHybrid": 5,  # 18.5 % of it are "self-collected" videos that were not published
    "image and text": 0,
    "EPIC-KITCHENS-100": 0,  # the labels of its training list are training, not pretraining
}


def supervision_of(backbone: Backbone, weights: Weights) -> int | None:
    """Return the level of a backbone's pretraining; None for a model of timm whose data are not known here.

    Random weights have level 0. A file given by its path counts as the published weights, whose layout it has.

    Raises:
        KeyError: `pretraining` of a backbone of ours has a name without a level here.
    """
    if weights.revision == "random":
        return 0
    names = backbone.pretraining.split(", ")
    if backbone.family == "timm" and not set(names) <= _LEVELS.keys():  # timm's tags do not always say the data
        return None
    return max(_LEVELS[name] for name in names)
