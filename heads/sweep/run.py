"""Many variants of a run, on features that are loaded once. Knows no command line.

Each variant is an ordinary run folder, so a sweep that was cut off goes on, and whatever works on runs works on a
sweep's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from features.annotations import SplitFiles
from features.dealing import parse_shard
from features.errors import DataError, OptionError, is_out_of_memory
from features.predictions import read_predictions
from heads.config import TrainConfig
from heads.data.load import TrainData
from heads.data.splits import scored_csv
from heads.runs import METRICS, read_metrics, run_folder
from heads.sweep.grid import Variant
from heads.sweep.halving import Decision, decide, rungs_of, score_at
from heads.sweep.records import write_decisions, write_failures
from heads.sweep.together import can_train_together, fit_together, shape_of
from heads.training.fit import fit
from heads.training.state import Outcome


@dataclass(frozen=True)
class SweepResult:
    """What became of a variant over its seeds.

    Attributes:
        scores: the best epochs' action@1 in percent, a seed each; without validation NaN.
        failed: seed -> why it has no score.
        stopped: the epoch that it was stopped at, and its scores are of; None of one that ran to its end.
    """

    name: str
    values: Mapping[str, str]
    scores: tuple[float, ...]
    failed: Mapping[int, str]
    stopped: int | None = None

    @property
    def mean(self) -> float:
        """Mean of the scores; NaN where there is none."""
        return float(np.mean(self.scores)) if self.scores else float("nan")


def choose_rungs(variants: Sequence[Variant], files: SplitFiles, *, shard: str | None = None) -> list[int]:
    """Give the epochs after which --halving compares the variants of a sweep.

    Args:
        files: the annotation files that the variants are trained with and scored on.

    Raises:
        OptionError: they cannot be compared: not all of them are here, not on validation, or not at the same epochs.
    """
    if parse_shard(shard)[1] > 1:
        raise OptionError(
            "--halving",
            f"compares all runs with each other, and --shard {shard} is a part of them; take either, or one "
            "task for all (make sweep TASKS=1).",
        )
    blind = sorted({one.config.split for one in variants if files.train and not scored_csv(one.config.split, files)})
    if blind:
        raise OptionError("--halving", f"compares variants on validation, and there is none with split {blind[0]}.")
    epochs = {one.config.optimisation.epochs for one in variants}
    if len(epochs) > 1:
        raise OptionError("--halving", "compares variants of as many epochs; take epochs out of the grid.")
    return rungs_of(epochs.pop())


def run_sweep(
    variants: Sequence[Variant],
    load: Callable[[TrainConfig], TrainData],
    folder: Path,
    *,
    device: torch.device,
    rungs: Sequence[int] = (),
    shard: str | None = None,
    together: int = 1,
) -> list[SweepResult]:
    """Train all variants, best first in what is given back. What is finished already is only read.

    Features are loaded again only where variants see other ones. A variant that fails is recorded in
    `folder`/failed.json, and the rest goes on. What was stopped at a rung stays behind as a run that was cut off, and
    `folder`/halving.json says why.

    Args:
        load: gives the data of a configuration.
        rungs: epochs after which only the better half of the variants goes on, from `choose_rungs`.
        shard: the task of an array whose share `variants` are; its failures go into a file of its own, as tasks may
            end at the same time.
        together: how many runs of one shape (heads/sweep/together.py) are trained in one pass.
    """
    seen, data = None, None

    def train(those: Sequence[Variant], until: int | None) -> tuple[dict[Path, Outcome], dict[Path, str]]:
        """Train variants up to an epoch, or to their end; give run folder -> how far it came, or why it failed."""
        nonlocal seen, data
        outcomes, failures = {}, {}
        for group in _passes(those, together, first=seen):
            try:
                if data is None or seen != _seen(group[0].config):
                    seen, data = _seen(group[0].config), None  # the old ones go before the new ones come
                    data = load(group[0].config)
            except (DataError, OptionError, MemoryError, RuntimeError) as error:
                failures |= {at(variant): _reason(error) for variant in group}
                continue
            # Features that are read as they are needed are read by each run in its own order.
            for part in [group] if data.train.is_resident else [[variant] for variant in group]:
                runs = [(variant.config, at(variant)) for variant in part]
                for (_, run), ended in zip(runs, _train(runs, data, device, until), strict=True):
                    (outcomes if isinstance(ended, Outcome) else failures)[run] = ended
        return outcomes, failures

    def at(variant: Variant) -> Path:
        return run_folder(folder, variant.name, variant.config.seed)

    left, failed, decisions = list(variants), {}, []
    scores: dict[Path, float] = {}
    for rung in rungs:
        failed |= train(left, rung)[1]
        left = [one for one in left if at(one) not in failed]
        scores |= {at(one): score_at(read_metrics(at(one) / METRICS), rung) for one in left}
        found = decide({name: [scores[at(one)] for one in runs] for name, runs in _by_name(left).items()}, rung)
        decisions += found
        write_decisions(folder, decisions)
        left = [one for one in left if one.name not in _stopped(found)]
    outcomes, failures = train(left, None)
    failed |= failures
    scores |= {run: outcome.metrics.get("val_action_top1", math.nan) for run, outcome in outcomes.items()}

    results = [
        SweepResult(
            name,
            runs[0].values,
            tuple(scores[at(one)] for one in runs if at(one) not in failed),
            {one.config.seed: failed[at(one)] for one in runs if at(one) in failed},
            _stopped(decisions).get(name),
        )
        for name, runs in _by_name(variants).items()
    ]
    write_failures(folder, {one.name: one.failed for one in results if one.failed}, shard)
    write_decisions(folder, decisions)  # without rungs, what had been stopped has run to its end now
    return sorted(results, key=_place)


def _passes(those: Sequence[Variant], together: int, *, first: object) -> Iterator[list[Variant]]:
    """Give what is trained in one pass, one after the other: at most so many, of one shape, that see the same features.

    Args:
        first: what is loaded, and so comes first: at a rung all of them come round again.
    """
    shapes: dict[object, list[Variant]] = {}
    for variant in sorted(those, key=lambda one: (_seen(one.config) != first, str(_seen(one.config)))):
        shapes.setdefault((_seen(variant.config), shape_of(variant.config)), []).append(variant)
    for alike in shapes.values():
        size = together if can_train_together(alike[0].config) else 1
        yield from (alike[place : place + size] for place in range(0, len(alike), size))


def _train(
    runs: Sequence[tuple[TrainConfig, Path]], data: TrainData, device: torch.device, until: int | None
) -> list[Outcome | str]:
    """Train runs in one pass, or where that fails, as for want of memory, one by one; give how each ended or failed."""
    try:
        files = [config.objective.teacher for config, _ in runs]
        read = {file: read_predictions(Path(file)) for file in set(files) - {None}}
        teachers = [read.get(file) for file in files]
        if len(runs) > 1:
            ended = fit_together(runs, data, device=device, teachers=teachers, until=until)
            return [one if isinstance(one, Outcome) else str(one) for one in ended]
        ((config, folder),) = runs
        return [fit(config, data, folder, device=device, teacher=teachers[0], until=until)]
    except (DataError, OptionError, MemoryError, RuntimeError) as error:
        reason = _reason(error)
    # Only here, where the error no longer holds what was in memory.
    return [reason] if len(runs) == 1 else [one for run in runs for one in _train([run], data, device, until)]


def _reason(error: BaseException) -> str:
    """Say why a run failed; an error that is nobody's fault but ours goes on."""
    if is_out_of_memory(error):
        return "out of memory"
    if isinstance(error, RuntimeError):
        raise error
    return str(error)


def _place(result: SweepResult) -> tuple[bool, float, float]:
    """Order results: those that ran longest first, because scores of other epochs do not compare; failures last."""
    return not result.scores, -(result.stopped or math.inf), -float(np.nan_to_num(result.mean, nan=-1))


def _by_name(variants: Sequence[Variant]) -> dict[str, list[Variant]]:
    """Give the seeds of each variant, in the order of the grid."""
    runs: dict[str, list[Variant]] = {}
    for variant in variants:
        runs.setdefault(variant.name, []).append(variant)
    return runs


def _stopped(decisions: Sequence[Decision]) -> dict[str, int]:
    return {one.name: one.epoch for one in decisions if one.stopped}


def _seen(config: TrainConfig) -> tuple[Any, ...]:
    """Give what decides which features are loaded."""
    inputs = config.inputs
    return config.split, inputs.context, inputs.neighbours, inputs.view, inputs.fusion
