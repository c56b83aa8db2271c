"""A sweep in words: its runs before it begins, and what became of its variants."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from features.console import table
from features.dealing import parse_shard
from heads.runs import METRICS, PREDICTIONS, read_metrics, run_folder
from heads.sweep.grid import Variant
from heads.sweep.records import read_stopped
from heads.sweep.run import SweepResult


def describe_sweep(variants: Sequence[Variant], folder: Path, *, shard: str | None = None) -> Iterator[list[str]]:
    """Give run, task and state of each run of a sweep.

    Raises:
        DataError: a file of the sweep is damaged.
    """
    stopped, num_tasks = read_stopped(folder), parse_shard(shard)[1]
    for number, variant in enumerate(variants):
        run = run_folder(folder, variant.name, variant.config.seed)
        yield [run.name, str(number % num_tasks), _state_of(run, variant, stopped.get(variant.name))]


def _state_of(run: Path, variant: Variant, stopped: int | None) -> str:
    if any((run / name).is_file() for name in PREDICTIONS.values()):
        return "finished"
    if stopped is not None:
        return f"stopped at epoch {stopped}"
    if not (run / METRICS).is_file():
        return "to do"
    return f"{len(read_metrics(run / METRICS))} of {variant.config.optimisation.epochs} epochs"


def sweep_table(results: Sequence[SweepResult], form: str | None) -> str:
    """Lay out the variants of a sweep, best first; `form` is "json" or None for people."""
    if form == "json":
        return json.dumps([asdict(one) for one in results], indent=2)
    varied = list(results[0].values)
    halved = any(one.stopped for one in results)
    lines = [
        [
            *one.values.values(),
            f"{one.mean:.1f}" if one.scores else "",
            f"{np.std(one.scores, ddof=1):.1f}" if len(one.scores) > 1 else "",
            str(len(one.scores)),
            str(len(one.failed) or ""),
            *([f"at epoch {one.stopped}" if one.stopped else ""] if halved else []),
        ]
        for one in results
    ]
    return table([*varied, "action@1", "+-", "runs", "failed", *(["stopped"] if halved else [])], lines, left=varied)
