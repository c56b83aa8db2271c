"""Train many variants of a run on features that are loaded once. Knows no command line.

Each variant has an ordinary run folder, so an interrupted sweep continues, and whatever works on runs works on the runs
of a sweep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from features.annotations import SplitFiles
from features.dealing import parse_shard
from features.errors import DataError, OptionError, is_out_of_memory
from heads.config import TrainConfig
from heads.data.load import TrainData
from heads.data.splits import choose_split, note_on_shared, scored_csv
from heads.locks import InUseError, locked
from heads.models.catalogue import is_fitted, reads_windows
from heads.runs import METRICS, read_metrics, run_folder
from heads.sweep.grid import Variant, share_of
from heads.sweep.halving import Decision, best_first, decide, rungs_of, score_at
from heads.sweep.records import write_decisions, write_failures
from heads.sweep.together import can_train_together, fit_together, shape_of
from heads.training.defaults import epochs_of
from heads.training.fit import fit
from heads.training.state import Outcome


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep is going to train.

    Attributes:
        folder: holds a run folder per variant and seed.
        variants: all runs of the sweep.
        share: the runs that this task trains.
        shard: the task in a job array, such as "3/8"; None where there is one task.
        rungs: the epochs after which only the better half of the variants continues; empty without halving.
        files: the annotation files that the variants are trained with and scored on.
        warnings: what is wrong with these lists, and can be meant all the same.
    """

    folder: Path
    variants: tuple[Variant, ...]
    share: tuple[Variant, ...]
    shard: str | None
    rungs: tuple[int, ...]
    files: SplitFiles
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SweepResult:
    """The result of a variant over its seeds.

    Attributes:
        scores: action@1 of the best epoch in percent, one per seed; NaN without validation.
        failed: seed -> why it has no score.
        stopped: the epoch at which halving stopped the variant, and which its scores are of; None where it ran to its
            end.
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


def plan_sweep(
    variants: Sequence[Variant], files: SplitFiles, folder: Path, *, shard: str | None = None, halving: bool = False
) -> SweepPlan:
    """Return the plan of a sweep: which runs this task trains, and after which epochs variants are compared.

    Raises:
        OptionError: there is no such task, or the variants cannot be compared: not all of them are trained by this
            task, they have no validation, or they have different numbers of epochs.
    """
    variants = _with_epochs(variants, files)
    share = share_of(variants, shard)
    rungs = _choose_rungs(variants, files, shard) if halving else []
    return SweepPlan(folder, tuple(variants), tuple(share), shard, tuple(rungs), files, _warnings(variants, files))


def _warnings(variants: Sequence[Variant], files: SplitFiles) -> tuple[str, ...]:
    """Return whether runs are scored on what they are trained on; only two lists of their own can overlap."""
    is_official = any(variant.config.split == "official" for variant in variants)
    if not is_official or not all(file is not None and file.is_file() for file in (files.train, files.validation)):
        return ()  # a file that is missing fails the runs
    split = choose_split("official", files)
    note = note_on_shared(split.train, split.validation)
    return (note,) if note else ()


def _with_epochs(variants: Sequence[Variant], files: SplitFiles) -> list[Variant]:
    """Return variants with their number of epochs chosen where it is left open, for the training list of their split.

    So all runs of a variant have the same number, whatever part of the list has features.
    """
    if files.train is None:
        return list(variants)
    splits = {variant.config.split for variant in variants if variant.config.optimisation.epochs is None}
    num_segments = {split: len(choose_split(split, files).train) for split in splits}

    def with_epochs(config: TrainConfig) -> TrainConfig:
        settings = config.optimisation
        if settings.epochs is not None:
            return config
        epochs = epochs_of(config, num_segments[config.split])
        return replace(config, optimisation=replace(settings, epochs=epochs))

    return [replace(variant, config=with_epochs(variant.config)) for variant in variants]


def _choose_rungs(variants: Sequence[Variant], files: SplitFiles, shard: str | None) -> list[int]:
    """Return the epochs after which --halving compares the variants of a sweep."""
    if parse_shard(shard)[1] > 1:
        raise OptionError(
            "--halving",
            f"compares all runs with each other, and --shard {shard} is a part of them; take either, or one "
            "task for all (make sweep TASKS=1).",
        )
    unscored = {
        variant.config.split for variant in variants if files.train and not scored_csv(variant.config.split, files)
    }
    if unscored:
        raise OptionError("--halving", f"compares variants on validation, and split {min(unscored)} has none.")
    epochs = {variant.config.optimisation.epochs for variant in variants if not is_fitted(variant.config.head)}
    if not epochs:
        raise OptionError("--halving", "has nothing to stop early: all heads are fitted to convergence.")
    if len(epochs) > 1:
        numbers = " and ".join(str(number) for number in sorted(epochs, key=lambda number: number or 0))
        raise OptionError(
            "--halving",
            f"compares variants with the same number of epochs, and these have {numbers}; take epochs out of the grid, "
            "and give --epochs.",
        )
    num_epochs = epochs.pop()
    return [] if num_epochs is None else rungs_of(num_epochs)  # without a training list, all runs fail anyway


def run_sweep(
    plan: SweepPlan, load: Callable[[TrainConfig], TrainData], *, device: torch.device, together: int = 1
) -> list[SweepResult]:
    """Train the share of a plan and return the results, best first. Runs that are finished already are only read.

    The folder is locked for this task meanwhile, and each run's while it is trained.

    A variant that fails is recorded in failed.json in the sweep's folder, and the other variants continue. Variants
    that halving stops keep their folders as interrupted runs; halving.json says why.

    Args:
        load: returns the data of a configuration.
        together: the largest number of runs of one shape (heads/sweep/together.py) that are trained in one pass.

    Raises:
        DataError: another process does this task, or, before a rung, is writing one of the runs.
    """
    task, num_tasks = parse_shard(plan.shard)
    with locked(plan.folder, part="" if num_tasks == 1 else f"{task}of{num_tasks}"):
        trainer = _Trainer(plan.folder, _LoadedData(load), device, together)
        status = _Status()
        remaining, decisions = _halve(plan, trainer, status)
        outcomes, failures = trainer.train(remaining, until=None)
        status.failures |= failures
        status.scores |= {run: outcome.metrics.get("val_action_top1", math.nan) for run, outcome in outcomes.items()}

        results = _results(plan, status, decisions)
        write_failures(plan.folder, {result.name: result.failed for result in results if result.failed}, plan.shard)
        # Without rungs, all variants that were stopped before have ended by now.
        write_decisions(plan.folder, decisions)
        return results


@dataclass
class _Status:
    """Run folder -> its score, and run folder -> why it failed, of all runs so far."""

    scores: dict[Path, float] = field(default_factory=dict)
    failures: dict[Path, str] = field(default_factory=dict)


def _halve(plan: SweepPlan, trainer: _Trainer, status: _Status) -> tuple[list[Variant], list[Decision]]:
    """Train all variants up to each rung and stop the worse half there; return the variants that continue."""
    remaining, decisions = list(plan.share), []
    for rung in plan.rungs:
        status.failures |= trainer.train(remaining, until=rung)[1]
        remaining = [variant for variant in remaining if trainer.folder_of(variant) not in status.failures]
        for variant in remaining:
            run = trainer.folder_of(variant)
            status.scores[run] = score_at(read_metrics(run / METRICS), rung)
        scores = {
            name: [status.scores[trainer.folder_of(variant)] for variant in seeds]
            for name, seeds in _by_name(remaining).items()
        }
        at_rung = decide(scores, rung)
        decisions += at_rung
        write_decisions(plan.folder, decisions)
        stopped = _stopped(at_rung)
        remaining = [variant for variant in remaining if variant.name not in stopped]
    return remaining, decisions


def _results(plan: SweepPlan, status: _Status, decisions: Sequence[Decision]) -> list[SweepResult]:
    stopped = _stopped(decisions)
    results = []
    for name, seeds in _by_name(plan.share).items():
        runs = {variant.config.seed: run_folder(plan.folder, name, variant.config.seed) for variant in seeds}
        scores = tuple(status.scores[run] for run in runs.values() if run not in status.failures)
        failed = {seed: status.failures[run] for seed, run in runs.items() if run in status.failures}
        results.append(SweepResult(name, seeds[0].values, scores, failed, stopped.get(name)))
    return sorted(results, key=_rank)


def _rank(result: SweepResult) -> tuple[bool, float, float]:
    """Order results: longest trained first, because scores after different epochs do not compare; failures last."""
    return not result.scores, -(result.stopped or math.inf), best_first(float(np.nan_to_num(result.mean, nan=-1)))


def _by_name(variants: Sequence[Variant]) -> dict[str, list[Variant]]:
    """Return the seeds of each variant, in the order of the grid."""
    seeds: dict[str, list[Variant]] = {}
    for variant in variants:
        seeds.setdefault(variant.name, []).append(variant)
    return seeds


def _stopped(decisions: Sequence[Decision]) -> dict[str, int]:
    return {decision.name: decision.epoch for decision in decisions if decision.stopped}


class _LoadedData:
    """The data of one configuration at a time; data that other configurations share are not loaded again."""

    def __init__(self, load: Callable[[TrainConfig], TrainData]) -> None:
        self._load = load
        self._data: TrainData | None = None
        self.key: Hashable = None

    def of(self, config: TrainConfig) -> TrainData:
        if self._data is None or self.key != _data_key(config):
            self.key, self._data = _data_key(config), None  # free the old features before the new ones are loaded
            self._data = self._load(config)
        return self._data


def _data_key(config: TrainConfig) -> Hashable:
    """Return the settings that decide which features are loaded."""
    inputs = config.inputs
    return config.split, inputs.context, inputs.neighbours, inputs.view, inputs.fusion


@dataclass(frozen=True, eq=False)
class _Trainer:
    """Trains variants into the folder of a sweep, several in one pass where their models have one shape."""

    folder: Path
    data: _LoadedData
    device: torch.device
    together: int

    def folder_of(self, variant: Variant) -> Path:
        return run_folder(self.folder, variant.name, variant.config.seed)

    def train(self, variants: Sequence[Variant], *, until: int | None) -> tuple[dict[Path, Outcome], dict[Path, str]]:
        """Train variants up to an epoch, or to their end; return run folder -> outcome, and run folder -> failure."""
        outcomes: dict[Path, Outcome] = {}
        failures: dict[Path, str] = {}
        for group in self._passes(variants):
            data = None  # or the features of the group before would stay in memory while others are loaded
            try:
                data = self.data.of(group[0].config)
            except (DataError, OptionError, MemoryError, RuntimeError) as error:
                failures |= {self.folder_of(variant): _reason(error, until) for variant in group}
                continue
            for part in self._parts(group, is_resident=data.train.is_resident):
                runs = [(variant.config, self.folder_of(variant)) for variant in part]
                for (_, run), ended in zip(runs, self._train_pass(runs, data, until), strict=True):
                    if isinstance(ended, Outcome):
                        outcomes[run] = ended
                    else:
                        failures[run] = ended
        return outcomes, failures

    def _parts(self, group: Sequence[Variant], *, is_resident: bool) -> Iterator[Sequence[Variant]]:
        """Return the variants of a group that are trained in one pass, at most `together` each.

        Those of a head that cannot be stacked gain nothing by it, unless features are read from disk: then variants of
        one seed are, as those of several seeds each read in an order of their own. Runs on windows never are, as each
        draws its own batches.
        """
        config = group[0].config
        is_together = (
            can_train_together(config) if is_resident else not (is_fitted(config.head) or reads_windows(config.head))
        )
        size = self.together if is_together else 1
        orders: dict[int, list[Variant]] = {}
        for variant in group:
            orders.setdefault(0 if is_resident else variant.config.seed, []).append(variant)
        for part in orders.values():
            yield from (part[start : start + size] for start in range(0, len(part), size))

    def _passes(self, variants: Sequence[Variant]) -> Iterable[list[Variant]]:
        """Return the groups that may share a pass: variants of one shape that see the same features.

        Variants that see the loaded features come first: at a rung, all variants are trained again.
        """
        loaded = self.data.key

        def order(variant: Variant) -> tuple[bool, str]:
            key = _data_key(variant.config)
            return key != loaded, str(key)

        groups: dict[Hashable, list[Variant]] = {}
        for variant in sorted(variants, key=order):
            groups.setdefault((_data_key(variant.config), shape_of(variant.config)), []).append(variant)
        return groups.values()

    def _train_pass(
        self, runs: Sequence[tuple[TrainConfig, Path]], data: TrainData, until: int | None
    ) -> list[Outcome | str]:
        """Train runs in one pass, or one by one where that fails, as for lack of memory.

        Returns:
            The outcome of each run, or why it failed.
        """
        try:
            if len(runs) > 1:
                ended = fit_together(runs, data, device=self.device, until=until)
                return [outcome if isinstance(outcome, Outcome) else _reason(outcome, until) for outcome in ended]
            ((config, folder),) = runs
            return [fit(config, data, folder, device=self.device, until=until)]
        except (DataError, OptionError, MemoryError, RuntimeError) as error:
            reason = _reason(error, until)
        # Only here, where the error no longer holds the tensors that filled the memory.
        return [reason] if len(runs) == 1 else [ended for run in runs for ended in self._train_pass([run], data, until)]


def _reason(error: BaseException, until: int | None) -> str:
    """Return why a run failed; raise an error that is a fault of the program.

    A run that another process is writing ends a sweep that is on its way to a rung, `until`: without this run, other
    variants would be stopped there.
    """
    if is_out_of_memory(error):
        return "out of memory"
    if isinstance(error, RuntimeError) or (isinstance(error, InUseError) and until is not None):
        raise error
    return str(error)
