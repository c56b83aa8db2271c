"""Learning curves: metrics.csv, a row per epoch, of runs that are finished or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from heads.runs import METRICS, RunRecord, group_of, read_metrics, read_record, selected_epoch
from heads.scoring.metrics import TASKS
from heads.sweep.records import read_stopped


@dataclass(frozen=True)
class Curve:
    """The learning curve of one run.

    Attributes:
        values: column of metrics.csv -> a value per epoch: losses in nats, accuracies in percent.
        best_epoch: the epoch whose weights were kept (--select), counted from 1; None without validation.
        end: how it ended, in words.
        is_over: whether it has all of its epochs, or was stopped early on purpose.
        is_halved: whether --halving stopped it.
    """

    run: Path
    values: Mapping[str, tuple[float, ...]]
    best_epoch: int | None
    end: str
    is_over: bool
    is_halved: bool

    @property
    def variant(self) -> Path:
        """The folder without the seed, which the runs of all seeds share."""
        return self.run.with_name(group_of(self.run))

    @property
    def num_epochs(self) -> int:
        """The number of epochs so far."""
        return len(self.values["epoch"])

    @property
    def last_accuracies(self) -> dict[str, float]:
        """Top-1 of each task after the last epoch, in percent; only of a run with validation."""
        return {f"{task}@1": self.values[f"val_{task}_top1"][-1] for task in TASKS}


def read_curve(run: Path) -> Curve | None:
    """Read the learning curve of a run folder; None where there is none (of an ensemble, or beside predictions alone).

    Raises:
        DataError: metrics.csv is not a table of numbers with an epoch and a loss.
    """
    path = run / METRICS
    if not path.is_file():
        return None
    history = read_metrics(path)
    values = {name: tuple(row[name] for row in history) for name in history[0]}
    record = read_record(run)
    best_epoch = selected_epoch(history, record.select) if "val_action_top1" in values else None
    stopped = read_stopped(run.parent).get(group_of(run))
    end, is_over = _end(record, len(history), best_epoch, stopped)
    return Curve(run, values, best_epoch, end, is_over, is_halved=len(history) == stopped)


def _end(record: RunRecord, num_epochs: int, best_epoch: int | None, stopped: int | None) -> tuple[str, bool]:
    """Return how a run ended, and whether it was meant to end there."""
    planned, patience = record.epochs, record.patience
    if planned is None:
        return f"{num_epochs} epochs; how many were planned is not recorded", True
    if num_epochs >= planned:
        return f"all {planned} epochs", True
    if patience and best_epoch is not None and num_epochs - best_epoch >= patience:
        return f"stopped after {num_epochs} of {planned} epochs: no better epoch in {patience} (--patience)", True
    if num_epochs == stopped:
        return f"stopped after {num_epochs} of {planned} epochs: in the worse half (--halving)", True
    return f"interrupted after {num_epochs} of {planned} epochs; the same command continues it", False
