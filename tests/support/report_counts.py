"""Figures of a report counted another way: segment by segment, by argmax alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from features.annotations import NUM_NOUNS, NUM_VERBS
from features.predictions import Predictions, read_predictions

CLASSES = {"verb": NUM_VERBS, "noun": NUM_NOUNS}
TASKS = ("action", "verb", "noun")


def best_classes(predictions: Predictions, labels: pd.DataFrame) -> dict[str, np.ndarray]:
    """The best class of each task, an action as a pair of them, by argmax alone."""
    rows = predictions.aligned(labels.narration_id)
    verb, noun = rows.verb.argmax(axis=1), rows.noun.argmax(axis=1)
    return {"verb": verb, "noun": noun, "action": verb * 1000 + noun}


def true_classes(labels: pd.DataFrame) -> dict[str, np.ndarray]:
    verb, noun = labels.verb_class.to_numpy(int), labels.noun_class.to_numpy(int)
    return {"verb": verb, "noun": noun, "action": verb * 1000 + noun}


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def accuracy(runs: Path | list[Path], labels: pd.DataFrame, task: str, mask: np.ndarray | None = None) -> float:
    """The mean accuracy over the seeds of a row, counted segment by segment."""
    mask = np.ones(len(labels), dtype=bool) if mask is None else mask
    best_by_run = [
        best_classes(read_predictions(run / "val_predictions.pt"), labels)[task]
        for run in ([runs] if isinstance(runs, Path) else runs)
    ]
    truth = true_classes(labels)[task][mask]
    accuracies = [
        np.mean([label == prediction for label, prediction in zip(truth, best[mask], strict=True)])
        for best in best_by_run
    ]
    return float(np.mean(accuracies))
