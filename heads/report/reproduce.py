"""The command that reproduces a run, from its config.json."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

from features.annotations import find_splits
from features.errors import DataError, OptionError
from heads.config import GROUPS, TrainConfig, config_from_json
from heads.models.catalogue import get, head_config
from heads.registry import options_of
from heads.runs import RunRecord, group_of, read_record


def recorded_config(run: Path) -> TrainConfig:
    """Return the configuration that a run was trained with.

    Raises:
        DataError: config.json does not say, or has a head or a value that this version does not know.
    """
    record = read_record(run)
    if record.head is None:
        raise DataError(
            f"{run}: its config.json names no head." if record.values else f"{run}: there is no config.json."
        )
    try:
        options = {key: str(value) for key, value in record.values.get("head_options", {}).items()}
        checked = options_of(head_config(record.head, options))
        return config_from_json({**record.values, "head_options": checked})
    except (OptionError, TypeError, AttributeError) as error:
        raise DataError(f"{run}: its config.json is not of this version ({error})") from error


def train_command(run: Path, seeds: Sequence[int]) -> str:
    """Return the `heads train` command that reproduces a run, as a line for a shell without options at their defaults.

    Args:
        seeds: of all runs with this run's name and settings.

    Raises:
        DataError: as for `recorded_config`.
    """
    config, record = recorded_config(run), read_record(run)
    words = ["heads", "train", "--head", config.head]
    defaults = options_of(get(config.head).config())
    for key, value in config.head_options.items():
        words += [] if value == defaults[key] else ["--set", f"{key}={value}"]
    words += _data_options(record)
    words += [] if config.split == "official" else ["--split-train-val", config.split]
    lacks_features = record.values.get("train_missing") or record.values.get("validation_missing")
    words += ["--allow-missing"] if lacks_features else []
    words += ["--separate"] if config.separate else []
    words += ["--runs", str(run.parent), "--name", group_of(run), "--seeds", ",".join(map(str, seeds))]
    for group in GROUPS:
        settings = getattr(config, group)
        for setting in dataclasses.fields(settings):
            value = getattr(settings, setting.name)
            if value != setting.default:
                option = f"--{setting.name.replace('_', '-')}"
                for text in value if isinstance(value, tuple) else [value]:
                    words += [option] if text is True else [option, str(text)]
    return shlex.join(words)


def _data_options(record: RunRecord) -> list[str]:
    """Return the options that name the features and annotations of a run."""
    words = [word for root in record.features for word in ("--features", root)]
    if record.files.train is None:
        return words
    folder = record.files.train.parent
    words += ["--annotations", str(folder)]
    published = dataclasses.asdict(find_splits(folder))
    for split, path in dataclasses.asdict(record.files).items():
        if path is not None and path != published[split]:
            words += [f"--{split}", str(path)]
    return words


def ensemble_command(folder: Path) -> str:
    """Return the `heads ensemble` command that reproduces an ensemble, as a line for a shell.

    Raises:
        DataError: config.json does not say how it was made.
    """
    record = read_record(folder)
    try:
        if record.members is None or record.ensemble is None:
            raise KeyError("members" if record.members is None else "recipe")
        settings = dict(record.ensemble)
        weights, kind, scores = settings.pop("weights"), settings.pop("kind"), settings.pop("scores", [])
        words = ["heads", "ensemble", "--runs", str(folder.parent), "--name", folder.name, "--mean", kind]
        if weights == "greedy":
            words += ["--greedy"]
        else:
            words += ["--weights", weights if isinstance(weights, str) else ",".join(map(str, weights))]
        words += [f"--{name.replace('_', '-')}" for name, is_set in settings.items() if is_set]
        words += [word for text in scores for word in ("--scores", text)]
        return shlex.join([*words, *record.members])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder}: its config.json does not say how the ensemble was made.") from error
