"""Successive halving: which variants are stopped, that this is decided from what was measured up to a rung alone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.annotations import SplitFiles
from features.errors import OptionError
from features.files import read_json
from heads.runs import read_metrics
from heads.sweep.grid import make_variants
from heads.sweep.halving import decide, rungs_of, score_at
from heads.sweep.run import plan_sweep

percents = st.floats(0, 100)
scores = st.dictionaries(st.text(max_size=3), st.lists(percents, max_size=3), max_size=9)


@given(st.integers(2, 1000))
def test_rungs_are_a_quarter_and_a_half_and_come_before_the_end(epochs):
    rungs = rungs_of(epochs)
    assert rungs == sorted({math.ceil(epochs / 4), math.ceil(epochs / 2)})
    assert all(1 <= rung < epochs for rung in rungs)


def test_one_epoch_has_nothing_to_stop():
    with pytest.raises(OptionError, match="--epochs 2 or more"):
        rungs_of(1)


@given(scores)
def test_the_best_half_rounded_up_goes_on(scores_by_name):
    decisions = decide(scores_by_name, 8)
    alive = {name for name, percents in scores_by_name.items() if percents}
    assert {decision.name for decision in decisions} == alive
    survivors = [decision for decision in decisions if not decision.stopped]
    assert len(survivors) == math.ceil(len(alive) / 2)
    assert [decision.rank for decision in decisions] == list(range(1, len(alive) + 1))
    assert all(survivor.score > loser.score - 1e-8 for survivor in survivors for loser in decisions if loser.stopped)


@given(scores)
def test_variants_that_failed_take_no_place(scores_by_name):
    assert decide(scores_by_name, 8) == decide(
        {name: percents for name, percents in scores_by_name.items() if percents}, 8
    )


@given(st.lists(st.text(max_size=3), unique=True, max_size=9))
def test_of_equals_the_first_of_the_grid_go_on(names):
    assert [decision.name for decision in decide({name: [50.0] for name in names}, 8)] == names


def test_equally_many_hits_are_equal_in_whatever_order_they_are_added():
    first, second = ([100 * hits / 41 for hits in order] for order in ((33, 20, 25), (33, 25, 20)))
    assert sum(first) / 3 < sum(second) / 3  # in the last digit
    assert [decision.name for decision in decide({"first": first, "second": second}, 8)] == ["first", "second"]


@given(st.lists(percents, min_size=1, max_size=9), st.lists(percents, max_size=9))
def test_what_comes_after_a_rung_does_not_count(before, after):
    rows = [{"val_action_top1": value} for value in before + after]
    assert score_at(rows, len(before)) == max(before)


# ---- what cannot be halved


def _files(validation: str | None = "validation.csv") -> SplitFiles:
    return SplitFiles(Path("train.csv"), validation and Path(validation), None)


@pytest.mark.parametrize(
    ("grid", "settings", "files", "shard", "message"),
    [
        ({"lr": ["1"]}, {"epochs": 30}, _files(), "0/2", "--shard 0/2 is a part"),
        ({"lr": ["1"]}, {"epochs": 30}, _files(None), None, "split official has none"),
        ({"lr": ["1"]}, {"split": "all", "epochs": 30}, _files(), None, "split all has none"),
        ({"split": ["official", "all"]}, {"epochs": 30}, _files(), None, "split all has none"),
        ({"epochs": ["2", "4"]}, {}, _files(), None, "take epochs out of the grid"),
        ({"lr": ["1"]}, {"epochs": 1}, _files(), None, "give --epochs 2 or more"),
        ({"head": ["logistic"]}, {"epochs": 9}, _files(), None, "all heads are fitted"),
    ],
)
def test_what_cannot_be_compared_is_refused(grid, settings, files, shard, message):
    variants = make_variants(grid, {"head": "mean_pool", **settings}, [0])
    with pytest.raises(OptionError, match=r"^--halving: ") as error:
        plan_sweep(variants, files, Path("sweep"), shard=shard, halving=True)
    assert message in str(error.value)


def test_folds_have_validation_without_a_validation_list_and_one_task_is_no_part():
    variants = make_variants({"lr": ["1"]}, {"head": "mean_pool", "split": "fold:0/2", "epochs": 30}, [0])
    assert plan_sweep(variants, _files(None), Path("sweep"), shard="0/1", halving=True).rungs == (8, 15)


def test_a_head_that_is_fitted_is_compared_whatever_the_others_epochs_are():
    variants = make_variants({"head": ["mlp", "logistic"]}, {"head": "mlp", "epochs": 8}, [0])
    assert plan_sweep(variants, _files(), Path("sweep"), halving=True).rungs == (2, 4)


# ---- by the command line

GRID = ("--grid", "lr=1e-4,1e-3,1e-2", "loss=ce,focal")


@pytest.fixture
def sweep(heads, synthetic):
    def run(*options: object):
        paths = ("--annotations", synthetic.annotations, "--features", synthetic.featureset)
        size = ("--head", "mean_pool", "--epochs", 6, "--batch-size", 8, "--device", "cpu")
        return heads("sweep", *size, *paths, "--seeds", "0-1", *options)

    return run


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "runs" / "sweep"


def _score(folder: Path, name: str, epochs: int | None) -> float:
    """The mean over seeds of the best action accuracy, computed from the files anew."""
    best = [
        max(row["val_action_top1"] for row in read_metrics(run / "metrics.csv")[:epochs])
        for run in sorted(folder.glob(f"{name}-seed*"))
    ]
    return sum(best) / len(best)


def test_the_rest_stops_at_each_rung_and_stays_behind_as_unfinished_runs(sweep, folder):
    result = sweep(*GRID, "--halving", "--json")
    assert result.exit_code == 0, result.output
    results = json.loads(result.stdout)
    decisions = read_json(folder / "halving.json")
    assert [variant["stopped"] for variant in results] == [None, None, 3, 2, 2, 2]
    for rung, num_left in ((2, 6), (3, 3)):
        at_rung = [decision for decision in decisions if decision["epoch"] == rung]
        assert [decision["rank"] for decision in at_rung] == list(range(1, num_left + 1))
        assert [decision["score"] for decision in at_rung] == pytest.approx(
            [_score(folder, decision["name"], rung) for decision in at_rung]
        )
        assert [decision["score"] for decision in at_rung] == sorted(
            (decision["score"] for decision in at_rung), reverse=True
        )
        assert sum(decision["stopped"] for decision in at_rung) == num_left // 2
    for variant in results:
        for run in folder.glob(f"{variant['name']}-seed*"):
            assert len(read_metrics(run / "metrics.csv")) == (variant["stopped"] or 6)
            assert (run / "last.pth").is_file()
            assert (run / "val_predictions.pt").is_file() == (variant["stopped"] is None)
        assert sum(variant["scores"]) / 2 == pytest.approx(_score(folder, variant["name"], variant["stopped"]))


def test_the_table_says_where_a_variant_was_stopped(sweep):
    lines = sweep(*GRID, "--halving").stdout.splitlines()
    assert lines[0].endswith("stopped")
    assert [line.rsplit("at epoch ")[1:] for line in lines[1:]] == [[], [], ["3"], ["2"], ["2"], ["2"]]


def test_repeating_it_changes_nothing(sweep, folder):
    first_output = sweep(*GRID, "--halving", "--json").stdout
    files = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*/*")}
    decisions = (folder / "halving.json").read_bytes()
    assert sweep(*GRID, "--halving", "--json").stdout == first_output
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*/*")} == files
    assert (folder / "halving.json").read_bytes() == decisions


def test_without_halving_what_was_stopped_goes_on_and_ends_as_if_it_never_had(sweep, folder, tmp_path):
    sweep(*GRID, "--halving")
    sweep(*GRID)
    assert not (folder / "halving.json").exists()
    sweep(*GRID, "--name", "unbroken")
    for run in (tmp_path / "runs" / "unbroken").glob("*-seed*"):
        assert (folder / run.name / "metrics.csv").read_bytes() == (run / "metrics.csv").read_bytes()
        assert (folder / run.name / "val_predictions.pt").is_file()


def test_a_variant_that_fails_takes_no_place_and_is_named(sweep, folder):
    result = sweep("--grid", "lr=1e30,1e-3,1e-2", "--warmup-epochs", 0, "--halving")
    assert result.exit_code == 1
    assert "2 of 6 runs failed" in result.stderr
    assert set(read_json(folder / "failed.json")) == {"lr-1e30"}
    decisions = read_json(folder / "halving.json")
    assert [(decision["epoch"], decision["rank"], decision["stopped"]) for decision in decisions] == [
        (2, 1, False),
        (2, 2, True),
        (3, 1, False),
    ]


def test_variants_that_see_other_features_are_compared_as_well(sweep, folder):
    assert sweep("--grid", "neighbours=0,1", "loss=ce,focal", "--halving").exit_code == 0
    assert len(read_json(folder / "halving.json")) == 4 + 2


def test_the_state_of_each_run_is_shown_without_training(sweep, folder):
    before = sweep(*GRID, "--halving", "--dry-run")
    assert not folder.exists()
    assert before.stdout.count("to do") == 12
    sweep(*GRID, "--halving")
    after = sweep(*GRID, "--halving", "--dry-run").stdout
    assert [after.count(state) for state in ("finished", "at epoch 3", "at epoch 2")] == [4, 2, 6]


@pytest.mark.parametrize("content", ['{"a": 1}', "[1]", '[{"name": "a"}]'])
def test_a_damaged_record_of_what_was_stopped_is_named(content, heads, synthetic, tmp_path):
    path = tmp_path / "runs" / "sweep" / "halving.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    result = heads("sweep", "lr=1e-3,1e-2", "--annotations", synthetic.annotations, "--dry-run")
    assert (result.exit_code, "halving.json: not a list of decisions" in result.stderr) == (1, True)


def test_logistic_regression_takes_part_with_its_only_score(heads, synthetic):
    paths = ("--annotations", synthetic.annotations, "--features", synthetic.featureset)
    options = ("--epochs", 4, "--batch-size", 8, "--device", "cpu", "--halving", "--json")
    result = heads("sweep", "head=mean_pool,logistic", *options, *paths)
    assert result.exit_code == 0, result.output
    assert {row["name"]: len(row["scores"]) for row in json.loads(result.stdout)} == {
        "head-mean_pool": 1,
        "head-logistic": 1,
    }
