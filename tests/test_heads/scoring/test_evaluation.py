"""`heads evaluate`: what is scored, against a slow count; how it is grouped; what is refused."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import TAIL_NOUNS, TAIL_VERBS, Synthetic, drawn_predictions

from features.errors import DataError
from features.files import write_json
from features.predictions import Predictions, read_predictions, write_predictions
from heads.scoring.against import lists_for
from heads.scoring.evaluation import evaluate_lists


@pytest.fixture(scope="module")
def run_predictions(synthetic) -> list[Predictions]:
    """Three predictions for validation, of which about half are right."""
    segments = synthetic.segments("validation")
    all_predictions = [drawn_predictions(segments, seed=seed) for seed in range(3)]
    for seed, predictions in enumerate(all_predictions):
        rng = np.random.default_rng(seed)
        rows = np.arange(len(segments))
        predictions.verb[rows, segments.verb_class] += 12 * (rng.random(len(segments)) < 0.6)
        predictions.noun[rows, segments.noun_class] += 12 * (rng.random(len(segments)) < 0.6)
    return all_predictions


@pytest.fixture
def runs(tmp_path, synthetic, run_predictions) -> Path:
    """runs/bilstm-seed0, bilstm-seed1 and mean_pool-seed0, as training leaves them."""
    for name, predictions in zip(("bilstm-seed0", "bilstm-seed1", "mean_pool-seed0"), run_predictions, strict=True):
        write_predictions(tmp_path / "runs" / name / "val_predictions.pt", predictions)
        origin = {f"{split}_csv": str(synthetic.csv(split)) for split in ("train", "validation", "test")}
        write_json(tmp_path / "runs" / name / "config.json", {"head": name.split("-")[0], **origin})
    return tmp_path / "runs"


def _rows(heads, *arguments: object) -> dict[str, dict]:
    result = heads("evaluate", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return {row["name"]: row for row in json.loads(result.stdout)}


def _figures_by_counting(predictions: Predictions, synthetic: Synthetic, part: str) -> dict[str, float]:
    """Top-1 in percent, segment by segment: "tail verb@1" and the like."""
    hits = {"verb": [], "noun": [], "action": []}
    for row in synthetic.segments("validation").table.itertuples():
        index = predictions.narration_id.index(row.narration_id)
        verb = predictions.verb[index].argmax() == row.verb_class
        noun = predictions.noun[index].argmax() == row.noun_class
        tail_verb, tail_noun = row.verb_class in TAIL_VERBS, row.noun_class in TAIL_NOUNS
        for task, is_right, is_tail in (
            ("verb", verb, tail_verb),
            ("noun", noun, tail_noun),
            ("action", verb and noun, tail_verb or tail_noun),
        ):
            if {"all": True, "unseen": row.participant_id == "P04", "tail": is_tail}[part]:
                hits[task].append(is_right)
    prefix = "" if part == "all" else f"{part} "
    return {f"{prefix}{task}@1": pytest.approx(100 * sum(values) / len(values)) for task, values in hits.items()}


# ---- what is scored


@pytest.mark.parametrize("part", ["all", "unseen", "tail"])
def test_validation_and_its_parts_are_those_counted_segment_by_segment(heads, runs, synthetic, run_predictions, part):
    figures = _rows(heads, runs / "bilstm-seed0", "--each")["bilstm-seed0"]["figures"]
    expected = _figures_by_counting(run_predictions[0], synthetic, part)
    assert {name: figures[name] for name in expected} == expected


def test_every_figure_of_the_requirement_is_there_with_its_interval(heads, runs):
    row = _rows(heads, runs / "bilstm-seed0")["bilstm"]
    tasks = ("verb", "noun", "action")
    expected = {f"{part}{task}@{k}" for part in ("", "unseen ", "tail ") for task in tasks for k in (1, 5)}
    expected |= {f"{task} mean-class@{k}" for task in tasks for k in (1, 5)} | {f"{task} calibration" for task in tasks}
    assert (set(row["figures"]), set(row["intervals"])) == (expected, expected)
    assert all(low <= high for low, high in row["intervals"].values())


def test_a_predictions_file_is_scored_as_the_run_it_is_from(heads, runs, synthetic):
    file = runs / "bilstm-seed0" / "val_predictions.pt"
    by_file = _rows(heads, file, "--annotations", synthetic.annotations)["val_predictions.pt"]
    by_run = _rows(heads, runs / "bilstm-seed0")["bilstm"]
    assert {**by_file, "name": "bilstm"} == by_run


def test_a_validation_csv_is_as_good_as_its_folder(heads, runs, synthetic):
    file = runs / "bilstm-seed0" / "val_predictions.pt"
    by_csv = _rows(heads, file, "--annotations", synthetic.csv("validation"))
    assert by_csv == _rows(heads, file, "--annotations", synthetic.annotations)


def test_predictions_for_some_segments_are_scored_on_these(heads, runs, synthetic, run_predictions):
    subset = run_predictions[0].aligned(run_predictions[0].narration_id[3:8])
    write_predictions(runs / "some.pt", subset)
    row = _rows(heads, runs / "some.pt", "--annotations", synthetic.annotations)["some.pt"]
    assert (row["num_segments"], row["num_known"]) == (5, 12)
    output = heads("evaluate", runs / "some.pt", "--annotations", synthetic.annotations).stdout
    assert "some.pt: scored on 5 of the 12 segments of EPIC_100_validation.csv" in output


@pytest.mark.parametrize("num", [1, 3])
def test_segments_of_one_video_have_figures_and_no_intervals(heads, runs, synthetic, run_predictions, num):
    write_predictions(runs / "some.pt", run_predictions[0].aligned(run_predictions[0].narration_id[:num]))
    row = _rows(heads, runs / "some.pt", "--annotations", synthetic.annotations)["some.pt"]
    assert (row["num_segments"], row["intervals"]) == (num, {})
    assert heads("evaluate", runs / "some.pt", "--annotations", synthetic.annotations).exit_code == 0


def test_a_part_without_segments_is_left_empty(heads, runs, synthetic, run_predictions):
    names = [name for name in run_predictions[0].narration_id if not name.startswith("P04")]
    write_predictions(runs / "seen.pt", run_predictions[0].aligned(names))
    row = _rows(heads, runs / "seen.pt", "--annotations", synthetic.annotations)["seen.pt"]
    assert [name for name in row["figures"] if name.startswith("unseen")] == []


def test_without_lists_there_are_no_parts(heads, runs, synthetic, tmp_path):
    csv_path = tmp_path / "alone" / "validation.csv"
    csv_path.parent.mkdir()
    csv_path.write_bytes(synthetic.csv("validation").read_bytes())
    row = _rows(heads, runs / "bilstm-seed0", "--annotations", csv_path)["bilstm"]
    assert [name for name in row["figures"] if name.startswith(("unseen", "tail"))] == []


def test_without_training_annotations_there_are_no_baselines(heads, runs, synthetic, tmp_path):
    csv_path = tmp_path / "alone" / "validation.csv"
    csv_path.parent.mkdir()
    csv_path.write_bytes(synthetic.csv("validation").read_bytes())
    assert list(_rows(heads, runs / "bilstm-seed0", "--annotations", csv_path)) == ["bilstm"]


def test_baselines_stand_below_the_runs(heads, runs):
    assert list(_rows(heads, "--runs", runs)) == ["bilstm", "mean_pool", "most frequent", "chance"]


def test_most_frequent_is_what_training_shows_most(heads, runs, synthetic):
    train, validation = (synthetic.segments(split).table for split in ("train", "validation"))
    expected = (validation.noun_class == train.noun_class.mode()[0]).mean()
    accuracy = _rows(heads, "--runs", runs)["most frequent"]["figures"]["noun@1"]
    assert accuracy == pytest.approx(100 * expected)


def test_chance_is_one_of_the_classes_of_training(heads, runs, synthetic):
    num_nouns = len(set(synthetic.segments("train").noun_class))
    assert _rows(heads, "--runs", runs)["chance"]["figures"]["noun@1"] == pytest.approx(100 / num_nouns)


# ---- how it is grouped


def test_seeds_of_a_run_become_their_mean(heads, runs, run_predictions, synthetic):
    accuracy = _rows(heads, "--runs", runs)["bilstm"]["figures"]["action@1"]
    seed_accuracies = [_rows(heads, runs / f"bilstm-seed{seed}")["bilstm"]["figures"]["action@1"] for seed in (0, 1)]
    assert accuracy == pytest.approx(np.mean(seed_accuracies))


def test_the_spread_of_seeds_is_the_deviation_of_action(heads, runs):
    first, second = (_rows(heads, runs / f"bilstm-seed{seed}")["bilstm"]["figures"]["action@1"] for seed in (0, 1))
    row = _rows(heads, "--runs", runs)["bilstm"]
    assert (row["num_seeds"], row["spread"]) == (2, pytest.approx(abs(first - second) / 2**0.5))


def test_one_seed_has_no_spread(heads, runs):
    assert _rows(heads, "--runs", runs)["mean_pool"]["spread"] is None


def test_each_seed_has_a_row_when_asked(heads, runs):
    names = list(_rows(heads, "--runs", runs, "--each"))
    assert names[:3] == ["bilstm-seed0", "bilstm-seed1", "mean_pool-seed0"]


def test_files_of_one_name_in_different_folders_are_not_seeds_of_one_run(heads, runs, synthetic):
    files = [runs / name / "val_predictions.pt" for name in ("bilstm-seed0", "mean_pool-seed0")]
    result = heads("evaluate", *files, "--annotations", synthetic.annotations, "--json")
    assert [row["num_seeds"] for row in json.loads(result.stdout)] == [1, 1, 0, 0]


@pytest.mark.parametrize("positions", [slice(0, 5), slice(2, None)])
def test_seeds_that_predict_different_segments_have_no_mean(heads, runs, positions):
    predictions = [read_predictions(runs / f"bilstm-seed{seed}" / "val_predictions.pt") for seed in (0, 1)]
    names = predictions[1].narration_id[positions]
    write_predictions(runs / "bilstm-seed1" / "val_predictions.pt", predictions[1].aligned(names))
    if len(names) == 10:  # as many, but others
        write_predictions(
            runs / "bilstm-seed0" / "val_predictions.pt",
            predictions[0].aligned(names[:-2] + predictions[0].narration_id[:2]),
        )
    result = heads("evaluate", "--runs", runs)
    assert result.exit_code == 1
    assert "Error: bilstm: its seeds predict different segments (" in result.stderr


@pytest.fixture
def runs_with_tta(runs, run_predictions) -> Path:
    """The runs, of which both seeds of one have predictions with test-time augmentation: those of the third."""
    for seed in (0, 1):
        write_predictions(runs / f"bilstm-seed{seed}" / "val_tta_predictions.pt", run_predictions[2])
    return runs


def test_predictions_with_tta_have_a_row_of_their_own_below(heads, runs_with_tta):
    rows = _rows(heads, "--runs", runs_with_tta)
    assert list(rows)[:3] == ["bilstm", "bilstm +tta", "mean_pool"]
    assert rows["bilstm +tta"]["figures"] == rows["mean_pool"]["figures"]


def test_tta_of_some_of_the_seeds_has_no_row(heads, runs_with_tta):
    (runs_with_tta / "bilstm-seed1" / "val_tta_predictions.pt").unlink()
    assert "bilstm +tta" not in _rows(heads, "--runs", runs_with_tta)


# ---- the same thing twice, and two things of one name


def test_a_folder_of_runs_and_a_run_in_it_are_not_counted_twice(heads, runs):
    assert _rows(heads, runs, runs / "bilstm-seed0") == _rows(heads, "--runs", runs)


@pytest.mark.parametrize("other", ["same", "spelling", "symlink", "copy", "saved again", "run"])
def test_the_same_predictions_are_one_row(heads, runs, synthetic, other):
    file = runs / "bilstm-seed0" / "val_predictions.pt"
    twin = runs / "twin.pt"
    if other == "same":
        twin = file
    elif other == "spelling":
        twin = runs / "mean_pool-seed0" / ".." / "bilstm-seed0" / "val_predictions.pt"
    elif other == "symlink":
        twin.symlink_to(file)
    elif other == "copy":
        twin.write_bytes(file.read_bytes())
    elif other == "saved again":
        torch.save(torch.load(file, weights_only=True), twin)
        assert twin.read_bytes() != file.read_bytes()
    else:
        twin = file.parent
    rows = _rows(heads, file, twin, "--annotations", synthetic.annotations)
    (row,) = [row for row in rows.values() if row["num_seeds"]]
    expected = {"copy": ["twin.pt"], "saved again": ["twin.pt"], "run": ["val_predictions.pt"]}.get(other, [])
    assert (row["num_seeds"], row["spread"], row["copies"]) == (1, None, expected)
    if expected:
        text = heads("evaluate", file, twin, "--annotations", synthetic.annotations).stdout
        assert f"{row['name']}: the same predictions as in {expected[0]}, counted once" in text


def test_a_copied_run_folder_is_no_other_seed(heads, runs):
    shutil.copytree(runs / "bilstm-seed0", runs / "bilstm-seed7")
    row = _rows(heads, "--runs", runs)["bilstm"]
    assert (row["num_seeds"], row["copies"]) == (2, ["bilstm-seed7"])


def test_runs_with_the_same_predictions_and_other_settings_are_two(heads, runs):
    shutil.copytree(runs / "bilstm-seed0", runs / "patient-seed0")
    record = json.loads((runs / "patient-seed0" / "config.json").read_text())
    write_json(runs / "patient-seed0" / "config.json", {**record, "patience": 8})
    rows = _rows(heads, runs / "bilstm-seed0", runs / "patient-seed0")
    assert rows["patient"]["figures"] == rows["bilstm"]["figures"]


def test_the_augmented_predictions_of_a_run_are_no_file_beside_it(heads, runs_with_tta, synthetic):
    run = runs_with_tta / "bilstm-seed0"
    rows = _rows(heads, run / "val_tta_predictions.pt", run, "--annotations", synthetic.annotations)
    assert list(rows)[:2] == ["bilstm", "bilstm +tta"]


def test_runs_of_one_name_in_two_folders_are_told_apart(heads, runs, tmp_path):
    for folder in ("lite", "i3d"):
        shutil.copytree(runs, tmp_path / folder, ignore=None)
    write_predictions(
        tmp_path / "i3d" / "bilstm-seed0" / "val_predictions.pt",
        read_predictions(runs / "mean_pool-seed0" / "val_predictions.pt"),
    )
    rows = _rows(heads, tmp_path / "lite", tmp_path / "i3d" / "bilstm-seed0")
    assert list(rows)[:3] == ["lite/bilstm", "mean_pool", "i3d/bilstm"]


def test_an_ensemble_of_the_name_of_a_run_is_no_seed_of_it(heads, runs, run_predictions):
    write_predictions(
        runs / "bilstm" / "val_predictions.pt", run_predictions[2].aligned(run_predictions[2].narration_id)
    )
    write_json(runs / "bilstm" / "config.json", {"members": ["runs/bilstm-seed0", "runs/bilstm-seed1"]})
    rows = _rows(heads, "--runs", runs)
    assert {name: row["num_seeds"] for name, row in rows.items() if row["num_seeds"]} == {
        "bilstm-seed*": 2,
        "mean_pool": 1,
        "bilstm": 1,
    }


# ---- one against another


def _differences(heads, *arguments: object) -> dict[str, dict]:
    result = heads("evaluate", "--compare", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return {row["figure"]: row for row in json.loads(result.stdout)}


def test_a_difference_is_that_of_the_two_rows(heads, runs):
    differences = _differences(heads, runs / "bilstm-seed0", runs / "mean_pool-seed0")
    rows = [_rows(heads, runs / name, "--each")[name]["figures"] for name in ("bilstm-seed0", "mean_pool-seed0")]
    assert {name: (row["a"], row["b"]) for name, row in differences.items()} == {
        name: (value, rows[1][name]) for name, value in rows[0].items()
    }
    assert all(row["difference"] == pytest.approx(row["b"] - row["a"]) for row in differences.values())


def test_the_other_way_round_it_has_the_other_sign(heads, runs):
    first, second = runs / "bilstm-seed0", runs / "mean_pool-seed0"
    forward, backward = _differences(heads, first, second)["action@1"], _differences(heads, second, first)["action@1"]
    assert (backward["difference"], backward["low"], backward["high"]) == pytest.approx(
        (-forward["difference"], -forward["high"], -forward["low"])
    )


def test_a_run_is_no_better_than_itself(heads, runs):
    differences = _differences(heads, runs / "bilstm-seed0", runs / "bilstm-seed0" / "val_predictions.pt")
    assert {(row["difference"], row["low"], row["high"]) for row in differences.values()} == {(0.0, 0.0, 0.0)}


def test_what_is_compared_are_the_segments_that_both_predict(heads, runs, run_predictions, synthetic):
    write_predictions(runs / "some.pt", run_predictions[0].aligned(run_predictions[0].narration_id[3:8]))
    differences = _differences(heads, runs / "bilstm-seed0", runs / "some.pt")
    assert {row["difference"] for row in differences.values()} == {0.0}
    output = heads("evaluate", "--compare", runs / "bilstm-seed0", runs / "some.pt").stdout
    assert f"B is {runs}/some.pt, on 5 of the 12 segments of EPIC_100_validation.csv" in output


def test_what_have_nothing_in_common_cannot_be_compared(heads, runs, run_predictions):
    for name, positions in (("one.pt", slice(0, 3)), ("other.pt", slice(5, 9))):
        write_predictions(runs / name, run_predictions[0].aligned(run_predictions[0].narration_id[positions]))
    result = heads("evaluate", "--compare", runs / "one.pt", runs / "other.pt", "--annotations", "nowhere")
    assert result.exit_code == 1


def test_a_comparison_takes_no_others_beside_it(heads, runs):
    run = runs / "bilstm-seed0"
    assert heads("evaluate", run, "--compare", run, run).exit_code == 2


# ---- how it is shown


def test_the_table_has_a_line_for_each_row(heads, runs):
    lines = heads("evaluate", "--runs", runs).stdout.splitlines()
    names = [line[:13].strip() for line in lines[: lines.index("")]]
    assert names == ["accuracy in %", "bilstm", "mean_pool", "most frequent", "chance"]


def test_the_table_shows_what_the_json_says(heads, runs):
    row = _rows(heads, "--runs", runs)["mean_pool"]
    line = next(line for line in heads("evaluate", "--runs", runs).stdout.splitlines() if line.startswith("mean_pool"))
    names = [f"{task}@{k}" for task in ("verb", "noun", "action") for k in (1, 5)]
    assert line.split()[2:8] == [f"{row['figures'][name]:.1f}" for name in names]
    assert line.endswith("{:.1f} to {:.1f}".format(*row["intervals"]["action@1"]))


def test_the_table_shows_parts_recalls_and_calibration(heads, runs):
    output = heads("evaluate", "--runs", runs).stdout
    expected = [
        "top-1 accuracy in % over",
        "top-5 accuracy in % over",
        "unseen verb",
        "tail action",
        "mean-class recall@5",
        "mean-class accuracy",
        "calibration error",
    ]
    assert [text for text in expected if text not in output] == []


def test_the_csv_has_a_line_for_each_figure_of_each_row(heads, runs):
    lines = list(csv.DictReader(io.StringIO(heads("evaluate", "--runs", runs, "--csv").stdout)))
    percents = {(line["name"], line["figure"]): float(line["percent"]) for line in lines}
    rows = _rows(heads, "--runs", runs)
    assert percents == {(name, figure): value for name, row in rows.items() for figure, value in row["figures"].items()}
    assert {line["known"] for line in lines} == {"12"}


def test_a_comparison_is_a_table_for_people_and_for_spreadsheets(heads, runs):
    pair = (runs / "bilstm-seed0", runs / "mean_pool-seed0")
    assert heads("evaluate", "--compare", *pair).stdout.startswith("score in %")
    lines = heads("evaluate", "--compare", *pair, "--csv").stdout.splitlines()
    assert lines[0] == "figure,a,b,difference,low,high,num_segments,num_known,scored_on"


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
    folder = tmp_path / "only"
    folder.mkdir()
    (folder / "EPIC_100_train.csv").write_bytes(synthetic.csv("train").read_bytes())
    with pytest.raises(DataError, match="no validation annotations to score against"):
        evaluate_lists(lists_for([runs / "bilstm-seed0"], folder), each=False)


def _write_bad_predictions(tmp_path: Path, synthetic: Synthetic, **changes: object) -> Path:
    """Predictions for validation in the list format, of which the first entry is changed."""
    predictions = drawn_predictions(synthetic.segments("validation"))
    rows = [
        {"narration_id": name, "verb_output": torch.from_numpy(verb), "noun_output": torch.from_numpy(noun)}
        for name, verb, noun in zip(predictions.narration_id, predictions.verb, predictions.noun, strict=True)
    ]
    rows[0] |= changes
    torch.save(rows, tmp_path / "bad.pt")
    return tmp_path / "bad.pt"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verb_output": torch.full((97,), torch.nan)}, "verb logits are not finite for P01_02_0"),
        ({"noun_output": torch.zeros(299)}, "noun_output of P01_02_0 has shape (299,), not (300,)"),
        ({"narration_id": "P01_02_1"}, "segments predicted twice: P01_02_1"),
    ],
    ids=["NaN", "a wrong width", "an id twice"],
)
@pytest.mark.parametrize("command", ["evaluate", "ensemble", "submit"])
def test_bad_predictions_are_refused_in_one_line(heads, tmp_path, synthetic, command, changes, message):
    result = heads(
        command, _write_bad_predictions(tmp_path, synthetic, **changes), "--annotations", synthetic.csv("validation")
    )
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


def test_a_file_that_would_run_code_is_refused(heads, tmp_path, synthetic):
    torch.save([{"narration_id": Path("P01_02_0")}], tmp_path / "unsafe.pt")
    result = heads("evaluate", "unsafe.pt", "--annotations", synthetic.annotations)
    assert result.exit_code == 1
    assert result.stderr.endswith("unsafe.pt, entry 1: no verb_output and no noun_output in it.\n")
    assert len(result.stderr.splitlines()) == 1
