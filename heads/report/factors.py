"""Which settings mattered: the mean score at each value of a setting, averaged over everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heads.config import TrainConfig
from heads.scoring.metrics import TASKS

SEED = "seed"
# More values of a setting, as a random search has them, are a table and no plot.
MOST_VALUES = 24
# Figures that are averaged: top-1 of each task.
FIGURES = tuple(f"{task}@1" for task in TASKS)


@dataclass(frozen=True)
class Trial:
    """One run: its settings as names and values, and its figures in percent."""

    settings: Mapping[str, object]
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Effect:
    """The runs at one value of a setting.

    Attributes:
        means: figure -> mean over the runs, in percent.
        spread: standard deviation of action@1 over them; None for a single one.
        lowest, highest: action@1 of the worst and the best of them.
    """

    value: str
    num_runs: int
    means: Mapping[str, float]
    spread: float | None
    lowest: float
    highest: float


@dataclass(frozen=True)
class Factor:
    """A setting that varies.

    Attributes:
        effects: its values, numbers in their order, words from the best on.
        is_balanced: whether every value has met the same other settings, seeds aside.
    """

    name: str
    effects: tuple[Effect, ...]
    is_balanced: bool

    @property
    def reach(self) -> float:
        """By how many points of action@1 the best value is above the worst."""
        means = [effect.means["action@1"] for effect in self.effects]
        return max(means) - min(means)


def settings_of(config: TrainConfig, features: str) -> dict[str, object]:
    """Give the settings of a run by name; a head's own options are named with it, as "bilstm hidden".

    Args:
        features: what the run was trained on, by any name.
    """
    flat = config.as_json()
    options = {f"{config.head} {key}": value for key, value in flat.pop("head_options").items()}
    return {"features": features, **flat, **options}


def main_effects(trials: Sequence[Trial]) -> tuple[Factor, ...]:
    """Give the settings that vary among runs, that with the largest reach first; seeds, the yardstick, last.

    An option of a head is looked at among the runs of that head.
    """
    names = dict.fromkeys(name for trial in trials for name in trial.settings)
    values = {name: {str(trial.settings[name]) for trial in trials if name in trial.settings} for name in names}
    varying = [name for name in names if len(values[name]) > 1]
    found = [_factor(name, [trial for trial in trials if name in trial.settings], varying) for name in varying]
    return tuple(sorted(found, key=lambda one: (one.name == SEED, -one.reach)))


def luck(trials: Sequence[Trial]) -> float | None:
    """Give the standard deviation of action@1 over runs that differ in their seed alone, in points; None without such.

    It is pooled over all settings that have several seeds.
    """
    alike: dict[tuple[str, ...], list[float]] = {}
    for trial in trials:
        key = tuple(f"{name}={value}" for name, value in trial.settings.items() if name != SEED)
        alike.setdefault(key, []).append(trial.figures["action@1"])
    several = [actions for actions in alike.values() if len(actions) > 1]
    if not several:
        return None
    squares = sum(np.var(actions) * len(actions) for actions in several)
    return float(np.sqrt(squares / sum(len(actions) - 1 for actions in several)))


def _factor(name: str, trials: Sequence[Trial], varying: Sequence[str]) -> Factor:
    at: dict[str, list[Trial]] = {}
    for trial in trials:
        at.setdefault(_text(trial.settings[name]), []).append(trial)
    # Seeds only repeat a setting: where one is missing, two values can still be compared.
    others = [other for other in varying if other not in (name, SEED)]
    met = [{tuple(str(trial.settings.get(other)) for other in others) for trial in group} for group in at.values()]
    effects = [_effect(value, group) for value, group in at.items()]
    if all(isinstance(trial.settings[name], (int, float)) for trial in trials):
        effects.sort(key=lambda effect: float(at[effect.value][0].settings[name]))
    else:
        effects.sort(key=lambda effect: -effect.means["action@1"])
    return Factor(name, tuple(effects), all(one == met[0] for one in met))


def _effect(value: str, trials: Sequence[Trial]) -> Effect:
    actions = [trial.figures["action@1"] for trial in trials]
    return Effect(
        value=value,
        num_runs=len(trials),
        means={figure: float(np.mean([trial.figures[figure] for trial in trials])) for figure in FIGURES},
        spread=float(np.std(actions, ddof=1)) if len(actions) > 1 else None,
        lowest=min(actions),
        highest=max(actions),
    )


def _text(value: object) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)
