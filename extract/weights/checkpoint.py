"""Read files of weights in the formats in which they are published, without running code from them.

Knows no backbone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from extract.weights.pretrained_files import PRETRAINED_NAMES, part_names
from features.checkpoints import read_published
from features.errors import DataError
from features.files import read_json, sha256_of_file, unreadable

# Training programs put the state dict into a dictionary, and prefix its names with those of their parallel modules.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "weights")
_PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A state dict from one file or several.

    Attributes:
        config: the values of the config.json beside it, which transformers writes; empty if there is none.
        sha256: of the file; if there are several parts, of the list of their digests.
    """

    state: Mapping[str, torch.Tensor]
    config: Mapping[str, Any]
    sha256: str


def read_checkpoint(path: Path, *, key: str | None = None) -> Checkpoint:
    """Read a .pth, .pt or .bin state dict, a .safetensors file, an index of parts, or a save_pretrained folder.

    Args:
        key: of the state dict, in a file that holds several.

    Raises:
        DataError: the path is none of these, or damaged, or would need unsafe loading.
    """
    path = Path(path)
    if path.is_dir():
        path = _in_folder(path)
    parts = _parts(path)
    state: dict[str, torch.Tensor] = {}
    for part in parts:
        state.update(_read_state(part, key))
    digests = [sha256_of_file(part) for part in parts]
    beside = path.with_name("config.json")
    config = _read_config(beside) if path.name in PRETRAINED_NAMES and beside.is_file() else {}
    whole = digests[0] if parts == [path] else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return Checkpoint(state, config, whole)


def _in_folder(folder: Path) -> Path:
    path = next((folder / name for name in PRETRAINED_NAMES if (folder / name).is_file()), None)
    if path is None:
        raise DataError(f"{folder}: none of {', '.join(PRETRAINED_NAMES)} is in this folder.")
    return path


def _parts(path: Path) -> list[Path]:
    parts = [path.with_name(name) for name in part_names(path)]
    if parts == [path]:
        return parts
    if missing := [part.name for part in parts if not part.is_file()]:
        raise DataError(f"{path}: its parts {', '.join(missing)} are not beside it.")
    return parts


def _read_config(path: Path) -> Mapping[str, Any]:
    record = read_json(path)
    if not isinstance(record, dict):
        raise DataError(f"{path}: not a configuration (names to values).")
    vision = record.get("vision_config", record)  # of a model of image and text
    return vision if isinstance(vision, dict) else {}


def _read_state(path: Path, key: str | None) -> Mapping[str, torch.Tensor]:
    state = _read_safetensors(path) if path.suffix == ".safetensors" else read_published(path)
    wrappers = _WRAPPERS if key is None else (key, *_WRAPPERS)
    for _ in wrappers:  # not deeper: a pickle may hold a dictionary that contains itself
        if isinstance(state, Mapping):
            state = next((state[name] for name in wrappers if isinstance(state.get(name), Mapping)), state)
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and name.isprintable() and isinstance(value, torch.Tensor)
        for name, value in state.items()
    ):
        expected = "a state dict (names to tensors)"
        found = f"not {expected}" if key is None else f"neither {expected} nor one under {key!r}"
        raise DataError(f"{path}: {found}.")
    while prefix := next((text for text in _PREFIXES if state and all(name.startswith(text) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _read_safetensors(path: Path) -> Mapping[str, torch.Tensor]:
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    try:
        with open(path, "rb"):  # of any error of the system, safetensors says that there is no such file
            return load_file(path)
    except OSError as error:
        raise unreadable(path, error) from error
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{path}: not a sound safetensors file ({error}).") from error
