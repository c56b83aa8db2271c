"""The backbones of stage 1: the functions of the registry, and the list of all families.

To add a family, write its records in a file of this folder and add the file to the list below (docs/backbones.md).
Nothing here loads torch: a network is imported when it is built.
"""

from __future__ import annotations

from extract.backbones import (
    divided_space_time,
    epic_baselines,
    hiera,
    image_transformers,
    internvideo2,
    omnivore,
    slowfast,
    space_time_clip,
    timesformer,
    tiny,
    torchvision_image,
    torchvision_video,
    videomae,
    videomae_original,
    videoprism,
    vjepa2,
    vjepa21,
)
from extract.backbones.layout import Layout
from extract.backbones.registry import (
    ALIASES,
    Backbone,
    Licence,
    PublishedFile,
    PublishedPage,
    PublishedRepo,
    get,
    names,
    register,
)

__all__ = [
    "ALIASES",
    "Backbone",
    "Layout",
    "Licence",
    "PublishedFile",
    "PublishedPage",
    "PublishedRepo",
    "get",
    "names",
    "register",
]

# In the order in which tables list them.
for _family in (
    tiny,
    torchvision_image,
    image_transformers,
    torchvision_video,
    omnivore,
    slowfast,
    epic_baselines,
    timesformer,
    videomae,
    videomae_original,
    vjepa2,
    hiera,
    videoprism,
    space_time_clip,
    divided_space_time,
    vjepa21,
    internvideo2,
):
    for _backbone in _family.BACKBONES:
        register(_backbone)
