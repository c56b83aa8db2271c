"""A backbone with the weights asked for, strictly, and a record of which they are. Fetches nothing unless told to."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from extract.backbones import Backbone
from extract.weights.checkpoint import read_checkpoint
from extract.weights.published import fetch_weights, need_weights
from features.errors import DataError, OptionError, first_few
from features.featureset import Weights

_RANDOM = re.compile(r"random:(\d{1,9})")
_LOG = logging.getLogger(__name__)


def load_backbone(
    backbone: Backbone, weights: str, *, folder: Path | None = None, fetch: bool = False
) -> tuple[nn.Module, Weights]:
    """Build a backbone, frozen and in eval mode, with the weights asked for, and say which they are.

    Args:
        weights: "default" (the published ones, fetched beforehand), "random:SEED", or a path to a file or folder as
            `read_checkpoint` takes it, with the published names.
        folder: where published weights lie; None for the libraries' own caches.
        fetch: whether published weights that are missing may be fetched.

    Raises:
        OptionError: `weights` is none of these.
        DataError: the file is missing, damaged, or does not fit the backbone.
    """
    if match := _RANDOM.fullmatch(weights):
        network = _built(backbone, seed=int(match[1]))
        record = Weights(source=weights, revision="random", sha256=_sha256_of_tensors(network))
    elif weights == "default":
        found = (fetch_weights if fetch else need_weights)(backbone, folder)
        network, sha256 = _loaded(backbone, found.path)
        record = Weights(source=str(found.path), revision=found.revision, sha256=sha256)
    else:
        path = Path(weights)
        if not weights or not path.exists():
            raise OptionError("--weights", f"{weights!r} is no file or folder, nor 'default', nor 'random:SEED'.")
        network, sha256 = _loaded(backbone, path, say_what_is_left_out=True)
        record = Weights(source=str(path), revision="local file", sha256=sha256)
    return network.eval().requires_grad_(False), record


def _built(backbone: Backbone, *, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return backbone.model.build()


def _loaded(backbone: Backbone, path: Path, *, say_what_is_left_out: bool = False) -> tuple[nn.Module, str]:
    checkpoint = read_checkpoint(path)
    _need_same_settings(backbone, checkpoint.config, path)
    unused = backbone.classifier or ("\0",)
    state = {name: tensor for name, tensor in checkpoint.state.items() if not name.startswith(unused)}
    left_out = [name for name in checkpoint.state if name not in state]
    if say_what_is_left_out and left_out:
        shapes = [f"{name} {tuple(checkpoint.state[name].shape)}" for name in left_out]
        _LOG.warning("%s: left out, as features come before it: %s", path, first_few(shapes))
    try:
        with torch.random.fork_rng(devices=[]):
            network, mismatch = backbone.model.load(state)
    except RuntimeError as error:  # such as complex numbers, which cannot become real ones
        raise DataError(f"{path}: does not fit {backbone.name} ({error}).") from error
    problems = {
        "missing": mismatch.missing,
        "unexpected": mismatch.unexpected,
        "of another shape": mismatch.shapes,
    }
    if any(problems.values()):
        found = "; ".join(f"{len(keys)} {kind}: {first_few(keys)}" for kind, keys in problems.items() if keys)
        raise DataError(f"{path}: does not fit {backbone.name} ({found}).")
    return network, checkpoint.sha256


def _need_same_settings(backbone: Backbone, config: Mapping[str, Any], path: Path) -> None:
    """Refuse weights whose config.json says that they belong to a network that computes otherwise."""
    differing = [
        f"{name} {config[name]!r} instead of {wanted!r}"
        for name, wanted in backbone.model.settings.items()
        if name in config and name not in backbone.model.free and not _same(config[name], wanted)
    ]
    if differing:
        raise DataError(f"{path}: does not fit {backbone.name}: its config.json has {'; '.join(differing)}.")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-6)
    return one == other


def _sha256_of_tensors(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
