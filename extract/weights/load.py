"""Build a backbone with the weights that the user names, strictly, and record which they are.

Fetches nothing unless it is told to.
"""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path

import torch
from torch import nn

from extract.backbones.networks.clip_network import ClipNetwork
from extract.backbones.registry import Backbone
from extract.weights.checkpoint import read_checkpoint
from extract.weights.published import fetch_weights, need_weights
from features.errors import DataError, OptionError, first_few, is_out_of_memory
from features.featureset import Weights

_RANDOM = re.compile(r"random:(\d{1,9})")
_LOG = logging.getLogger(__name__)


def load_backbone(
    backbone: Backbone, weights: str, *, folder: Path | None = None, fetch: bool = False
) -> tuple[ClipNetwork, Weights]:
    """Return a backbone with the given weights, frozen and in eval mode, and the record of these weights.

    Args:
        weights: "default" (the published weights, fetched beforehand), "random:SEED", or the path of a file or folder
            that `read_checkpoint` reads, with the published names of parameters.
        folder: where published weights lie; None for the libraries' own caches.
        fetch: whether published weights that are missing may be fetched.

    Raises:
        OptionError: `weights` is none of these.
        DataError: the file is missing or damaged, or does not fit the backbone.
    """
    if match := _RANDOM.fullmatch(weights):
        network = _built(backbone, seed=int(match[1]))
        record = Weights(source=weights, revision="random", sha256=_sha256_of_tensors(network))
    elif weights == "default":
        local = fetch_weights(backbone, folder) if fetch else need_weights(backbone, folder)
        network, sha256 = _loaded(backbone, local.path)
        record = Weights(source=str(local.path), revision=local.revision, sha256=sha256)
    else:
        path = Path(weights)
        if not weights or not path.exists():
            raise OptionError("--weights", f"{weights!r} is no file or folder, nor 'default', nor 'random:SEED'.")
        network, sha256 = _loaded(backbone, path, warn_of_left_out=True)
        record = Weights(source=str(path), revision="local file", sha256=sha256)
    return network.eval().requires_grad_(False), record


def _built(backbone: Backbone, *, seed: int) -> ClipNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return backbone.model.build()


def _loaded(backbone: Backbone, path: Path, *, warn_of_left_out: bool = False) -> tuple[ClipNetwork, str]:
    checkpoint = read_checkpoint(path, key=backbone.layout.key)
    if differences := backbone.model.differences(checkpoint.config):
        raise DataError(f"{path}: does not fit {backbone.name}: its config.json has {'; '.join(differences)}.")
    try:
        state, left_out = backbone.layout.network_state(checkpoint.state)
    except (DataError, RuntimeError) as error:  # torch's error where a shape cannot be converted
        raise DataError(f"{path}: does not fit {backbone.name} ({error}).") from error
    if warn_of_left_out and left_out:
        shapes = [f"{name} {tuple(checkpoint.state[name].shape)}" for name in left_out]
        _LOG.warning("%s: left out, as features do not need it: %s", path, first_few(shapes))
    try:
        with torch.random.fork_rng(devices=[]):
            network, mismatch = backbone.model.load(state)
    except RuntimeError as error:  # for example, complex numbers cannot be copied to real ones
        if is_out_of_memory(error):
            raise
        raise DataError(f"{path}: does not fit {backbone.name} ({error}).") from error
    problems = {
        "missing": mismatch.missing,
        "unexpected": mismatch.unexpected,
        "of another shape": mismatch.shapes,
    }
    if any(problems.values()):
        text = "; ".join(f"{len(keys)} {kind}: {first_few(keys)}" for kind, keys in problems.items() if keys)
        raise DataError(f"{path}: does not fit {backbone.name} ({text}).")
    return network, checkpoint.sha256


def _sha256_of_tensors(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
