"""The command that repeats a run, from what its config.json holds."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.annotations import find_splits
from features.errors import DataError, OptionError
from heads.config import GROUPS, TrainConfig, config_from_json
from heads.models.catalogue import get, head_config
from heads.registry import options_of
from heads.runs import group_of, read_config


def config_of(run: Path) -> TrainConfig:
    """Give how a run was trained.

    Raises:
        DataError: config.json does not say, or says what this version does not know.
    """
    record = read_config(run)
    if "head" not in record:
        raise DataError(f"{run}: its config.json names no head." if record else f"{run}: there is no config.json.")
    try:
        given = {key: str(value) for key, value in record.get("head_options", {}).items()}
        options = options_of(head_config(record["head"], given))
        return config_from_json({**record, "head_options": options})
    except (OptionError, TypeError, AttributeError) as error:
        raise DataError(f"{run}: its config.json is not of this version ({error})") from error


def train_command(run: Path, seeds: Sequence[int]) -> str:
    """Give the `heads train` command that makes a run anew, with what is not at its default; a line for a shell.

    Args:
        seeds: of the runs that share this run's name and settings, all of which the command makes.

    Raises:
        DataError: as for `config_of`.
    """
    config, record = config_of(run), read_config(run)
    words = ["heads", "train", "--head", config.head]
    defaults = options_of(get(config.head).config())
    for key, value in config.head_options.items():
        words += [] if value == defaults[key] else ["--set", f"{key}={value}"]
    words += _places(record)
    words += [] if config.split == "official" else ["--split-train-val", config.split]
    words += ["--allow-missing"] if record.get("train_missing") or record.get("validation_missing") else []
    words += ["--separate"] if config.separate else []
    words += ["--runs", str(run.parent), "--name", group_of(run), "--seeds", ",".join(map(str, seeds))]
    for group in GROUPS:
        for setting in dataclasses.fields(getattr(config, group)):
            value = getattr(getattr(config, group), setting.name)
            if value != setting.default:
                option = f"--{setting.name.replace('_', '-')}"
                words += [
                    word for one in (value if isinstance(value, tuple) else [value]) for word in (option, str(one))
                ]
    return shlex.join(words)


def _places(record: Mapping[str, Any]) -> list[str]:
    """Give the options for where features and annotations lay."""
    words = [word for root in record.get("features", ()) for word in ("--features", str(root))]
    files = {split: record.get(f"{split}_csv") for split in ("train", "validation", "test")}
    if files["train"] is None:
        return words
    folder = Path(files["train"]).parent
    words += ["--annotations", str(folder)]
    published = dataclasses.asdict(find_splits(folder))
    for split, path in files.items():
        if path is not None and Path(path) != published[split]:
            words += [f"--{split}", str(path)]
    return words


def ensemble_command(folder: Path) -> str:
    """Give the `heads ensemble` command that makes an ensemble anew.

    Raises:
        DataError: config.json does not say how it was made.
    """
    record = read_config(folder)
    try:
        recipe = dict(record["recipe"])
        weights, kind = recipe.pop("weights"), recipe.pop("kind")
        words = ["heads", "ensemble", "--runs", str(folder.parent), "--name", folder.name, "--mean", kind]
        if weights == "greedy":
            words += ["--greedy"]
        else:
            words += ["--weights", weights if isinstance(weights, str) else ",".join(map(str, weights))]
        words += [f"--{name.replace('_', '-')}" for name, asked in recipe.items() if asked]
        return shlex.join([*words, *map(str, record["members"])])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder}: its config.json does not say how it was put together.") from error
