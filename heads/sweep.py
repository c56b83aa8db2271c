"""Many variants of a run, one after the other, on features that are loaded once. Knows no command line.

Each variant is an ordinary run folder, so a sweep that was cut off goes on, and whatever works on runs works on a
sweep's.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from features.errors import DataError, OptionError, is_out_of_memory, unknown_name
from features.files import write_json
from heads.config import GROUPS, TrainConfig, make_config
from heads.models import parse_head
from heads.runs import run_folder
from heads.train import fit
from heads.trainee import TrainData

# What a grid may vary beside the settings of heads/config.py.
_OWN = {"head": str, "separate": bool, "split": str}
FAILED = "failed.json"


@dataclass(frozen=True)
class Variant:
    """A run of a sweep: what was varied, as text, and the whole configuration."""

    name: str
    values: Mapping[str, str]
    config: TrainConfig


@dataclass(frozen=True)
class SweepResult:
    """What became of a variant over its seeds.

    Attributes:
        scores: the best epochs' action@1 in percent, a seed each; without validation NaN.
        failed: seed -> why it has no score.
    """

    name: str
    values: Mapping[str, str]
    scores: tuple[float, ...]
    failed: Mapping[int, str]

    @property
    def mean(self) -> float:
        """Mean of the scores; NaN where there is none."""
        return float(np.mean(self.scores)) if self.scores else float("nan")


def parse_grid(words: Sequence[str]) -> dict[str, list[str]]:
    """Give the values of each setting of a grid such as ["loss=ce,focal:gamma=1", "lr=1e-4,3e-4"].

    >>> parse_grid(["loss=ce,focal:gamma=1", "lr=1e-4"])
    {'loss': ['ce', 'focal:gamma=1'], 'lr': ['1e-4']}

    Raises:
        OptionError: a word is not NAME=VALUE,..., a name is unknown or stands twice, or a value does.
    """
    grid: dict[str, list[str]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        name, values = name.replace("-", "_"), values.split(",")
        if not equals or not all(values):
            raise OptionError(f"--grid: {word!r} is not NAME=VALUE,..., such as loss=ce,focal.")
        if name not in _types():
            raise unknown_name("--grid", "setting", name, _types())
        if name in grid or len(set(values)) < len(values):
            raise OptionError(f"--grid: {word!r} names a setting or a value twice.")
        grid[name] = values
    if not grid:
        raise OptionError("--grid: nothing to vary, such as loss=ce,focal.")
    return grid


def _types() -> dict[str, type]:
    settings = [setting for record in GROUPS.values() for setting in fields(record)]
    known = {setting.name: type(setting.default) if setting.default is not None else str for setting in settings}
    return {**_OWN, **known}


def make_variants(
    grid: Mapping[str, Sequence[str]], settings: Mapping[str, Any], seeds: Sequence[int], *, samples: int | None = None
) -> list[Variant]:
    """Give the runs of a grid's product, all seeds of a variant together.

    Args:
        settings: of all variants, where the grid does not say otherwise; with "head".
        samples: how many of the product's variants to draw; all by default. The same are drawn each time.

    Raises:
        OptionError: a value is not of its setting's type or range.
    """
    product = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if samples is not None:
        if samples < 1:
            raise OptionError(f"--samples: {samples} is not a number of variants above 0.")
        product = random.Random(0).sample(product, min(samples, len(product)))
    return [
        Variant(_name(values), values, _config({**settings, **_typed(values), "seed": seed}))
        for values in product
        for seed in seeds
    ]


def share_of(variants: Sequence[Variant], shard: str) -> list[Variant]:
    """Give the runs of one task of an array, such as "3/8": every eighth, from the fourth on.

    Raises:
        OptionError: it is not of that form, there is no such task, or there is nothing for it to do.
    """
    task, _, num_tasks = shard.partition("/")
    if not (task.isdecimal() and num_tasks.isdecimal() and int(task) < int(num_tasks)):
        raise OptionError(f"--shard: {shard!r} is not TASK/TASKS with a task from 0 to TASKS - 1, such as 0/8.")
    mine = list(variants[int(task) :: int(num_tasks)])
    if not mine:
        raise OptionError(f"--shard: {shard!r}: there are only {len(variants)} runs to deal.")
    return mine


def _name(values: Mapping[str, str]) -> str:
    """Give a folder's name: letters, digits and what file systems take everywhere.

    >>> _name({"loss": "focal:gamma=1", "lr": "1e-4"})
    'loss-focal.gamma.1_lr-1e-4'
    """
    return "_".join(f"{name}-{value}" for name, value in values.items()).translate(str.maketrans(":=/", "..."))


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
            raise OptionError(f"--grid: {name} is {text!r}, not {expected}.") from None
    return found


def _config(settings: Mapping[str, Any]) -> TrainConfig:
    spec = parse_head(settings["head"], "--grid head")
    config = make_config(spec.name, spec.options, settings)
    if config.optimisation.epochs < 1:
        raise OptionError("--epochs: a sweep trains, for 1 epoch or more; heads evaluate scores runs that are there.")
    return config


def run_sweep(
    variants: Sequence[Variant],
    load: Callable[[TrainConfig], TrainData],
    folder: Path,
    *,
    device: torch.device,
) -> list[SweepResult]:
    """Train all variants, best first in what is given back. What is finished already is only read.

    Features are loaded again only where variants see other ones. A variant that fails is recorded in
    `folder`/failed.json, and the rest goes on.

    Args:
        load: gives the data of a configuration.
    """
    scores: dict[str, list[float]] = {}
    failed: dict[str, dict[int, str]] = {}
    seen, data = None, None
    for variant in sorted(variants, key=lambda one: str(_seen(one.config))):
        scores.setdefault(variant.name, [])
        failed.setdefault(variant.name, {})
        try:
            if data is None or seen != _seen(variant.config):
                seen, data = _seen(variant.config), None  # the old ones go before the new ones come
                data = load(variant.config)
            outcome = fit(variant.config, data, run_folder(folder, variant.name, variant.config.seed), device=device)
        except (DataError, OptionError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                raise
            failed[variant.name][variant.config.seed] = "out of memory" if is_out_of_memory(error) else str(error)
            continue
        scores[variant.name].append(outcome.metrics.get("val_action_top1", float("nan")))
    if any(failed.values()):
        write_json(folder / FAILED, {name: why for name, why in failed.items() if why})
    else:
        (folder / FAILED).unlink(missing_ok=True)
    values = {variant.name: variant.values for variant in variants}
    results = [SweepResult(name, values[name], tuple(scores[name]), failed[name]) for name in scores]
    return sorted(results, key=lambda one: -np.nan_to_num(one.mean, nan=-1))


def _seen(config: TrainConfig) -> tuple[Any, ...]:
    """Give what decides which features are loaded."""
    look = config.look
    return config.split, look.context, look.neighbours, look.view, look.fusion
