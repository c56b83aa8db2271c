"""Run folders as a night of training leaves them, without any training: predictions are labels with noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from synthetic import Synthetic, drawn_predictions

from features.files import write_json
from features.predictions import Predictions, write_predictions
from heads.config import make_config
from heads.models.catalogue import parse_head
from heads.runs import run_folder, write_metrics

NUM_EPOCHS = 6
DIGEST = "5f" * 32


def write_run(
    runs: Path,
    name: str,
    dataset: Synthetic,
    *,
    head: str,
    seed: int,
    right: float = 0.5,
    num_epochs: int = NUM_EPOCHS,
    **settings,
) -> Path:
    """Write the run folder of a head, of whose verbs and nouns about a share `right` is right.

    Args:
        num_epochs: how many of the six epochs it had; with fewer it was cut off, and has no predictions.
        settings: those of heads/config.py that are not at their default.
    """
    spec = parse_head(head)
    config = make_config(spec.name, spec.options, {"epochs": NUM_EPOCHS, "select": "action", "seed": seed, **settings})
    folder = run_folder(runs, name, seed)
    origin = {f"{split}_csv": str(dataset.csv(split)) for split in ("train", "validation", "test")}
    record = {"featureset_digests": [DIGEST], "labels_digest": "0123456789ab", "train_missing": 0}
    write_json(folder / "config.json", {**config.as_json(), **record, "features": [str(dataset.featureset)], **origin})
    rows = [
        {"epoch": 1 + index, "lr": 1e-3, "train_loss": 5.0 / (1 + index), "val_loss": 6.0 / (1 + index)}
        | {f"val_{task}_top1": 10.0 * right * (1 + index) for task in ("verb", "noun", "action")}
        for index in range(num_epochs)
    ]
    write_metrics(folder / "metrics.csv", rows)
    if num_epochs == NUM_EPOCHS or "patience" in settings:
        write_predictions(folder / "val_predictions.pt", drawn(dataset, seed=hash_of(name, seed), right=right))
    return folder


def hash_of(name: str, seed: int) -> int:
    """Return a number that is another one for each run, and the same each time."""
    return sum(map(ord, name)) * 10 + seed


def drawn(dataset: Synthetic, *, seed: int, right: float) -> Predictions:
    """Return logits of which about a share `right` is highest at the label of verb and noun, each by itself."""
    segments, rng = dataset.segments("validation"), np.random.default_rng(seed)
    predictions = drawn_predictions(segments, seed=seed, scale=1.0)
    rows = np.arange(len(segments))
    for task in ("verb", "noun"):
        classes = np.unique(getattr(segments, f"{task}_class"))
        getattr(predictions, task)[:, classes] += 2  # mistakes are mostly among classes that there are
        getattr(predictions, task)[rows, getattr(segments, f"{task}_class")] += 4 * (rng.random(len(segments)) < right)
    return predictions


def write_runs(runs: Path, dataset: Synthetic) -> Path:
    """Write a few runs with seeds, one that was cut off, and a sweep of which one variant failed."""
    for seed in range(3):
        write_run(runs, "bilstm", dataset, head="bilstm:hidden=8", seed=seed, right=0.9)
    for seed in range(2):
        write_run(runs, "mean_pool", dataset, head="mean_pool", seed=seed, right=0.4)
    write_run(runs, "tcn", dataset, head="tcn", seed=0, num_epochs=2)
    for loss, right in (("ce", 0.45), ("focal:gamma=1", 0.65)):
        for lr, bonus in ((1e-4, 0.0), (1e-3, 0.15)):
            for seed in range(2):
                name = f"loss-{loss.replace(':', '.').replace('=', '.')}_lr-{lr:g}"
                write_run(runs / "sweep", name, dataset, head="mlp", seed=seed, right=right + bonus, loss=loss, lr=lr)
    write_json(runs / "sweep" / "failed.json", {"loss-ce_lr-10": {"0": "the loss is nan in epoch 1"}})
    return runs
