"""The demo, at its full size, says what it is meant to show: the golden run of the whole path."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from demos import repeated
from shell import ROOT, output_here, output_of

from extract.decode.probing import probe
from features.annotations import TEST_CSV, read_segments
from features.check import verify
from features.featureset import read_featureset
from features.predictions import read_predictions
from features.store import read_video, video_ids
from heads.cli import main
from heads.runs import METRICS, read_metrics

pytestmark = pytest.mark.slow

# Written by `make demo` on a CPU, torch 2.14; other versions and processors round otherwise, hence the tolerances.
GOLDEN_FEATURE_MEAN = 0.04266
GOLDEN_ACTION_TOP1 = {"logistic": 28.2, "mean_pool": 25.4, "bilstm": 51.6, "multiscale_lstm": 59.7}


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """The demo's folder, and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    return out, output_of("bash", "jobs/demo.sh", out, folder=ROOT, timeout_s=1500)


@pytest.fixture(scope="module")
def rows(demo) -> dict[str, dict]:
    """The last table's rows, as `heads evaluate --json` gives them."""
    output = output_here(main, "evaluate", "--runs", demo[0] / "runs", "--json")
    return {row["name"]: row for row in json.loads(output)}


def _top(rows: dict[str, dict], name: str, column: str) -> float:
    return rows[name]["figures"][column]


def test_features_are_complete_and_sound(demo):
    assert list(verify(demo[0] / "features" / "tiny_cnn-seg16")) == []


def test_features_are_the_golden_ones(demo):
    root = demo[0] / "features" / "tiny_cnn-seg16"
    digest = read_featureset(root).digest
    means = [read_video(root, video, digest=digest).features.astype(np.float64).mean() for video in video_ids(root)]
    assert np.mean(means) == pytest.approx(GOLDEN_FEATURE_MEAN, rel=0.01)


@pytest.mark.parametrize("head", GOLDEN_ACTION_TOP1)
def test_action_accuracy_is_the_golden_one(rows, head):
    assert _top(rows, head, "action@1") == pytest.approx(GOLDEN_ACTION_TOP1[head], abs=10)


@pytest.mark.parametrize("head", ["bilstm", "multiscale_lstm"])
def test_temporal_heads_tell_verbs_that_mean_pooling_cannot(rows, head):
    assert _top(rows, head, "verb@1") > _top(rows, "mean_pool", "verb@1") + 10


@pytest.mark.parametrize(("head", "epochs"), [("tcn", 8), ("transformer", 20)])
def test_so_do_the_other_heads_that_see_an_order(demo, rows, head, epochs, tmp_path):
    data_options = ("--annotations", demo[0] / "annotations", "--features", demo[0] / "features" / "tiny_cnn-seg16")
    train_options = ("--device", "cpu", "--epochs", epochs, "--batch-size", 16, "--runs", tmp_path)
    output_here(main, "train", "--head", head, "--set", "width=64", *data_options, *train_options)
    verb = max(row["val_verb_top1"] for row in read_metrics(tmp_path / f"{head}-seed0" / METRICS))
    assert verb > _top(rows, "mean_pool", "verb@1") + 10


def test_mean_pooling_tells_no_verbs(rows):
    assert _top(rows, "mean_pool", "verb@1") < _top(rows, "most frequent", "verb@1")


def test_mean_pooling_tells_nouns(rows):
    assert _top(rows, "mean_pool", "noun@1") > _top(rows, "most frequent", "noun@1") + 10


def test_ensemble_of_seeds_beats_them_on_average(rows):
    assert _top(rows, "multiscale_ensemble", "action@1") > _top(rows, "multiscale_lstm", "action@1")


def test_every_head_beats_chance(rows):
    assert all(_top(rows, head, "action@1") > _top(rows, "chance", "action@1") for head in GOLDEN_ACTION_TOP1)


def test_submission_covers_the_test_list(demo):
    folder = demo[0] / "runs" / "multiscale_ensemble" / "submission"
    predictions = read_predictions(folder / "submission.pt")
    assert list(predictions.narration_id) == list(read_segments(demo[0] / "annotations" / TEST_CSV).narration_id)


def test_the_last_table_is_that_of_evaluate(demo, rows):
    output = demo[1][demo[1].rindex("$ heads evaluate") :]
    table = output[output.index("accuracy in %") :]
    names = [line.split("  ")[0] for line in table[: table.index("\n\n")].splitlines()[1:]]
    assert names == list(rows)
    assert table.splitlines()[0].split() in [line.split() for line in (ROOT / "README.md").read_text().splitlines()]
    line = next(line for line in table.splitlines() if line.startswith("multiscale_ensemble"))
    assert f"{_top(rows, 'multiscale_ensemble', 'action@1'):.1f}" in line.split()


def test_it_ends_with_that_table_where_things_are_and_the_next_commands(demo):
    folder, output = demo
    end = output[output.rindex("$ heads evaluate") :]
    assert end.count(" in %  ") == 1, "one table"
    places, next_commands = end.partition("Where things are:\n")[2].split("\n\nWhat to do next:\n")
    report, watch, sweep = (re.split(" {3,}", line.strip())[0] for line in next_commands.splitlines())
    assert sweep == "make demo-sweep"
    for command in (report, watch):
        output_of("bash", "-c", command, folder=ROOT, timeout_s=300)
    assert "<template" in (folder / "report.html").read_text(), "with a gallery"
    assert probe(folder / "annotated.mp4").fps == pytest.approx(60000 / 1001)
    named = [word.rstrip(",") for line in places.splitlines() for word in re.split(" {3,}", line.strip())[0].split()]
    assert len(places.splitlines()) <= 5
    assert all(Path(name).exists() for name in named)


def test_the_interval_of_an_accuracy_holds_it(rows):
    for row in rows.values():
        for name in [name for name in row["intervals"] if "@" in name and "mean-class" not in name]:
            low, high = row["intervals"][name]
            assert low - 1e-9 <= row["figures"][name] <= high + 1e-9


@pytest.mark.parametrize("name", ["submission.pt", "ensemble_submission.zip", "epic_submission.zip"])
def test_files_for_the_servers_are_sound(demo, name):
    path = demo[0] / "runs" / "multiscale_ensemble" / "submission" / name
    output = output_here(main, "submit", "--check", path, "--annotations", demo[0] / "annotations" / TEST_CSV)
    assert output.rstrip().endswith("sound.")


def test_random_weights_are_submitted_as_no_pretraining(demo):
    with zipfile.ZipFile(demo[0] / "runs" / "multiscale_ensemble" / "submission" / "epic_submission.zip") as archive:
        record = json.loads(archive.read("test.json"))
    assert (record["sls_pt"], record["sls_tl"], record["sls_td"]) == (0, 3, 3)


@pytest.fixture(scope="module")
def greedy(demo, tmp_path_factory) -> tuple[Path, str]:
    """The folder of an ensemble chosen greedily from all runs of the demo, with all corrections, and the output."""
    runs = tmp_path_factory.mktemp("greedy")
    corrections = ("--temperature", "--adjust", "--pairs", "--sequence")
    output = output_here(main, "ensemble", "--greedy", "--per-task", *corrections, "--runs", runs, demo[0] / "runs")
    return runs / "ensemble", output


def test_greedy_selection_trusts_the_best_head(greedy):
    config = json.loads((greedy[0] / "config.json").read_text())
    verb_weights = dict(
        zip([Path(member).name for member in config["members"]], config["weights"]["verb"], strict=True)
    )
    assert len(verb_weights) == 10
    assert sum(weight for name, weight in verb_weights.items() if name.startswith("multiscale_lstm")) > 0.5


def test_what_is_fitted_beats_the_plain_mean(demo, greedy):
    comparison = json.loads(
        output_here(main, "evaluate", "--compare", demo[0] / "runs" / "ensemble", greedy[0], "--json")
    )
    action = next(row for row in comparison if row["figure"] == "action@1")
    assert action["difference"] > 0
    assert action["low"] <= action["difference"] <= action["high"]


def test_each_correction_is_shown_with_its_gain(greedy):
    corrections = re.findall(r"^(\w+) alone .*: action@1 [+-][\d.]+ \(95 % interval: ", greedy[1], flags=re.MULTILINE)
    assert corrections == ["temperature", "adjust", "pairs", "sequence"]


def test_with_one_view_and_no_dense_set_tta_changes_nothing(demo, tmp_path):
    shutil.copytree(demo[0] / "runs" / "bilstm-seed0", tmp_path / "bilstm-seed0")
    output_here(main, "predict", tmp_path / "bilstm-seed0", "--tta", "--split", "validation", "--device", "cpu")
    rows = {row["name"]: row for row in json.loads(output_here(main, "evaluate", "--runs", tmp_path, "--json"))}
    assert rows["bilstm +tta"]["figures"] == rows["bilstm"]["figures"]


def test_what_was_written_is_named(demo):
    folder, output = demo
    paths = [word for word in output.split() if word.startswith(str(folder)) and "submission" in word]
    assert {Path(word).name for word in paths} >= {"submission.pt", "ensemble_submission.zip", "epic_submission.zip"}
    assert all(Path(word).exists() for word in paths)


def test_repeating_it_trains_nothing_again(demo):
    out, output = demo
    mtimes_before = {path: path.stat().st_mtime_ns for path in out.rglob("last.pth")}
    commands = repeated(output, out)
    assert [words.split()[0] for words in commands].count("train") == 4
    assert {path: path.stat().st_mtime_ns for path in out.rglob("last.pth")} == mtimes_before
