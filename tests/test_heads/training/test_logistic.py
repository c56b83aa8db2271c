"""Logistic regression: the head holds scikit-learn's solution, its penalty is chosen by folds, and it takes no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from run_files import metrics_of
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from synthetic import labelled_rows, write_csv, write_features

from features.annotations import SplitFiles, read_segments
from features.predictions import read_predictions
from heads.config import make_config
from heads.data.load import TrainData, load_train_data
from heads.training.fit import fit
from heads.training.logistic import choose_c

CPU = torch.device("cpu")
VIDEOS = ("P01_01", "P02_101", "P03_02", "P04_05", "P05_01", "P06_07")


def _load(folder: Path, *, num_segments: int = 90, num_steps: int = 5) -> tuple[TrainData, dict[str, np.ndarray]]:
    """Write segments with steps that tell a little about their labels; return them loaded, and the steps by name."""
    rng = np.random.default_rng(0)
    csv = write_csv(folder / "train.csv", labelled_rows(VIDEOS, num_segments, rng))
    segments = read_segments(csv)
    steps = {
        name: (0.3 * rng.normal(size=(1, 12)) * verb + rng.normal(size=(num_steps, 12))).astype(np.float16)
        for name, verb in zip(segments.narration_id, segments.verb_class % 4, strict=True)
    }
    write_features(folder / "set", segments, steps)
    config = make_config("logistic", {}, {})
    files = SplitFiles(csv, csv, None)
    return load_train_data([folder / "set"], files, config, allow_missing=False, device=CPU), steps


@pytest.mark.parametrize("options", [{"c": 0.5}, {"c": 2.0, "steps": 3}, {"c": 1.0, "steps": 7}], ids=repr)
def test_probabilities_are_those_of_scikit_learn(options, tmp_path):
    data, steps = _load(tmp_path)
    outcome = fit(make_config("logistic", options, {}), data, tmp_path / "run", device=CPU)
    predictions = read_predictions(outcome.folder / "val_predictions.pt")
    segments = data.train.segments

    def inputs_of(rows: np.ndarray) -> np.ndarray:
        if not options.get("steps"):
            return rows.mean(axis=0)
        middles = (np.arange(options["steps"]) + 0.5) * len(rows) / options["steps"]
        return rows[np.floor(middles).astype(int)].ravel()

    inputs = np.stack([inputs_of(steps[name].astype(np.float64)) for name in segments.narration_id])
    inputs = StandardScaler().fit_transform(inputs)
    for task in ("verb", "noun"):
        labels = getattr(segments, f"{task}_class")
        reference = LogisticRegression(C=options["c"], max_iter=5000).fit(inputs, labels)
        probabilities = torch.from_numpy(getattr(predictions, task)).softmax(dim=1).numpy()
        order = [list(predictions.narration_id).index(name) for name in segments.narration_id]
        np.testing.assert_allclose(
            probabilities[order][:, reference.classes_], reference.predict_proba(inputs), atol=1e-4
        )


def test_it_has_one_epoch_whose_row_names_the_penalties(tmp_path):
    data, _ = _load(tmp_path)
    outcome = fit(make_config("logistic", {}, {}), data, tmp_path / "run", device=CPU)
    (row,) = metrics_of(outcome.folder)
    assert row["epoch"] == 1
    assert {np.log10(row["verb_c"]), np.log10(row["noun_c"])} <= set(range(-5, 3))
    assert fit(make_config("logistic", {}, {}), data, tmp_path / "run", device=CPU).was_there


def test_labels_that_inputs_tell_nothing_about_get_a_strong_penalty_and_clear_ones_a_weak_one(tmp_path):
    segments = _load(tmp_path)[0].train.segments
    rng = np.random.default_rng(1)
    labels = np.arange(len(segments)) % 3
    noise = rng.normal(size=(len(segments), 6))
    clear = np.eye(3)[labels] * 4 + rng.normal(size=(len(segments), 3))
    assert choose_c(noise, labels, segments) < 0.1 <= choose_c(clear, labels, segments)


def test_a_single_class_is_certain(tmp_path):
    data, _ = _load(tmp_path)
    data.train.segments.table["verb_class"] = 5
    outcome = fit(make_config("logistic", {}, {}), data, tmp_path / "run", device=CPU)
    predictions = read_predictions(outcome.folder / "val_predictions.pt")
    assert torch.from_numpy(predictions.verb).softmax(dim=1)[:, 5].min() > 0.999


@pytest.mark.parametrize(
    "options",
    [
        ("--loss", "focal"),
        ("--noun-weight", 2),
        ("--mixup", 0.4),
        ("--noise", 0.1),
        ("--ema", 0.9),
        ("--action-head",),
        ("--project", 8),
        ("--fusion", "late"),
    ],
    ids=lambda options: options[0],
)
def test_what_a_regression_does_not_have_is_refused(options, heads, synthetic):
    paths = ("--annotations", synthetic.annotations, "--features", synthetic.featureset)
    result = heads("train", "--head", "logistic", *options, *paths)
    assert result.exit_code == 2, result.output
    assert "logistic is a plain regression" in result.stderr
    assert not list(Path("runs").glob("*/best_model.pth"))
