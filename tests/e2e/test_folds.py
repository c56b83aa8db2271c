"""Runs of folds beside others, by the commands that a user types: scored on their own list, joined, averaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from miniature import Miniature
from shell import output_here

from extract.cli import main as extract
from heads.cli import main as heads

FOLDS = ("fold0", "fold1", "fold2")


@pytest.fixture(scope="module")
def project(miniature: Miniature, tmp_path_factory) -> Path:
    """Runs of the published split, those of the three folds of a head, and one fold of another head."""
    folder = tmp_path_factory.mktemp("folds")
    annotations, features = ("--annotations", miniature.annotations), folder / "features"
    source = (*annotations, "--videos", miniature.videos, "--weights", "random:0", "--device", "cpu")
    output_here(extract, "run", "--backbone", "tiny_cnn", *source, "--frames", 4, "--out", features)
    train = ("train", *annotations, "--features", features, "--runs", folder / "runs", "--device", "cpu", "--epochs", 2)
    output_here(heads, *train, "--head", "mean_pool", "--seeds", "0-1")
    for fold, name in enumerate(FOLDS):
        split = ("--split-train-val", f"fold:{fold}/3")
        output_here(heads, *train, "--head", "mean_pool", *split, "--name", name, "--seeds", "0-1")
    lonely = ("--set", "hidden=8", "--split-train-val", "fold:1/3", "--name", "lonely")
    output_here(heads, *train, "--head", "mlp", *lonely)
    return folder


def _labels(miniature: Miniature) -> pd.DataFrame:
    return pd.read_csv(miniature.annotations / "EPIC_100_train.csv").set_index("narration_id")


def _stored(path: Path) -> dict[str, list[int]]:
    """The five best verbs of each segment in a predictions file: heads that trained for two epochs are seldom right."""
    rows = torch.load(path, weights_only=True)
    return {row["narration_id"]: row["verb_output"].topk(5).indices.tolist() for row in rows}


def _accuracy(best: dict[str, list[int]], labels: pd.DataFrame) -> float:
    percent = 100 * float(np.mean([row.verb_class in best[row.Index] for row in labels.itertuples()]))
    assert percent > 0
    return percent


def test_folds_are_one_row_on_the_training_list_beside_rows_on_validation(project, miniature):
    rows = json.loads(output_here(heads, "evaluate", "--runs", project / "runs", "--json"))
    names = [(row["scored_on"].split("_")[-1], row["name"]) for row in rows]
    assert names == [
        ("validation.csv", "mean_pool"),
        ("validation.csv", "most frequent"),
        ("validation.csv", "chance"),
        ("train.csv", "fold*"),
        ("train.csv", "lonely"),
        ("train.csv", "most frequent"),
        ("train.csv", "chance"),
    ]
    assert [row["num_trained_on"] for row in rows] == [0] * len(rows)  # of all folds, none is scored on its own part
    labels, row = _labels(miniature), rows[3]
    assert (row["num_seeds"], row["num_folds"], row["num_segments"]) == (2, 3, len(labels))
    by_seed = []
    for seed in (0, 1):
        files = [project / "runs" / f"{name}-seed{seed}" / "val_predictions.pt" for name in FOLDS]
        by_seed.append(_accuracy({name: best for file in files for name, best in _stored(file).items()}, labels))
    assert row["figures"]["verb@5"] == pytest.approx(np.mean(by_seed))
    assert rows[4]["num_segments"] < rows[4]["num_known"] == len(labels)


def test_the_table_has_a_part_for_each_list_and_says_what_is_joined(project):
    text = output_here(heads, "evaluate", "--runs", project / "runs")
    assert [line for line in text.splitlines() if line.startswith("scored on")] == [
        "scored on EPIC_100_validation.csv",
        "scored on EPIC_100_train.csv",
    ]
    assert "fold*: 3 folds joined; a segment is predicted by the run of its own fold" in text


def test_annotations_in_another_folder_are_those_of_each_split(project, miniature):
    given = ("--annotations", miniature.annotations)
    text = output_here(heads, "evaluate", "--runs", project / "runs", *given)
    assert text == output_here(heads, "evaluate", "--runs", project / "runs")


def test_a_report_ranks_the_rows_of_each_list_apart(project):
    text = output_here(heads, "report", "--format", "md", "--runs", project / "runs")
    _, on_validation, on_train = text.split("## Learning curves")[0].split("### On ")
    assert "| mean_pool" in on_validation
    assert "| fold\\*" in on_train
    assert "| lonely" in on_train
    assert "| mean_pool" not in on_train
    assert "Runs are scored on 2 lists" in text
    output_here(heads, "report", "--runs", project / "runs", "--out", project / "report.html")
    assert "On EPIC_100_train.csv, accuracy in %" in (project / "report.html").read_text(encoding="utf-8")


def test_folds_are_averaged_as_one_member_and_submitted(project, miniature, tmp_path):
    members = [project / "runs" / f"{name}-seed{seed}" for name in FOLDS for seed in (0, 1)]
    text = output_here(heads, "ensemble", "--runs", tmp_path, "--name", "crossed", "--weights", "3,1", *members)
    assert "of 2 members: fold*-seed0, fold*-seed1" in text
    labels, ensemble = _labels(miniature), tmp_path / "crossed"
    assert set(_stored(ensemble / "val_predictions.pt")) == set(labels.index)
    (row, *_) = json.loads(output_here(heads, "evaluate", ensemble, "--json"))
    assert row["figures"]["verb@5"] == pytest.approx(_accuracy(_stored(ensemble / "val_predictions.pt"), labels))
    assert row["num_trained_on"] == 0
    assert "Accuracy by class frequency" in output_here(heads, "report", "--format", "md", ensemble)
    output_here(heads, "submit", ensemble, "--out", tmp_path / "submission")
    assert (tmp_path / "submission" / "epic_submission.zip").is_file()


def test_lists_that_differ_are_not_averaged_and_the_message_names_them(project):
    result = CliRunner().invoke(heads, ["ensemble", "--runs", str(project / "runs"), "--name", "mixed"])
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "members are scored on different lists: " in result.stderr
    assert "mean_pool-seed0 on EPIC_100_validation.csv" in result.stderr
    assert "fold:1/3 of EPIC_100_train.csv" in result.stderr
    assert not (project / "runs" / "mixed").exists()
