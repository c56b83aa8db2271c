"""The backbones of stage 1: the functions of the registry, and the list of all families.

To add a family, write its records in a file of this folder and add the file to the list below (docs/backbones.md).
Nothing here loads torch: a network is imported when it is built.
"""

from __future__ import annotations

from extract.backbones import (
    epic_baselines,
    image_transformers,
    omnivore,
    slowfast,
    timesformer,
    tiny,
    torchvision_image,
    torchvision_video,
    videomae,
    videomae_original,
    vjepa2,
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
    grid_of,
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
    "grid_of",
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
):
    for _backbone in _family.BACKBONES:
        register(_backbone)
