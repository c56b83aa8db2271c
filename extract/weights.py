"""Find a backbone's weights, check them, and load them strictly. Knows no architecture, fetches nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from extract.backbones import Backbone
from features.errors import DataError, OptionError, first_few
from features.featureset import Weights
from features.files import sha256_of_file
from features.tensors import load_safely

_RANDOM = re.compile(r"random:(\d{1,9})")
# torch.hub's convention, NAME-<first digits of the file's SHA-256>.pth, which torchvision's files follow.
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.pth")


def load_backbone(backbone: Backbone, weights: str) -> tuple[nn.Module, Weights]:
    """Build a backbone, frozen and in eval mode, with the weights asked for, and say which they are.

    Args:
        weights: "default" (the published ones, from torch.hub's cache), "random:SEED", or a path to a state dict
            with the published names.

    Raises:
        OptionError: `weights` is none of these.
        DataError: the file is missing, damaged, or does not fit the backbone.
    """
    if match := _RANDOM.fullmatch(weights):
        network = _build(backbone, seed=int(match[1]))
        record = Weights(source=weights, revision="random", sha256=_sha256_of_tensors(network))
    else:
        path, revision = _locate(backbone, weights)
        network = _build(backbone, seed=0)
        _load_strictly(network, backbone, path)
        record = Weights(source=str(path), revision=revision, sha256=sha256_of_file(path))
    return network.eval().requires_grad_(False), record


def _build(backbone: Backbone, *, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return backbone.build()


def _locate(backbone: Backbone, weights: str) -> tuple[Path, str]:
    if weights != "default":
        path = Path(weights)
        if not path.is_file():
            raise OptionError(f"--weights: {weights!r} is no file, nor 'default', nor 'random:SEED' with a number.")
        return path, "local file"
    if backbone.weights is None:
        raise OptionError(f"--weights: nobody published weights for {backbone.name}; use random:SEED or a path.")
    url = backbone.weights.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.is_file():
        raise DataError(
            f"{backbone.name}: its weights {backbone.weights.revision} are not at {path}. Fetch them once, on a "
            f"machine with network:\n  curl --fail --location --create-dirs --output {path} {url}"
        )
    _check_digest_in_name(path)
    return path, backbone.weights.revision


def _check_digest_in_name(path: Path) -> None:
    match = _DIGEST_IN_NAME.search(path.name)
    if match and not sha256_of_file(path).startswith(match[1]):
        raise DataError(f"{path}: its SHA-256 does not begin with {match[1]}; fetch it again.")


def _load_strictly(network: nn.Module, backbone: Backbone, path: Path) -> None:
    state = {
        name: tensor
        for name, tensor in _read_state(path).items()
        if not name.startswith(backbone.classifier or ("\0",))
    }
    expected = network.network.state_dict()
    missing, unexpected = (
        sorted(expected.keys() - state.keys()),
        sorted(state.keys() - expected.keys()),
    )
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    if any(problems.values()):
        found = "; ".join(f"{len(keys)} {kind}: {first_few(keys)}" for kind, keys in problems.items() if keys)
        raise DataError(f"{path}: does not fit {backbone.name} ({found}).")
    try:
        network.network.load_state_dict(state)
    except RuntimeError as error:  # such as complex numbers, which cannot become real ones
        raise DataError(f"{path}: does not fit {backbone.name} ({error}).") from error


def _read_state(path: Path) -> Mapping[str, torch.Tensor]:
    state = load_safely(path)
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise DataError(f"{path}: not a state dict (names to tensors).")
    return state


def _sha256_of_tensors(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
