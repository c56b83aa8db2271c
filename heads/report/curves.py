"""How runs learned: metrics.csv, a row an epoch, whether a run is finished or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from heads.runs import METRICS, group_of, read_config, read_metrics
from heads.sweep.records import read_stopped


@dataclass(frozen=True)
class Curve:
    """The epochs of one run.

    Attributes:
        values: column of metrics.csv -> a value an epoch: losses in nats, accuracies in percent.
        best_epoch: counted from 1, that of the highest action@1, the earliest of equals; None without validation.
        end: how it ended, in words.
        is_over: whether it has all of its epochs, or was stopped early on purpose.
    """

    run: Path
    values: Mapping[str, tuple[float, ...]]
    best_epoch: int | None
    end: str
    is_over: bool

    @property
    def num_epochs(self) -> int:
        """How many epochs are there."""
        return len(self.values["epoch"])


def read_curve(run: Path) -> Curve | None:
    """Read the epochs of a run folder; None where it has none (an ensemble, or predictions alone).

    Raises:
        DataError: metrics.csv is not a table of numbers with an epoch and a loss.
    """
    path = run / METRICS
    if not path.is_file():
        return None
    history = read_metrics(path)
    values = {name: tuple(row[name] for row in history) for name in history[0]}
    actions = values.get("val_action_top1")
    best_epoch = None if actions is None else 1 + actions.index(max(actions))
    stopped = read_stopped(run.parent).get(group_of(run))
    end, is_over = _end(read_config(run), len(values["epoch"]), best_epoch, stopped)
    return Curve(run, values, best_epoch, end, is_over)


def _end(
    config: Mapping[str, object], num_epochs: int, best_epoch: int | None, stopped: int | None
) -> tuple[str, bool]:
    planned, patience = config.get("epochs"), config.get("patience")
    if planned is None:
        return f"{num_epochs} epochs; how many were planned is not recorded", True
    if num_epochs >= planned:
        return f"all {planned} epochs", True
    if patience and best_epoch is not None and num_epochs - best_epoch >= patience:
        return f"stopped after {num_epochs} of {planned} epochs: none better for {patience} (--patience)", True
    if num_epochs == stopped:
        return f"stopped after {num_epochs} of {planned} epochs: among the worse half (--halving)", True
    return f"cut off after {num_epochs} of {planned} epochs; the same command goes on", False
