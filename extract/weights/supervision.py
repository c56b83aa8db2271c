"""The level of supervision of a backbone's pretraining, by the challenge's scale (epic-kitchens/SLS)."""

from __future__ import annotations

from extract.backbones.registry import Backbone
from features.featureset import Weights

# 0 none; 1 public images; 2 public images and video; 3 self-supervised on public data; 5 private data. Of the
# names in a backbone's `pretraining`, the highest level counts.
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
    "self-supervised": 3,
    "LVD-142M": 5,
    "LVD-1689M": 5,
    "WebLI": 5,
    "UnlabeledHybrid": 5,  # a part of it is from Instagram and was not published
    "image and text": 0,
    "EPIC-KITCHENS-100": 0,  # the labels of its training list are training, not pretraining
}


def supervision_of(backbone: Backbone, weights: Weights) -> int | None:
    """Return the level of a backbone: of its published weights, 0 for random ones, None for weights from elsewhere.

    Raises:
        KeyError: its `pretraining` has a name without a level here.
    """
    if weights.revision == "random":
        return 0
    if weights.revision == "local file":  # the published weights, or anyone's that fit
        return None
    return max(_LEVELS[name] for name in backbone.pretraining.split(", "))
