"""THE registry of backbones: frozen networks that turn clips into steps of features.

A backbone is an entry with everything that is needed to run it and to record what was run. Adding one means adding
one to the list of a family's file here (docs/backbones.md); nothing else changes.
"""

from __future__ import annotations

from dataclasses import dataclass

from extract.backbones.architecture import TorchModel, TransformersModel
from extract.preprocess import Preprocess
from extract.sampling import ClipShape
from features.errors import OptionError, unknown_name


@dataclass(frozen=True)
class PublishedFile:
    """Weights published as one file: the name they go by there, and its address."""

    revision: str
    url: str


@dataclass(frozen=True)
class PublishedRepo:
    """Weights published as a repository of the Hugging Face hub, such as "MCG-NJU/videomae-base".

    Attributes:
        gated: whether one must accept a licence there and log in.
    """

    repo: str
    gated: bool = False


@dataclass(frozen=True)
class Licence:
    """Under what terms code and weights are published, as their publishers say it."""

    code: str
    weights: str


@dataclass(frozen=True)
class Backbone:
    """One frozen backbone.

    Attributes:
        family: backbones of one kind of network and one way of averaging.
        model: makes the network, which maps (B, C, L, H, W) float32 and the side of a grid to (B, P, grid * grid, D).
        dim: D, of a step that is averaged over space.
        clip: L frames in, P steps out, at which rate.
        side: of the last map, in positions, over which features are averaged; no grid can be finer.
        parameters: how many the features need.
        gflops: of a clip, in billions of multiply-adds, as papers count them.
        classifier: prefixes of the published parameters that features do not need.
        weights: None where nobody published any.
        source: the paper and the code.
    """

    name: str
    family: str
    pretraining: str
    model: TorchModel | TransformersModel
    dim: int
    clip: ClipShape
    side: int
    parameters: int
    gflops: float
    preprocess: Preprocess
    classifier: tuple[str, ...]
    weights: PublishedFile | PublishedRepo | None
    licence: Licence
    source: str


# The usual variant of what people call by a short name.
ALIASES = {
    "convnext": "convnext_base",
    "dinov2": "dinov2_base",
    "dinov3": "dinov3_base",
    "efficientnet": "efficientnet_b4",
    "mc3": "mc3_18",
    "mvit": "mvit_v2_s",
    "r2plus1d": "r2plus1d_18",
    "r3d": "r3d_18",
    "resnet": "resnet50",
    "siglip2": "siglip2_base",
    "slow": "slow_r50",
    "slowfast": "slowfast_r50",
    "swin": "swin3d_b",
    "timesformer": "timesformer_base_k400",
    "videomae": "videomae_base_k400",
    "vjepa2": "vjepa2_vitl_256",
}

_BACKBONES: dict[str, Backbone] = {}


def register(backbone: Backbone) -> Backbone:
    """Add an entry to the registry; a name can be taken once."""
    if backbone.name in _BACKBONES or backbone.name in ALIASES:
        raise ValueError(f"backbone {backbone.name!r} is registered twice")
    _BACKBONES[backbone.name] = backbone
    return backbone


def names() -> list[str]:
    """Give the names of all backbones, family by family; no aliases."""
    return list(_BACKBONES)


def get(name: str, *, option: str = "--backbone") -> Backbone:
    """Give the entry of a backbone, by name or alias; OptionError, with the nearest known name, where there is none."""
    name = ALIASES.get(name, name)
    if name not in _BACKBONES:
        raise unknown_name(option, "backbone", name, [*_BACKBONES, *ALIASES])
    return _BACKBONES[name]


_GRIDS = {"mean": 1, "grid2": 2, "grid4": 4}


def grid_of(tokens: str, entry: Backbone) -> int:
    """Give the cells of a side of the grid that `tokens` keeps of each map: 1 for "mean", 2 for "grid2", 4 for "grid4".

    Raises:
        OptionError: there is no such value, or the backbone's map is no finer than that.
    """
    if tokens not in _GRIDS:
        raise OptionError("--tokens", f"{tokens!r} is none of {', '.join(_GRIDS)}.")
    if _GRIDS[tokens] > entry.side:
        raise OptionError(
            "--tokens", f"{tokens} is finer than the last map of {entry.name}, {entry.side} x {entry.side}."
        )
    return _GRIDS[tokens]


from extract.backbones import (  # noqa: E402, F401, I001 (in the order of the table)
    tiny,
    torchvision_image,
    image_transformers,
    torchvision_video,
    slowfast,
    timesformer,
    videomae,
    vjepa2,
)
