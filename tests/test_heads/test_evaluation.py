"""`heads evaluate`: what is scored, against a slow count; how it is grouped; what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import TAIL_NOUNS, TAIL_VERBS, Synthetic, drawn_predictions

from features.annotations import read_annotations
from features.errors import DataError
from features.files import write_json
from features.predictions import Predictions, read_predictions, write_predictions
from heads.evaluation import evaluate_sources


@pytest.fixture(scope="module")
def predicted(synthetic) -> list[Predictions]:
    """Three predictions for validation, of which about half are right."""
    segments = synthetic.segments("validation")
    drawn = [drawn_predictions(segments, seed=seed) for seed in range(3)]
    for seed, predictions in enumerate(drawn):
        rng = np.random.default_rng(seed)
        rows = np.arange(len(segments))
        predictions.verb[rows, segments.verb_class] += 12 * (rng.random(len(segments)) < 0.6)
        predictions.noun[rows, segments.noun_class] += 12 * (rng.random(len(segments)) < 0.6)
    return drawn


@pytest.fixture
def runs(tmp_path, synthetic, predicted) -> Path:
    """runs/bilstm-seed0, bilstm-seed1 and mean_pool-seed0, as training leaves them."""
    for name, predictions in zip(("bilstm-seed0", "bilstm-seed1", "mean_pool-seed0"), predicted, strict=True):
        write_predictions(tmp_path / "runs" / name / "val_predictions.pt", predictions)
        origin = {f"{split}_csv": str(synthetic.csv(split)) for split in ("train", "validation", "test")}
        write_json(tmp_path / "runs" / name / "config.json", {"head": name.split("-")[0], **origin})
    return tmp_path / "runs"


def _rows(heads, *arguments: object) -> dict[str, dict]:
    result = heads("evaluate", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return {row["name"]: row for row in json.loads(result.stdout)}


def _counted(predictions: Predictions, synthetic: Synthetic, part: str) -> dict[str, float]:
    """Top-1 in percent, segment by segment."""
    right = {"verb": [], "noun": [], "action": []}
    for row in synthetic.segments("validation").table.itertuples():
        place = predictions.narration_id.index(row.narration_id)
        verb = predictions.verb[place].argmax() == row.verb_class
        noun = predictions.noun[place].argmax() == row.noun_class
        tail_verb, tail_noun = row.verb_class in TAIL_VERBS, row.noun_class in TAIL_NOUNS
        for task, is_right, is_tail in (
            ("verb", verb, tail_verb),
            ("noun", noun, tail_noun),
            ("action", verb and noun, tail_verb or tail_noun),
        ):
            if {"all": True, "unseen": row.participant_id == "P04", "tail": is_tail}[part]:
                right[task].append(is_right)
    return {task: pytest.approx(100 * sum(values) / len(values)) for task, values in right.items()}


# ---- what is scored


@pytest.mark.parametrize("part", ["unseen", "tail"])
def test_parts_of_validation_are_those_counted_segment_by_segment(heads, runs, synthetic, predicted, part):
    assert _rows(heads, runs / "bilstm-seed0", "--each")["bilstm-seed0"][part] == _counted(
        predicted[0], synthetic, part
    )


def test_all_of_validation_is_that_counted_segment_by_segment(heads, runs, synthetic, predicted):
    top = _rows(heads, runs / "bilstm-seed0", "--each")["bilstm-seed0"]["top"]
    assert {task: top[f"{task}@1"] for task in ("verb", "noun", "action")} == _counted(predicted[0], synthetic, "all")


def test_a_predictions_file_is_scored_as_the_run_it_is_from(heads, runs, synthetic):
    file = runs / "bilstm-seed0" / "val_predictions.pt"
    by_file = _rows(heads, file, "--annotations", synthetic.annotations)["val_predictions.pt"]
    by_run = _rows(heads, runs / "bilstm-seed0")["bilstm"]
    assert {**by_file, "name": "bilstm"} == by_run


def test_a_validation_csv_is_as_good_as_its_folder(heads, runs, synthetic):
    file = runs / "bilstm-seed0" / "val_predictions.pt"
    by_csv = _rows(heads, file, "--annotations", synthetic.csv("validation"))
    assert by_csv == _rows(heads, file, "--annotations", synthetic.annotations)


def test_predictions_for_some_segments_are_scored_on_these(heads, runs, synthetic, predicted):
    some = predicted[0].aligned(predicted[0].narration_id[3:8])
    write_predictions(runs / "some.pt", some)
    assert _rows(heads, runs / "some.pt", "--annotations", synthetic.annotations)["some.pt"]["num_segments"] == 5


def test_a_part_without_segments_is_left_empty(heads, runs, synthetic, predicted):
    seen = [name for name in predicted[0].narration_id if not name.startswith("P04")]
    write_predictions(runs / "seen.pt", predicted[0].aligned(seen))
    assert _rows(heads, runs / "seen.pt", "--annotations", synthetic.annotations)["seen.pt"]["unseen"] == {}


def test_without_lists_there_are_no_parts(heads, runs, synthetic, tmp_path):
    alone = tmp_path / "alone" / "validation.csv"
    alone.parent.mkdir()
    alone.write_bytes(synthetic.csv("validation").read_bytes())
    row = _rows(heads, runs / "bilstm-seed0", "--annotations", alone)["bilstm"]
    assert (row["unseen"], row["tail"]) == ({}, {})


def test_without_training_annotations_there_are_no_baselines(heads, runs, synthetic, tmp_path):
    alone = tmp_path / "alone" / "validation.csv"
    alone.parent.mkdir()
    alone.write_bytes(synthetic.csv("validation").read_bytes())
    assert list(_rows(heads, runs / "bilstm-seed0", "--annotations", alone)) == ["bilstm"]


def test_baselines_stand_below_the_runs(heads, runs):
    assert list(_rows(heads, "--runs", runs)) == ["bilstm", "mean_pool", "most frequent", "chance"]


def test_most_frequent_is_what_training_shows_most(heads, runs, synthetic):
    train, validation = (synthetic.segments(split).table for split in ("train", "validation"))
    expected = (validation.noun_class == train.noun_class.mode()[0]).mean()
    found = _rows(heads, "--runs", runs)["most frequent"]["top"]["noun@1"]
    assert found == pytest.approx(100 * expected)


def test_chance_is_one_of_the_classes_of_training(heads, runs, synthetic):
    num_nouns = len(set(synthetic.segments("train").noun_class))
    assert _rows(heads, "--runs", runs)["chance"]["top"]["noun@1"] == pytest.approx(100 / num_nouns)


# ---- how it is grouped


def test_seeds_of_a_run_become_their_mean(heads, runs, predicted, synthetic):
    found = _rows(heads, "--runs", runs)["bilstm"]["top"]["action@1"]
    of_seeds = [_rows(heads, runs / f"bilstm-seed{seed}")["bilstm"]["top"]["action@1"] for seed in (0, 1)]
    assert found == pytest.approx(np.mean(of_seeds))


def test_the_spread_of_seeds_is_the_deviation_of_action(heads, runs):
    one, other = (_rows(heads, runs / f"bilstm-seed{seed}")["bilstm"]["top"]["action@1"] for seed in (0, 1))
    found = _rows(heads, "--runs", runs)["bilstm"]
    assert (found["num_seeds"], found["spread"]) == (2, pytest.approx(abs(one - other) / 2**0.5))


def test_one_seed_has_no_spread(heads, runs):
    assert _rows(heads, "--runs", runs)["mean_pool"]["spread"] is None


def test_each_seed_has_a_row_when_asked(heads, runs):
    found = list(_rows(heads, "--runs", runs, "--each"))
    assert found[:3] == ["bilstm-seed0", "bilstm-seed1", "mean_pool-seed0"]


def test_files_of_one_name_in_different_folders_are_not_seeds_of_one_run(heads, runs, synthetic):
    files = [runs / name / "val_predictions.pt" for name in ("bilstm-seed0", "mean_pool-seed0")]
    result = heads("evaluate", *files, "--annotations", synthetic.annotations, "--json")
    assert [row["num_seeds"] for row in json.loads(result.stdout)] == [1, 1, 0, 0]


def test_seeds_that_predict_different_segments_have_no_mean(heads, runs):
    path = runs / "bilstm-seed1" / "val_predictions.pt"
    predictions = read_predictions(path)
    write_predictions(path, predictions.aligned(predictions.narration_id[:5]))
    result = heads("evaluate", "--runs", runs)
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: bilstm: its seeds predict different numbers of segments ([5, 12]).\n",
    )


# ---- how it is shown


def test_the_table_has_a_line_for_each_row(heads, runs):
    lines = heads("evaluate", "--runs", runs).stdout.splitlines()
    names = [line[:13].strip() for line in lines[: lines.index("")]]
    assert names == ["accuracy in %", "bilstm", "mean_pool", "most frequent", "chance"]


def test_the_table_shows_what_the_json_says(heads, runs):
    top = _rows(heads, "--runs", runs)["mean_pool"]["top"]
    line = next(line for line in heads("evaluate", "--runs", runs).stdout.splitlines() if line.startswith("mean_pool"))
    assert line.split()[2:8] == [f"{value:.1f}" for value in top.values()]


def test_the_table_has_columns_for_unseen_and_tail(heads, runs):
    lines = heads("evaluate", "--runs", runs).stdout.splitlines()
    header = lines[lines.index("") + 1]
    expected = ["unseen verb", "unseen noun", "unseen action", "tail verb", "tail noun", "tail action"]
    assert [column for column in expected if column not in header] == []


# ---- what is refused


def test_predictions_for_another_split_are_refused(heads, runs, synthetic):
    write_predictions(runs / "test.pt", drawn_predictions(synthetic.segments("test")))
    result = heads("evaluate", runs / "test.pt", "--annotations", synthetic.annotations)
    assert result.exit_code == 1
    assert "10 segments are not in EPIC_100_validation.csv: P02_102_0, " in result.stderr


def test_a_file_alone_needs_to_be_told_what_to_score_it_against(heads, runs):
    result = heads("evaluate", runs / "bilstm-seed0" / "val_predictions.pt")
    assert result.exit_code == 1
    assert "does not say what to score it against; give --annotations" in result.stderr


def test_no_runs_yet_is_said_in_one_line(heads):
    result = heads("evaluate")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: runs: no finished runs in it; train some first (heads train --head ...).\n",
    )


def test_a_split_without_labels_cannot_be_scored_against(heads, runs, synthetic):
    result = heads("evaluate", runs / "bilstm-seed0", "--annotations", synthetic.csv("test"))
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


def test_a_split_that_is_not_there_is_an_error(synthetic, runs, tmp_path):
    only_train = tmp_path / "only"
    only_train.mkdir()
    (only_train / "EPIC_100_train.csv").write_bytes(synthetic.csv("train").read_bytes())
    with pytest.raises(DataError, match="no validation annotations to score against"):
        evaluate_sources([runs / "bilstm-seed0"], read_annotations(only_train), each=False)


def test_a_file_that_would_run_code_is_refused(heads, tmp_path, synthetic):
    torch.save([{"narration_id": Path("P01_02_0")}], tmp_path / "unsafe.pt")
    result = heads("evaluate", "unsafe.pt", "--annotations", synthetic.annotations)
    assert result.exit_code == 1
    assert "unsafe.pt: cannot be loaded safely as tensors" in result.stderr
