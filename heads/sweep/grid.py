"""The grid of a sweep: its variants, and which task trains which of them. Trains nothing."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from features.dealing import parse_shard
from features.errors import OptionError, unknown_name
from features.files import sha256_of_json
from heads.config import GROUPS, RENAMED, TrainConfig, kind_of, make_config, with_current_names
from heads.models.catalogue import parse_head

# Names that a grid may vary in addition to the settings of heads/config.py.
_OWN: dict[str, type] = {"head": str, "separate": bool, "split": str}
# Of a folder, in bytes: file systems allow 255, and the seed is appended.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Variant:
    """A run of a sweep: its name without the seed, the varied settings as text, and the whole configuration."""

    name: str
    values: Mapping[str, str]
    config: TrainConfig


def parse_grid(words: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each setting of a grid such as ["loss=ce,focal:gamma=1", "lr=1e-4,3e-4"].

    >>> parse_grid(["loss=ce,focal:gamma=1", "lr=1e-4"])
    {'loss': ['ce', 'focal:gamma=1'], 'lr': ['1e-4']}

    Raises:
        OptionError: a word is not NAME=VALUE,..., a name is unknown or is given twice, or a value is given twice or
            has the wrong type.
    """
    grid: dict[str, list[str]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        name, values = name.replace("-", "_"), text.split(",")
        if not equals or not all(values):
            raise OptionError("--grid", f"{word!r} is not NAME=VALUE,..., such as loss=ce,focal.")
        if RENAMED.get(name, name) in with_current_names(grid):
            raise OptionError("--grid", f"{word!r} names a setting or a value twice.")
        grid[name] = values
    _need_known(grid)
    return grid


def _need_known(grid: Mapping[str, Sequence[str]]) -> None:
    """Check that a grid's settings exist, and that their values have the right type and differ."""
    types = _types()
    for name, values in grid.items():
        if name not in types:
            raise unknown_name("--grid", "setting", name, types)
        if len({repr(_parsed(name, value)) for value in values}) < len(values):  # 1e-3 and 0.001 are one value
            raise OptionError("--grid", f"'{name}={','.join(values)}' names a setting or a value twice.")


def _types() -> dict[str, type]:
    settings = [setting for record in GROUPS.values() for setting in fields(record)]
    types = {setting.name: kind_of(setting) for setting in settings}
    return {**_OWN, **types, **{old: types[new] for old, new in RENAMED.items()}}


def make_variants(
    grid: Mapping[str, Sequence[str]], settings: Mapping[str, Any], seeds: Sequence[int], *, samples: int | None = None
) -> list[Variant]:
    """Return the runs of the product of a grid, with the seeds of a variant one after the other.

    Args:
        settings: of all variants, with "head"; the grid's values replace them.
        samples: how many of the product's variants to draw, the same ones each time; all by default.

    Raises:
        OptionError: the grid is empty, a setting is unknown, or a value has the wrong type or is out of range.
    """
    if not grid:
        raise OptionError("--grid", "nothing to vary, such as loss=ce,focal.")
    _need_known(grid)
    product = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if samples is not None:
        if samples < 1:
            raise OptionError("--samples", f"{samples} is not a number of variants above 0.")
        product = random.Random(0).sample(product, min(samples, len(product)))
    names = [_name(values) for values in product]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise OptionError("--grid", f"two of its variants would share the folder {repeated}; write a value otherwise.")
    return [
        Variant(name, values, _config(settings, values, seed))
        for name, values in zip(names, product, strict=True)
        for seed in seeds
    ]


def share_of(variants: Sequence[Variant], shard: str | None) -> list[Variant]:
    """Return the runs of one task of a job array: for "3/8", every eighth run from the fourth on; all without a shard.

    Raises:
        OptionError: the shard is not of that form, there is no such task, or there is nothing for it to do.
    """
    task, num_tasks = parse_shard(shard)
    share = list(variants[task::num_tasks])
    if not share:
        raise OptionError("--shard", f"{shard!r}: there are only {len(variants)} runs to deal.")
    return share


def _name(values: Mapping[str, str]) -> str:
    """Return a folder's name: letters, digits and what every file system allows; a long name is cut and hashed.

    >>> _name({"loss": "focal:gamma=1", "lr": "1e-4"})
    'loss-focal.gamma.1_lr-1e-4'
    """
    name = "_".join(f"{name}-{value}" for name, value in values.items()).translate(str.maketrans(":=/", "..."))
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    beginning = name.encode()[: _LONGEST_NAME - 9].decode(errors="ignore")
    return f"{beginning}-{sha256_of_json(dict(values))[:8]}"


def _parsed(name: str, text: str) -> Any:
    """Return the value of a setting from its text.

    Raises:
        OptionError: it has the wrong type.
    """
    kind = _types()[name]
    try:
        if kind is bool:
            return {"true": True, "false": False}[text]
        return (text,) if kind is tuple else kind(text)
    except (ValueError, KeyError):
        expected = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise OptionError("--grid", f"{name} is {text!r}, not {expected}.") from None


def _config(settings: Mapping[str, Any], varied: Mapping[str, str], seed: int) -> TrainConfig:
    values = {**settings, **{name: _parsed(name, text) for name, text in varied.items()}, "seed": seed}
    spec = parse_head(values.pop("head"), "--grid" if "head" in varied else "--head")
    config = make_config(spec.name, spec.options, with_current_names(values))
    if config.optimisation.epochs == 0:
        raise OptionError("--epochs", "a sweep trains for at least 1 epoch; heads evaluate scores runs that exist.")
    return config
