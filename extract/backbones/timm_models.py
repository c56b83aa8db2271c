"""Image models of the timm library as backbones: `timm:NAME` or `timm:NAME.TAG`, with records made from timm's own.

Loads timm, and torch with it, once a record is asked for. timm's `pretrained_cfg` says where the weights of a model are
and how its pictures are made (github.com/huggingface/pytorch-image-models).
"""

from __future__ import annotations

import difflib
import functools
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from extract.backbone_input import ClipShape, Preprocess
from extract.backbones.architecture import Mismatch, fill
from extract.backbones.layout import Layout
from extract.backbones.registry import Backbone, Licence, PublishedFile, PublishedRepo
from features.errors import DataError, OptionError, first_few

if TYPE_CHECKING:
    import torch
    from torch import nn

    from extract.backbones.networks.clip_network import ClipNetwork

PREFIX = "timm:"
# What a tag says of the data, as timm writes it, and the data's name in our other records.
_DATA = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-22k",  # a part of it
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "webli": "WebLI",
}


@dataclass(frozen=True)
class TimmModel:
    """A model of timm without its classifier, whose attribute `network` has timm's names of parameters.

    Attributes:
        name: of the model and its weights, such as "resnet50.a1_in1k".
    """

    name: str

    def differences(self, config: Mapping[str, Any]) -> list[str]:
        """Return how a config.json beside the weights contradicts this model, in words."""
        architecture = self.name.partition(".")[0]
        other = config.get("architecture", architecture)
        return [] if other == architecture else [f"architecture {other!r} instead of {architecture!r}"]

    def build(self) -> ClipNetwork:
        """Return the module with random weights."""
        from extract.backbones.networks.timm_models import TimmTokens

        return TimmTokens(_created(self.name))

    def load(self, state: Mapping[str, torch.Tensor]) -> tuple[ClipNetwork, Mismatch]:
        """Return the module with these weights, and what does not fit; use the module only if everything fits.

        Args:
            state: with timm's names of parameters, or with those of a publisher that timm knows how to rename.

        Raises:
            RuntimeError: values cannot be copied.
        """
        module = self.build()
        return module, fill(module.network, _renamed(module.network, state))


def _created(name: str) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    return model


def _renamed(network: nn.Module, state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Return a state dict with timm's names, by the function that timm keeps for it beside the network."""
    expected = network.state_dict()
    resized = [name for name in state.keys() & expected.keys() if state[name].shape != expected[name].shape]
    rename = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    # timm's function would resize a table of positions that does not fit, without a word.
    if rename is not None and not resized:
        state = rename(dict(state), network)
    # A file may have the weights of a pooling that this variant of its model lacks (SigLIP's "gap").
    unused = ("\0",) if hasattr(network, "attn_pool") and network.attn_pool is not None else ("attn_pool.",)
    return {name: tensor for name, tensor in state.items() if not name.startswith(unused)}


@functools.lru_cache
def timm_backbone(name: str, option: str = "--backbone") -> Backbone:
    """Return the record of a model of timm, made from timm's own record of its weights.

    Args:
        name: such as "timm:resnet50" (with its default weights) or "timm:resnet50.a1_in1k".
        option: the option that the name was given with, for messages.

    Raises:
        OptionError: timm has no such model or weights, or the model gives no map or is made for other pictures.
        DataError: timm is not installed.
    """
    settings = _settings(name.removeprefix(PREFIX), option)
    model_name = f"{settings.architecture}.{settings.tag}" if settings.tag else settings.architecture
    labels = (settings.classifier,) if isinstance(settings.classifier, str) else tuple(settings.classifier or ())
    model = TimmModel(model_name)
    try:
        measures = _measured(model, settings.input_size)
    except Exception as error:  # of any kind: timm has models for other inputs, and models that give lists
        raise OptionError(option, f"{name}: cannot be used for features ({error}).") from error
    return Backbone(
        name=PREFIX + model_name,
        family="timm",
        pretraining=_pretraining(settings.tag),
        model=model,
        clip=ClipShape(),
        preprocess=_preprocess(name, settings, option),
        layout=Layout(leave_out=tuple(f"{label}." for label in labels)),
        weights=_published(settings),
        licence=Licence(code="Apache-2.0", weights=settings.license or "not stated"),
        source="timm",
        **measures,
    )


def _settings(name: str, option: str) -> Any:
    """Return timm's `PretrainedCfg` of a model; where a name has no tag, of its default weights."""
    try:
        import timm
    except ModuleNotFoundError as error:
        raise DataError(f"timm is not installed, and {PREFIX}{name} needs it: pip install '.[extract]'") from error
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        nearest = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(nearest)}?" if nearest else "."
        raise OptionError(option, f"timm {timm.__version__} has no model {architecture!r}{hint}")
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = [weights.partition(".")[2] for weights in timm.list_pretrained(f"{architecture}.*")]
        raise OptionError(option, f"timm's {architecture} has no weights {tag!r}; it has {first_few(tags)}.") from error


def _measured(model: TimmModel, input_size: tuple[int, int, int]) -> dict[str, Any]:
    """Return what a record says of a network, by running it on a picture without values."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        module = model.build().eval().requires_grad_(False)
        picture = torch.empty(1, input_size[0], 1, *input_size[1:])
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        (tokens,) = module(picture)
    return {
        "dim": tokens.patches.shape[-1],
        "side": tokens.patches.shape[3],
        "class_token": tokens.class_token is not None,
        "num_layers": module.num_layers,
        "tokens": "mean+cls" if module.classifies_class_token else "mean",
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "gflops": counter.get_total_flops() / 2e9,
    }


def _preprocess(name: str, settings: Any, option: str) -> Preprocess:
    """Return timm's own evaluation transform (timm.data.transforms_factory) as a record."""
    channels, height, width = settings.input_size
    if channels != 3 or height != width or settings.crop_mode not in ("center", "squash"):
        raise OptionError(
            option,
            f"{name}: its pictures are {settings.input_size} by crop mode {settings.crop_mode!r}; only square pictures "
            "of three channels, by 'center' or 'squash', can be made.",
        )
    side = math.floor(height / settings.crop_pct)
    return Preprocess(
        resize=side if settings.crop_mode == "center" else (side, side),
        crop=(height, width),
        mean=tuple(settings.mean),
        std=tuple(settings.std),
        interpolation=settings.interpolation,
    )


def _published(settings: Any) -> PublishedRepo | PublishedFile | None:
    if settings.hf_hub_id:
        return PublishedRepo(settings.hf_hub_id)
    if settings.url and not settings.custom_load:
        return PublishedFile(revision=f"timm {settings.architecture}.{settings.tag}", url=settings.url)
    return None


def _pretraining(tag: str) -> str:
    """Return the data that a tag names, and the tag itself where it names none that we know."""
    names = dict.fromkeys(_DATA[part] for part in tag.split("_") if part in _DATA)
    return ", ".join(names) or tag or "not stated"


def matching_models(pattern: str) -> list[str]:
    """Return the names of timm's models with published weights, each with its prefix, that match a shell pattern.

    Raises:
        OptionError: no name matches.
    """
    import timm

    models = [PREFIX + name for name in timm.list_pretrained(pattern)]
    if not models:
        raise OptionError("--timm", f"no model of timm {timm.__version__} with published weights matches {pattern!r}.")
    return models
