"""Main effects of settings: the mean score at each value of a setting, averaged over all other settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heads.config import TrainConfig
from heads.scoring.metrics import TASKS

SEED = "seed"
# A setting with more values, as in a random search, has a table but no plot.
MOST_VALUES = 24
# The scores that are averaged: top-1 of each task.
FIGURES = tuple(f"{task}@1" for task in TASKS)


@dataclass(frozen=True)
class Trial:
    """One run: its settings as names and values, and its scores in percent.

    Attributes:
        is_stopped: whether --halving stopped it, so that the scores are those of its last epoch.
    """

    settings: Mapping[str, object]
    figures: Mapping[str, float]
    is_stopped: bool = False


@dataclass(frozen=True)
class Effect:
    """The runs at one value of a setting.

    Attributes:
        num_stopped: of the runs, those that --halving stopped.
        means: score -> mean over the runs, in percent.
        spread: standard deviation of action@1 over the runs; None for a single run.
        lowest, highest: action@1 of the worst and of the best run.
    """

    value: str
    num_runs: int
    num_stopped: int
    means: Mapping[str, float]
    spread: float | None
    lowest: float
    highest: float


@dataclass(frozen=True)
class Factor:
    """A setting that varies.

    Attributes:
        effects: of its values; numbers in ascending order, words with the best first.
        is_balanced: whether every value was combined with the same other settings, seeds aside.
    """

    name: str
    effects: tuple[Effect, ...]
    is_balanced: bool

    @property
    def range(self) -> float:
        """Action@1 of the best value minus that of the worst, in points."""
        means = [effect.means["action@1"] for effect in self.effects]
        return max(means) - min(means)


def settings_of(config: TrainConfig, features: str) -> dict[str, object]:
    """Return the settings of a run by name; a head's own options have its name before theirs, as "bilstm hidden".

    Args:
        features: a name for the feature sets that the run was trained on.
    """
    flat = config.as_json()
    options = {f"{config.head} {key}": value for key, value in flat.pop("head_options").items()}
    return {"features": features, **flat, **options}


def main_effects(trials: Sequence[Trial]) -> tuple[Factor, ...]:
    """Return the settings that vary among runs, the one with the largest range first and the seed last.

    An option of a head is compared among the runs of that head.
    """
    names = dict.fromkeys(name for trial in trials for name in trial.settings)
    values = {name: {str(trial.settings[name]) for trial in trials if name in trial.settings} for name in names}
    varying = [name for name in names if len(values[name]) > 1]
    factors = [_factor(name, [trial for trial in trials if name in trial.settings], varying) for name in varying]
    return tuple(sorted(factors, key=lambda factor: (factor.name == SEED, -factor.range)))


def seed_std(trials: Sequence[Trial]) -> float | None:
    """Return the standard deviation of action@1 between runs that differ in their seed alone, in points.

    It is pooled over all settings with several seeds; None where there are none.
    """
    by_settings: dict[tuple[str, ...], list[float]] = {}
    for trial in trials:
        key = tuple(f"{name}={value}" for name, value in trial.settings.items() if name != SEED)
        by_settings.setdefault(key, []).append(trial.figures["action@1"])
    several = [actions for actions in by_settings.values() if len(actions) > 1]
    if not several:
        return None
    squares = sum(np.var(actions) * len(actions) for actions in several)
    return float(np.sqrt(squares / sum(len(actions) - 1 for actions in several)))


def _factor(name: str, trials: Sequence[Trial], varying: Sequence[str]) -> Factor:
    by_value: dict[str, list[Trial]] = {}
    for trial in trials:
        by_value.setdefault(_text(trial.settings[name]), []).append(trial)
    # Seeds only repeat a setting: values can be compared even where a seed is missing.
    others = [other for other in varying if other not in (name, SEED)]
    combinations = [
        {tuple(str(trial.settings.get(other)) for other in others) for trial in group} for group in by_value.values()
    ]
    effects = [_effect(value, group) for value, group in by_value.items()]
    if all(_is_number(trial.settings[name]) for trial in trials):
        effects.sort(key=lambda effect: float(str(by_value[effect.value][0].settings[name])))
    else:
        effects.sort(key=lambda effect: -effect.means["action@1"])
    return Factor(name, tuple(effects), all(met == combinations[0] for met in combinations))


def _effect(value: str, trials: Sequence[Trial]) -> Effect:
    actions = [trial.figures["action@1"] for trial in trials]
    return Effect(
        value=value,
        num_runs=len(trials),
        num_stopped=sum(trial.is_stopped for trial in trials),
        means={figure: float(np.mean([trial.figures[figure] for trial in trials])) for figure in FIGURES},
        spread=float(np.std(actions, ddof=1)) if len(actions) > 1 else None,
        lowest=min(actions),
        highest=max(actions),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)  # a switch is no number to Python's float


def _text(value: object) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)
