"""THE registry of backbones: frozen networks that turn clips into steps of features.

A backbone is an entry with everything that is needed to run it and to record what was run. Adding one means adding
one to the list of a family's file here; nothing else changes. Knows no member by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from extract.preprocess import Preprocess
from extract.sampling import ClipShape
from features.errors import unknown_name


@dataclass(frozen=True)
class PublishedWeights:
    """Where a backbone's weights are published: the name they go by there, and the address of the file."""

    revision: str
    url: str


@dataclass(frozen=True)
class Backbone:
    """One frozen backbone.

    Attributes:
        build: makes the network with random weights; it maps clips (B, C, L, H, W) float32 to steps (B, P, D).
            Its attribute `network` carries the published checkpoint's parameter names, less `classifier`.
        dim: D.
        clip: L frames in, P steps out, at which rate.
        classifier: prefixes of the published parameters that features do not need.
        weights: None where nobody published any.
        source: the paper and the code.
    """

    name: str
    pretraining: str
    build: Callable[[], nn.Module]
    dim: int
    clip: ClipShape
    preprocess: Preprocess
    classifier: tuple[str, ...]
    weights: PublishedWeights | None
    source: str


_BACKBONES: dict[str, Backbone] = {}


def register(backbone: Backbone) -> Backbone:
    """Add an entry to the registry; a name can be taken once."""
    if backbone.name in _BACKBONES:
        raise ValueError(f"backbone {backbone.name!r} is registered twice")
    _BACKBONES[backbone.name] = backbone
    return backbone


def names() -> list[str]:
    """Give the names of all backbones, sorted."""
    return sorted(_BACKBONES)


def get(name: str) -> Backbone:
    """Give the entry of a backbone; OptionError, with the nearest known name, where there is none."""
    if name not in _BACKBONES:
        raise unknown_name("--backbone", "backbone", name, _BACKBONES)
    return _BACKBONES[name]


from extract.backbones import tiny, torchvision_image, torchvision_video  # noqa: E402, F401
