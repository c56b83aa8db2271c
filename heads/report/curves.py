"""How runs learned: metrics.csv, a row an epoch, whether a run is finished or not."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from features.errors import DataError
from heads.runs import METRICS, read_config

_NEEDED = ("epoch", "train_loss")


@dataclass(frozen=True)
class Curve:
    """The epochs of one run.

    Attributes:
        values: column of metrics.csv -> a value an epoch: losses in nats, accuracies in percent.
        best_epoch: counted from 1, that of the highest action@1, the earliest of equals; None without validation.
        end: how it ended, in words.
        is_over: whether it has all of its epochs, or has stopped by itself.
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
    values = _columns(path)
    actions = values.get("val_action_top1")
    best_epoch = None if actions is None else 1 + actions.index(max(actions))
    end, is_over = _end(read_config(run), len(values["epoch"]), best_epoch)
    return Curve(run, values, best_epoch, end, is_over)


def _columns(path: Path) -> dict[str, tuple[float, ...]]:
    remedy = "; delete the file, or train the run again."
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}){remedy}") from error
    header, *rows = rows or [[]]
    missing = [name for name in _NEEDED if name not in header]
    if missing or not rows:
        raise DataError(f"{path}: {f'no column {missing[0]}' if missing else 'no epoch'} in it{remedy}")
    columns: dict[str, list[float]] = {name: [] for name in header}
    for place, row in enumerate(rows):
        try:
            for name, text in zip(header, row, strict=True):
                columns[name].append(float(text))
        except ValueError as error:
            raise DataError(f"{path}, row {place + 2}: not {len(header)} numbers{remedy}") from error
    return {name: tuple(column) for name, column in columns.items()}


def _end(config: Mapping[str, object], num_epochs: int, best_epoch: int | None) -> tuple[str, bool]:
    planned, patience = config.get("epochs"), config.get("patience")
    if planned is None:
        return f"{num_epochs} epochs; how many were planned is not recorded", True
    if num_epochs >= planned:
        return f"all {planned} epochs", True
    if patience and best_epoch is not None and num_epochs - best_epoch >= patience:
        return f"stopped after {num_epochs} of {planned} epochs: none better for {patience} (--patience)", True
    return f"cut off after {num_epochs} of {planned} epochs; the same command goes on", False
