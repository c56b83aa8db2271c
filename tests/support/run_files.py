"""What a training run wrote, read without any code of ours."""

from __future__ import annotations

import csv
from pathlib import Path

import torch


def metrics_of(run: Path) -> list[dict[str, float]]:
    """Return the rows of metrics.csv, one per epoch."""
    with (run / "metrics.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights in best_model.pth or last.pth."""
    return torch.load(path, weights_only=True)["model"]
