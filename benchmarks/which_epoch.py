"""Measure which epoch of a run is the fairest to keep, for docs/results.md.

    python benchmarks/which_epoch.py FOLDER [HEAD ...]     on the hands in FOLDER; without heads, on all but `logistic`

The validation list of the hands is of two participants. Each run is trained twice, scored on one of them after every
epoch: training is the same, as validation has no part in it. Then the epoch is chosen on one participant, and its
accuracy is read on the other one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from accuracy import DATA, HEADS, SEEDS, places

import heads
from features.console import table
from heads.runs import read_metrics

PARTICIPANTS = ("P05", "P06")


def main() -> None:
    """Train what is missing, and print the mean accuracies."""
    folder = Path(sys.argv[1])
    chosen = sys.argv[2:] or [head for head in HEADS if head != "logistic"]
    header = ["head", "best action accuracy", "lowest loss", "last epoch"]
    print(table(header, [[head, *(f"{value:.1f}" for value in accuracies(head, folder))] for head in chosen]))


def accuracies(head: str, folder: Path) -> np.ndarray:
    """Return the mean action@1 of the epochs that each rule chooses, in %, over seeds and both directions: (3,)."""
    rows = []
    for seed in SEEDS:
        actions, losses = zip(*(history(head, seed, participant, folder) for participant in PARTICIPANTS), strict=True)
        for ours, theirs in ((0, 1), (1, 0)):
            epochs = (actions[ours].argmax(), losses[ours].argmin(), -1)
            rows.append([actions[theirs][epoch] for epoch in epochs])
    return np.mean(rows, axis=0)


def history(head: str, seed: int, participant: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return action@1 in % and the loss of each epoch on a participant's sequences, (epochs,) each."""
    where = places(folder)
    validation = pd.read_csv(where["validation"])
    part = DATA / f"hands-{participant}.csv"
    validation[validation.participant_id == participant].to_csv(part, index=False)
    (outcome,) = heads.train(
        head=head, seeds=seed, runs=DATA / f"hands-runs-{participant}", device="cpu", **{**where, "validation": part}
    )
    metrics = read_metrics(outcome.folder / "metrics.csv")
    return np.array([row["val_action_top1"] for row in metrics]), np.array([row["val_loss"] for row in metrics])


if __name__ == "__main__":
    main()
