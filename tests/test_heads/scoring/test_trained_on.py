"""Training on what is scored: said at training, in a sweep, by evaluate, in an ensemble's table and in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from synthetic import Synthetic

from heads.scoring.folds import Member
from heads.scoring.trained_on import num_trained_on

QUICK = ("--head", "mean_pool", "--device", "cpu", "--batch-size", 8, "--epochs", 1)
NUM_SHARED, NUM_SCORED = 5, 17
WARNING = f"{NUM_SHARED} of the {NUM_SCORED} segments of mixed.csv are trained on too; their scores do not show"
NOTE = f"trained on {NUM_SHARED} of the {NUM_SCORED} segments that it is scored on; its scores do not show"


@pytest.fixture(scope="module")
def mixed(synthetic: Synthetic, tmp_path_factory) -> Path:
    """A validation list with five segments of the training list."""
    csv = tmp_path_factory.mktemp("lists") / "mixed.csv"
    train, validation = (pd.read_csv(synthetic.csv(split)) for split in ("train", "validation"))
    pd.concat([validation, train.tail(NUM_SHARED)]).to_csv(csv, index=False)
    return csv


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_training_on_what_is_scored_is_warned_of(command, heads, synthetic, mixed):
    grid = ("--grid", "lr=1e-3") if command == "sweep" else ()
    assert WARNING in heads(command, *QUICK, *grid, *synthetic.options, "--validation", mixed).stderr
    all_of_it = heads(command, *QUICK, *grid, *synthetic.options, "--validation", synthetic.csv("train"), "--name", "a")
    assert "24 of the 24 segments of EPIC_100_train.csv are trained on too" in all_of_it.stderr
    assert "trained on too" not in heads(command, *QUICK, *grid, *synthetic.options, "--name", "b").stderr


def test_the_scores_of_such_a_run_say_so_wherever_they_are_shown(heads, synthetic, mixed, tmp_path):
    train = ("train", *QUICK, *synthetic.options, "--validation", mixed)
    assert heads(*train, "--seeds", "0,1").exit_code == 0
    assert heads("train", *QUICK, *synthetic.options, "--name", "clean").exit_code == 0
    runs = ("runs/mean_pool-seed0", "runs/mean_pool-seed1")
    assert f"mean_pool: {NOTE}" in heads("evaluate", *runs).stdout
    (row, *_) = json.loads(heads("evaluate", *runs, "--json").stdout)
    assert (row["num_trained_on"], row["num_segments"]) == (NUM_SHARED, NUM_SCORED)
    assert ",17,17,5" in heads("evaluate", *runs, "--csv").stdout.splitlines()[1]
    ensemble = heads("ensemble", *runs)
    assert f"mean_pool-seed1: {NOTE}" in ensemble.stdout
    assert f"ensemble: {NOTE}" in ensemble.stdout
    assert f"Warning: mean_pool was {NOTE}" in heads("report", "--format", "md", *runs).stdout
    heads("report", *runs, "--out", "page.html")
    assert f"Warning: mean_pool was {NOTE}" in (tmp_path / "page.html").read_text()
    for command in (("evaluate",), ("report", "--format", "md")):
        assert "its scores do not show" not in heads(*command, "runs/clean-seed0").stdout


def test_the_fold_that_a_run_holds_out_is_not_trained_on(heads, synthetic, tmp_path):
    assert heads("train", *QUICK, *synthetic.options, "--split-train-val", "fold:0/2").exit_code == 0
    (row, *_) = json.loads(heads("evaluate", "runs/mean_pool-seed0", "--json").stdout)
    assert row["num_trained_on"] == 0
    run = tmp_path / "runs" / "mean_pool-seed0"
    held_out = row["num_segments"]
    assert num_trained_on([Member((run,))], synthetic.segments("train").narration_id) == 24 - held_out


def test_a_run_of_both_lists_was_trained_on_both(heads, synthetic, tmp_path):
    assert heads("train", *QUICK, *synthetic.options, "--split-train-val", "all").exit_code == 0
    run = tmp_path / "runs" / "mean_pool-seed0"
    assert num_trained_on([Member((run,))], synthetic.segments("validation").narration_id) == 12


def test_what_records_no_list_or_a_missing_one_is_not_known_to_be_trained_on_anything(tmp_path, synthetic):
    (tmp_path / "config.json").write_text(json.dumps({"head": "mlp", "train_csv": "nowhere.csv"}))
    names = synthetic.segments("train").narration_id
    assert num_trained_on([Member((tmp_path,)), Member((tmp_path / "file.pt",))], names) == 0


def test_a_list_that_has_changed_is_read_again(tmp_path, synthetic):
    csv = tmp_path / "train.csv"
    (tmp_path / "config.json").write_text(json.dumps({"head": "mlp", "train_csv": str(csv)}))
    lines = synthetic.csv("train").read_text().splitlines(keepends=True)
    for num in (24, 7):
        csv.write_text("".join(lines[: num + 1]))
        assert num_trained_on([Member((tmp_path,))], synthetic.segments("train").narration_id) == num
