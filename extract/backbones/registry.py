"""The registry of backbones: the record of each frozen network that turns clips into steps of features.

A record holds everything that is needed to run a backbone and to document the run. Importing it loads neither torch nor
a model library; building the network does. The records themselves are in the other files of this folder, which
`extract/backbones/__init__.py` imports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from extract.backbone_input import ClipShape, Preprocess
from extract.backbones.architecture import TorchModel, TransformersModel
from extract.backbones.layout import Layout
from features.errors import unknown_name

if TYPE_CHECKING:
    from extract.backbones.timm_models import TimmModel


@dataclass(frozen=True)
class PublishedFile:
    """Weights published as one file: their publisher's name for them, and the address of the file."""

    revision: str
    url: str

    gated = False

    @property
    def address(self) -> str:
        """Where people find the weights."""
        return self.url


@dataclass(frozen=True)
class PublishedRepo:
    """Weights published as a repository of the Hugging Face hub, such as "MCG-NJU/videomae-base".

    Attributes:
        gated: whether a user must accept a licence on the repository's page and log in.
        file: the path of the weights in the repository; None for those that `save_pretrained` writes.
    """

    repo: str
    gated: bool = False
    file: str | None = None

    @property
    def address(self) -> str:
        """Where people find the weights."""
        return f"https://huggingface.co/{self.repo}"


@dataclass(frozen=True)
class PublishedPage:
    """Weights published on a page that people have to visit, such as a folder of Google Drive or a form.

    Attributes:
        page: the address of the page that has the link.
        file: the name of the file there.
    """

    page: str
    file: str

    gated = False

    @property
    def revision(self) -> str:
        """The publisher's name for the weights."""
        return f"{self.file} of {self.page}"

    @property
    def address(self) -> str:
        """Where people find the weights."""
        return self.page


@dataclass(frozen=True)
class Licence:
    """The terms under which code and weights are published, in their publishers' words."""

    code: str
    weights: str


@dataclass(frozen=True)
class Backbone:
    """The record of one frozen backbone.

    Attributes:
        family: backbones of one family share the kind of network and the way in which its features are averaged.
        pretraining: the data the network was trained on, separated by commas.
        model: builds the network, which maps clips (B, C, L, H, W) float32 to the tokens of its layers (`ClipNetwork`).
        dim: D, the width of a token.
        clip: L frames in and P steps out, at which frame rate.
        preprocess: how frames are resized, cropped and normalised.
        side: of the last map, in positions, over which features are averaged; no grid can be finer.
        parameters: how many parameters the features need.
        gflops: per clip, in billions of multiply-adds, as papers count them.
        layout: how the published file holds the network's weights.
        weights: None if nobody published any.
        source: the paper and the code.
        seen_of_epic: what it was trained on of EPIC-KITCHENS: nothing, its videos, or the labels of its training list
            as well.
        class_token: whether the network has one, of the width of the patches, or a pooled token in its place.
        num_layers: blocks whose tokens `--layers` can name; 0 where the network is no plain transformer.
        tokens: what a step keeps unless `--tokens` says otherwise: what its authors use.
    """

    name: str
    family: str
    pretraining: str
    model: TorchModel | TransformersModel | TimmModel
    dim: int
    clip: ClipShape
    side: int
    parameters: int
    gflops: float
    preprocess: Preprocess
    layout: Layout
    weights: PublishedFile | PublishedRepo | PublishedPage | None
    licence: Licence
    source: str
    seen_of_epic: Literal["nothing", "videos", "labels"] = "nothing"
    class_token: bool = False
    num_layers: int = 0
    tokens: str = "mean"


# Short names, each of the usual variant of a family.
ALIASES = {
    "convnext": "convnext_base",
    "dinov2": "dinov2_base",
    "dinov3": "dinov3_base",
    "efficientnet": "efficientnet_b4",
    "internvideo2": "internvideo2_large",
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
    "vjepa21": "vjepa21_large_384",
}

_BACKBONES: dict[str, Backbone] = {}


def register(backbone: Backbone) -> Backbone:
    """Add a record to the registry and return it. Raise ValueError if its name is taken."""
    if backbone.name in _BACKBONES or backbone.name in ALIASES:
        raise ValueError(f"backbone {backbone.name!r} is registered twice")
    _BACKBONES[backbone.name] = backbone
    return backbone


def names() -> list[str]:
    """Return the names of all backbones, family by family, without aliases."""
    return list(_BACKBONES)


def get(name: str, *, option: str = "--backbone") -> Backbone:
    """Return the record of a backbone, by name or alias, or of an image model of timm, by "timm:NAME".

    Args:
        option: the option that the name was given with, for the message.

    Raises:
        OptionError: there is no such backbone; the message has the nearest known name.
        DataError: timm is asked for and is not installed.
    """
    if name.startswith("timm:"):
        from extract.backbones.timm_models import timm_backbone

        return timm_backbone(name, option)
    name = ALIASES.get(name, name)
    if name not in _BACKBONES:
        raise unknown_name(option, "backbone", name, [*_BACKBONES, *ALIASES])
    return _BACKBONES[name]
