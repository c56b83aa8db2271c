"""How much a backbone's pretraining was told, as the challenge counts it (epic-kitchens/SLS)."""

from __future__ import annotations

from extract.backbones import Backbone
from features.featureset import Weights

# 0 none; 1 public images; 2 public images and video; 3 self-supervised on public data; 5 private data. What a text of
# `pretraining` names, parted by commas, counts as its highest.
_LEVELS = {
    "none": 0,
    "ImageNet-1k": 1,
    "ImageNet-21k": 1,
    "ImageNet-22k": 1,
    "Kinetics-400": 2,
    "Kinetics-600": 2,
    "Something-Something v2": 2,
    "VideoMix22M": 2,
    "self-supervised": 3,
    "LVD-142M": 5,
    "LVD-1689M": 5,
    "WebLI": 5,
    "image and text": 0,
}


def supervision_of(backbone: Backbone, weights: Weights) -> int | None:
    """Give the level of a backbone with these weights: that of its publisher's, 0 of random ones, else None.

    Raises:
        KeyError: its `pretraining` names something without a level here.
    """
    if weights.revision == "random":
        return 0
    if weights.revision == "local file":  # the published ones, or anyone's that fit
        return None
    return max(_LEVELS[part] for part in backbone.pretraining.split(", "))
