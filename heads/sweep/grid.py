"""What a sweep's grid means: its variants, and how they are dealt to tasks. Trains nothing."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from features.dealing import parse_shard
from features.errors import OptionError, unknown_name
from features.files import sha256_of_json
from heads.config import GROUPS, RENAMED, TrainConfig, make_config, setting_names, with_current_names
from heads.models.catalogue import parse_head

# What a grid may vary beside the settings of heads/config.py.
_OWN = {"head": str, "separate": bool, "split": str}
# Of a folder, in bytes: file systems end at 255, and the seed comes after it.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Variant:
    """A run of a sweep: what was varied, as text, and the whole configuration."""

    name: str
    values: Mapping[str, str]
    config: TrainConfig


def parse_grid(words: Sequence[str]) -> dict[str, list[str]]:
    """Give the values of each setting of a grid such as ["loss=ce,focal:gamma=1", "lr=1e-4,3e-4"].

    >>> parse_grid(["loss=ce,focal:gamma=1", "lr=1e-4"])
    {'loss': ['ce', 'focal:gamma=1'], 'lr': ['1e-4']}

    Raises:
        OptionError: a word is not NAME=VALUE,..., a name is unknown or stands twice, or a value does or is of
            another type.
    """
    grid: dict[str, list[str]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        name, values = name.replace("-", "_"), values.split(",")
        if not equals or not all(values):
            raise OptionError("--grid", f"{word!r} is not NAME=VALUE,..., such as loss=ce,focal.")
        if name not in _types():
            raise unknown_name("--grid", "setting", name, _types())
        if RENAMED.get(name, name) in with_current_names(grid) or len(set(values)) < len(values):
            raise OptionError("--grid", f"{word!r} names a setting or a value twice.")
        for value in values:
            _typed({name: value})
        grid[name] = values
    return grid


def _types() -> dict[str, type]:
    settings = [setting for record in GROUPS.values() for setting in fields(record)]
    known = {setting.name: type(setting.default) if setting.default is not None else str for setting in settings}
    return {**_OWN, **known, **{old: known[new] for old, new in RENAMED.items()}}


def make_variants(
    grid: Mapping[str, Sequence[str]], settings: Mapping[str, Any], seeds: Sequence[int], *, samples: int | None = None
) -> list[Variant]:
    """Give the runs of a grid's product, all seeds of a variant together.

    Args:
        settings: of all variants, where the grid does not say otherwise; with "head".
        samples: how many of the product's variants to draw; all by default. The same are drawn each time.

    Raises:
        OptionError: there is nothing to vary, or a value is not of its setting's type or range.
    """
    if not grid:
        raise OptionError("--grid", "nothing to vary, such as loss=ce,focal.")
    product = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if samples is not None:
        if samples < 1:
            raise OptionError("--samples", f"{samples} is not a number of variants above 0.")
        product = random.Random(0).sample(product, min(samples, len(product)))
    names = [_name(values) for values in product]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise OptionError("--grid", f"two of its variants would share the folder {twice}; name a value otherwise.")
    return [
        Variant(name, values, _config({**settings, **_typed(values), "seed": seed}, values))
        for name, values in zip(names, product, strict=True)
        for seed in seeds
    ]


def share_of(variants: Sequence[Variant], shard: str | None) -> list[Variant]:
    """Give the runs of one task of an array, such as "3/8": every eighth, from the fourth on; all without one.

    Raises:
        OptionError: it is not of that form, there is no such task, or there is nothing for it to do.
    """
    task, num_tasks = parse_shard(shard)
    mine = list(variants[task::num_tasks])
    if not mine:
        raise OptionError("--shard", f"{shard!r}: there are only {len(variants)} runs to deal.")
    return mine


def _name(values: Mapping[str, str]) -> str:
    """Give a folder's name: letters, digits and what file systems take everywhere; of a long one its beginning.

    >>> _name({"loss": "focal:gamma=1", "lr": "1e-4"})
    'loss-focal.gamma.1_lr-1e-4'
    """
    name = "_".join(f"{name}-{value}" for name, value in values.items()).translate(str.maketrans(":=/", "..."))
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    beginning = name.encode()[: _LONGEST_NAME - 9].decode(errors="ignore")
    return f"{beginning}-{sha256_of_json(dict(values))[:8]}"


def _typed(values: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for name, text in values.items():
        kind = _types()[name]
        try:
            if kind is bool:
                found[name] = {"true": True, "false": False}[text]
            else:
                found[name] = (text,) if kind is tuple else kind(text)
        except (ValueError, KeyError):
            expected = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
            raise OptionError("--grid", f"{name} is {text!r}, not {expected}.") from None
    return found


def _config(settings: Mapping[str, Any], varied: Mapping[str, str]) -> TrainConfig:
    spec = parse_head(settings["head"], "--grid" if "head" in varied else "--head")
    known = {name: value for name, value in with_current_names(settings).items() if name in setting_names()}
    config = make_config(spec.name, spec.options, known)
    if config.optimisation.epochs < 1:
        raise OptionError("--epochs", "a sweep trains, for 1 epoch or more; heads evaluate scores runs that are there.")
    return config
