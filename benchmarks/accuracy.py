"""Measure the accuracy of all heads, with their defaults but for those in SETTINGS: `make results FPHA=FOLDER`.

    python benchmarks/accuracy.py FOLDER [HEAD ...]     trains on the hands in FOLDER; without heads, trains all
    python benchmarks/accuracy.py FOLDER --table        prints the tables of docs/results.md from what is trained

The hands are the joints of First-Person Hand Action (tests/support/fpha.py). A run that is finished is not trained
again, and one that was interrupted continues.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import heads
from features.console import table
from heads.api.arguments import data_loader, split_files
from heads.config import make_config
from heads.data.batches import batches
from heads.models.logistic import Logistic
from heads.models.options import LogisticConfig
from heads.models.shape import HeadShape
from heads.runs import find_runs, group_of, kept_epoch, read_metrics

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
RUNS = DATA / "hands-runs"
SEEDS = range(3)
# The slowest first: what is measured while the machine is quiet.
HEADS = (
    "bilstm",
    "multiscale_lstm",
    "transformer",
    "context",
    "probe",
    "tcn",
    "attentive",
    "mlp",
    "mean_pool",
    "logistic",
)
LOGISTIC_16 = "logistic:steps=16"
# A window holds one sequence here. So its steps are thinned as those of a segment are with as few segments, and one
# window per sequence is enough in evaluation. There is no mixup of windows, so other regularisation stands in.
SETTINGS: dict[str, dict[str, Any]] = {
    "context": {
        "max_steps": 32,
        "window_hop": 20.0,
        "step_dropout": 0.4,
        "noise": 0.2,
        "loss": "ce:smoothing=0.1",
    }
}


def main() -> None:
    """Train what is missing, or print the tables."""
    if len(sys.argv) < 2 or not (Path(sys.argv[1]) / "joints.npz").is_file():
        sys.exit("Name the folder of joints.npz and the annotations of the hands: make results FPHA=FOLDER")
    folder, chosen = Path(sys.argv[1]), sys.argv[2:]
    if chosen == ["--table"]:
        print("\n\n".join([heads_table(), ensemble_table(folder), reference_table(folder)]))
        return
    for head in chosen or [*HEADS, LOGISTIC_16]:
        for seed in [0] if head.startswith("logistic") else SEEDS:
            train(head, seed, folder)


def train(head: str, seed: int, folder: Path) -> None:
    """Train one seed of a head on the hands, with its defaults or SETTINGS, and record the seconds that it took."""
    num_epochs = itertools.count()
    began = time.monotonic()
    (outcome,) = heads.train(
        head=head,
        name=name_of(head),
        seeds=seed,
        runs=RUNS,
        device="cpu",
        on_epoch=lambda row: next(num_epochs),
        **places(folder),
        **SETTINGS.get(head, {}),
    )
    if not outcome.was_there:
        record = {"epochs": next(num_epochs), "seconds": time.monotonic() - began}
        (outcome.folder / "seconds.json").write_text(json.dumps(record))
    print(f"{outcome.folder.name}: action {outcome.metrics['val_action_top1']:.1f} %", flush=True)


def name_of(head: str) -> str:
    """Return the name of a head's run folders."""
    return head.replace(":steps=", "_")


def places(folder: Path) -> dict[str, Path]:
    """Return where the hands are, with the feature set written if it is not there yet."""
    joints = DATA / "hand_joints"
    if not (joints / "featureset.json").is_file():
        sys.path.append(str(HERE.parent / "tests" / "support"))
        from fpha import write_fpha

        write_fpha(folder, joints)
    train, validation = (folder / f"FPHA_{split}.csv" for split in ("train", "validation"))
    return {"features": joints, "annotations": folder, "train": train, "validation": validation}


def heads_table() -> str:
    """Return the accuracy of each head, as the mean over its seeds."""
    rows = []
    for name in dict.fromkeys(group_of(run) for run in find_runs(RUNS) if (run / "metrics.csv").is_file()):
        runs = [run for run in find_runs(RUNS) if group_of(run) == name]
        histories = [read_metrics(run / "metrics.csv") for run in runs]
        kept = [kept_row(run) for run in runs]
        records = [json.loads((run / "seconds.json").read_text()) for run in runs]
        # A run that was interrupted has the seconds of its last part only.
        whole = [
            record["seconds"]
            for record, history in zip(records, histories, strict=True)
            if record["epochs"] == len(history)
        ]
        rows.append(
            [
                name,
                *(f"{np.mean([row[f'val_{task}_top1'] for row in kept]):.1f}" for task in ("verb", "noun", "action")),
                " ".join(f"{row['val_action_top1']:.1f}" for row in kept),
                f"{np.mean([max(row['val_action_top1'] for row in history) for history in histories]):.1f}",
                f"{max(whole):.0f}" if whole else "",
            ]
        )
    rows.sort(key=lambda row: -float(row[3]))
    header = ["head", "verb", "noun", "action", "action of each seed", "action, best epoch", "most seconds a seed"]
    return table(header, rows)


def kept_row(run: Path) -> dict[str, float]:
    """Return the row of metrics.csv of the epoch whose weights a run keeps."""
    return read_metrics(run / "metrics.csv")[(kept_epoch(run) or 1) - 1]


def ensemble_table(folder: Path) -> str:
    """Return the accuracy of the best head's first seed, and of all its seeds, averaged with `logistic` on 16 steps."""
    means = {
        name: np.mean([kept_row(run)["val_action_top1"] for run in runs])
        for name in map(name_of, HEADS)
        if (runs := sorted(RUNS.glob(f"{name}-seed*")))
    }
    best = max(means, key=lambda name: float(means[name]))
    other = RUNS / f"{name_of(LOGISTIC_16)}-seed0"
    seeds = sorted(RUNS.glob(f"{best}-seed*"))
    groups = {
        f"{best}-seed0 and {other.name}": [seeds[0], other],
        f"{len(seeds)} seeds of {best} and {other.name}": [*seeds, other],
    }
    rows = []
    for title, members in groups.items():
        name, validation = f"of-{len(members)}", places(folder)["validation"]
        ensemble = heads.ensemble(members, runs=DATA / "hands-ensembles", name=name, annotations=validation, force=True)
        row = next(row for row in ensemble.scores if row.name == name)
        rows.append([title, *(f"{row.figures[f'{task}@1']:.1f}" for task in ("verb", "noun", "action"))])
    return table(["ensemble", "verb", "noun", "action"], rows)


def reference_table(folder: Path) -> str:
    """Return the accuracy of scikit-learn's LogisticRegression on the inputs of `logistic`, standardised, at C = 1."""
    rows = []
    for title, steps in (("mean of the steps", 0), ("16 steps side by side", 16)):
        (train_inputs, train_labels), (inputs, labels) = arrays(folder, steps)
        scaler = StandardScaler().fit(train_inputs)
        hits = {
            task: LogisticRegression(max_iter=5000)
            .fit(scaler.transform(train_inputs), train_labels[task])
            .predict(scaler.transform(inputs))
            == labels[task]
            for task in ("verb", "noun")
        }
        hits["action"] = hits["verb"] & hits["noun"]
        rows.append([title, *(f"{100 * hits[task].mean():.1f}" for task in ("verb", "noun", "action"))])
    return table(["scikit-learn, C = 1, on the", "verb", "noun", "action"], rows)


def arrays(folder: Path, steps: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yield the inputs (S, P) and the labels of the training and of the validation sequences."""
    where, config = places(folder), make_config("logistic", {}, {"max_steps": 32})
    files = split_files(where["annotations"], train=where["train"], validation=where["validation"], test=None)
    data = data_loader(where["features"], files, allow_missing=False, memory=None, device="cpu")(config)
    head = Logistic(HeadShape(data.sources[0].featureset.dim), LogisticConfig(steps=steps))
    for split in (data.train, data.validation):
        assert split is not None
        for chunk, order in split.chunks():
            (batch,) = batches(chunk, order, len(split), inputs=config.inputs, device=torch.device("cpu"))
            inputs = torch.empty(len(split), len(head.mean))
            streams = batch.streams[0]
            inputs[batch.index] = head.inputs(streams._replace(features=streams.features.float()))
            labels = {task: getattr(split.segments, f"{task}_class") for task in ("verb", "noun")}
            yield inputs.numpy(), labels


if __name__ == "__main__":
    main()
