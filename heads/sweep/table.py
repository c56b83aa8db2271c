"""A sweep for people: its runs before it begins, and the results of its variants."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from features.console import table
from features.dealing import parse_shard
from heads.runs import METRICS, PREDICTIONS, read_metrics, read_record, run_folder
from heads.sweep.grid import Variant
from heads.sweep.records import read_stopped
from heads.sweep.run import SweepPlan, SweepResult


def describe_sweep(plan: SweepPlan) -> Iterator[list[str]]:
    """Yield the run, the task and the state of each run of a sweep.

    Raises:
        DataError: a file of the sweep is damaged.
    """
    stopped, num_tasks = read_stopped(plan.folder), parse_shard(plan.shard)[1]
    for number, variant in enumerate(plan.variants):
        run = run_folder(plan.folder, variant.name, variant.config.seed)
        yield [run.name, str(number % num_tasks), _state_of(run, variant, stopped.get(variant.name))]


def _state_of(run: Path, variant: Variant, stopped: int | None) -> str:
    if any((run / name).is_file() for name in PREDICTIONS.values()):
        return "finished"
    if stopped is not None:
        return f"stopped at epoch {stopped}"
    if not (run / METRICS).is_file():
        return "to do"
    return f"{len(read_metrics(run / METRICS))} of {read_record(run).epochs} epochs"


def sweep_table(results: Sequence[SweepResult], form: str | None) -> str:
    """Return the results of a sweep, best first, as "json", or, where `form` is None, as a table for people."""
    if form == "json":
        return json.dumps([asdict(result) for result in results], indent=2)
    varied = list(results[0].values)
    halved = any(result.stopped for result in results)
    lines = [
        [
            *result.values.values(),
            f"{result.mean:.1f}" if result.scores else "",
            f"{np.std(result.scores, ddof=1):.1f}" if len(result.scores) > 1 else "",
            str(len(result.scores)),
            str(len(result.failed) or ""),
            *([f"at epoch {result.stopped}" if result.stopped else ""] if halved else []),
        ]
        for result in results
    ]
    return table(
        [*varied, "action@1 in %", "std over seeds", "runs", "failed", *(["stopped"] if halved else [])],
        lines,
        left=varied,
    )
