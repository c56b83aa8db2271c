"""Sweeps: what a grid means, that features are loaded once, that nothing finished is lost and nothing failed hides."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic import drawn_predictions

from features.annotations import find_splits
from features.errors import OptionError
from features.files import read_json
from features.predictions import write_predictions
from heads.data.load import load_train_data
from heads.runs import read_metrics
from heads.sweep.grid import make_variants, parse_grid
from heads.sweep.run import plan_sweep, run_sweep

SETTINGS = {"head": "mean_pool", "epochs": 2}


@given(st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True), st.integers(1, 3))
def test_a_grid_is_the_product_of_its_values_for_each_seed(sizes, num_seeds):
    grid = {"loss": ["ce", "focal"], "batch_size": [str(size) for size in sizes]}
    variants = make_variants(grid, SETTINGS, range(num_seeds))
    combinations = {
        (variant.config.objective.loss, variant.config.optimisation.batch_size, variant.config.seed)
        for variant in variants
    }
    expected = {(loss, size, seed) for loss in ("ce", "focal") for size in sizes for seed in range(num_seeds)}
    assert (combinations, len(variants)) == (expected, len(expected))


def test_a_variant_has_its_head_with_options():
    (variant,) = make_variants({"head": ["bilstm:hidden=8"]}, SETTINGS, [0])
    assert (variant.config.head, variant.config.head_options["hidden"]) == ("bilstm", 8)
    assert variant.name == "head-bilstm.hidden.8"


def test_a_switch_may_vary():
    variants = make_variants({"action_head": ["true", "false"]}, SETTINGS, [0])
    assert [variant.config.objective.action_head for variant in variants] == [True, False]
    with pytest.raises(OptionError, match="action_head is 'yes', not true or false"):
        make_variants({"action_head": ["yes"]}, SETTINGS, [0])


@pytest.mark.parametrize("samples", [1, 3, 100])
def test_a_sample_is_part_of_the_product_and_the_same_each_time(samples):
    grid = {"lr": ["1e-4", "3e-4", "1e-3"], "loss": ["ce", "focal"]}
    all_names = {variant.name for variant in make_variants(grid, SETTINGS, [0])}
    draws = [[variant.name for variant in make_variants(grid, SETTINGS, [0], samples=samples)] for _ in range(2)]
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == min(samples, 6)
    assert set(draws[0]) <= all_names


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loss"], "'loss' is not NAME=VALUE"),
        (["loss="], "'loss=' is not NAME=VALUE"),
        (["los=ce"], "no setting 'los'; did you mean 'loss'?"),
        (["loss=ce,ce"], "names a setting or a value twice"),
        (["lr=1e-3,0.001"], "names a setting or a value twice"),
        (["lr=1", "lr=2"], "names a setting or a value twice"),
        (["lr=fast"], "lr is 'fast', not a number"),
    ],
)
def test_a_grid_that_cannot_be_meant_is_refused(words, message):
    with pytest.raises(OptionError, match="--grid") as error:
        parse_grid(words)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"lr": ["fast"]}, "--grid: lr is 'fast', not a number"),
        ({"epochs": ["1.5"]}, "--grid: epochs is '1.5', not a whole number"),
        ({"separate": ["maybe"]}, "--grid: separate is 'maybe', not true or false"),
        ({"head": ["bilstn"]}, "--grid: no head 'bilstn'; did you mean 'bilstm'?"),
        ({"lr": ["-1"]}, "--lr: -1.0 is below"),
        ({"epochs": ["0"]}, "--epochs: a sweep trains"),
        ({}, "--grid: nothing to vary"),
    ],
)
def test_a_value_that_cannot_be_is_refused(grid, message):
    with pytest.raises(OptionError) as error:
        make_variants(grid, SETTINGS, [0])
    assert str(error.value).startswith(message)


def test_variants_that_would_share_a_folder_are_refused():
    with pytest.raises(OptionError, match=r"two of its variants would share the folder teacher-a\.b\.pt"):
        make_variants({"teacher": ["a/b.pt", "a.b.pt"]}, SETTINGS, [0])


@given(st.lists(st.text("aé/", min_size=90, max_size=140), min_size=2, max_size=4, unique=True))
def test_long_names_fit_a_file_system_and_differ(values):
    names = [variant.name for variant in make_variants({"teacher": values, "lr": ["1e-3"]}, SETTINGS, [0])]
    assert len(set(names)) == len(values)
    assert all(len(f"{name}-seed4294967295".encode()) <= 255 for name in names)


# ---- by the command line

QUICK = ("--epochs", 2, "--device", "cpu", "--batch-size", 8)


@pytest.fixture
def sweep(heads, synthetic):
    def run(*options: object):
        paths = ("--annotations", synthetic.annotations, "--features", synthetic.featureset)
        return heads("sweep", "--head", "mean_pool", *QUICK, *paths, *options)

    return run


def _finish_times(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/last.pth")}


def test_a_sweep_leaves_a_run_folder_for_every_variant_and_ranks_them(sweep, heads, tmp_path):
    result = sweep("--grid", "loss=ce,focal", "head=mean_pool,mlp:hidden=8", "--seeds", "0-1", "--json")
    assert result.exit_code == 0, result.output
    ranking = json.loads(result.stdout)
    assert len(_finish_times(tmp_path / "runs" / "sweep")) == 8
    means = [sum(row["scores"]) / 2 for row in ranking]
    assert (len(means), means) == (4, sorted(means, reverse=True))
    assert heads("evaluate", "--runs", "runs/sweep").exit_code == 0


def test_a_sweep_that_was_cut_off_trains_only_what_is_missing(sweep, tmp_path):
    line = ("--grid", "loss=ce,focal", "lr=1e-3,1e-2")
    sweep(*line)
    before = _finish_times(tmp_path / "runs" / "sweep")
    lost_run = next(iter(before))
    for path in (tmp_path / "runs" / "sweep" / lost_run).iterdir():
        path.unlink()
    assert sweep(*line).exit_code == 0
    after = _finish_times(tmp_path / "runs" / "sweep")
    assert {name: time_ns for name, time_ns in after.items() if name != lost_run} == {
        name: time_ns for name, time_ns in before.items() if name != lost_run
    }
    assert lost_run in after


def test_a_variant_that_fails_is_recorded_and_the_rest_goes_on(sweep, tmp_path):
    result = sweep("--grid", "lr=1e30,1e-3", "--warmup-epochs", 0, "--batch-size", 4)
    assert result.exit_code == 1
    assert "1 of 2 runs failed" in result.stderr
    failed = read_json(tmp_path / "runs" / "sweep" / "failed.json")
    assert list(failed) == ["lr-1e30"]
    assert "try a lower --lr" in failed["lr-1e30"]["0"]
    assert "lr-1e-3-seed0" in _finish_times(tmp_path / "runs" / "sweep")


def test_variants_that_see_other_features_are_trained_in_one_sweep(sweep, tmp_path):
    result = sweep("--grid", "neighbours=0,1", "loss=ce,focal")
    assert result.exit_code == 0, result.output
    assert len(_finish_times(tmp_path / "runs" / "sweep")) == 4


def test_a_sweep_can_be_dealt_to_tasks(sweep, tmp_path):
    for task in range(2):
        assert sweep("--grid", "loss=ce,focal,cb", "--shard", f"{task}/2").exit_code == 0
    assert len(_finish_times(tmp_path / "runs" / "sweep")) == 3


# ---- several runs a pass


def _scores(result) -> dict[str, list[float]]:
    return {row["name"]: row["scores"] for row in json.loads(result.stdout)}


def test_runs_that_train_together_score_as_each_alone(sweep):
    """Of two shapes, and two contents of memory; a pass takes at most three of one shape."""
    line = ("--grid", "loss=ce,focal", "head=mean_pool,mlp:hidden=8", "split=official,fold:1/2", "--seeds", "0-1")
    single, stacked = (sweep(*line, "--json", "--together", size, "--name", size) for size in (1, 3))
    assert (single.exit_code, stacked.exit_code) == (0, 0)
    actual, expected = _scores(stacked), _scores(single)
    assert actual.keys() == expected.keys()
    for name, scores in expected.items():
        assert actual[name] == pytest.approx(scores, abs=1e-6), name
    assert "3 runs together" in stacked.stderr
    assert "runs together" not in single.stderr


def test_one_that_fails_among_others_is_recorded(sweep, tmp_path):
    line = ("--grid", "lr=1e30,1e-3,1e-2", "--warmup-epochs", 0, "--batch-size", 4, "--together", 3)
    result = sweep(*line)
    assert (result.exit_code, "1 of 3 runs failed" in result.stderr) == (1, True)
    assert list(read_json(tmp_path / "runs" / "sweep" / "failed.json")) == ["lr-1e30"]
    assert set(_finish_times(tmp_path / "runs" / "sweep")) >= {"lr-1e-3-seed0", "lr-1e-2-seed0"}


@pytest.mark.parametrize("together", [1, 2])
def test_one_that_has_too_little_memory_is_recorded_and_the_rest_go_on(together, sweep, tmp_path):
    result = sweep("--grid", "head=mlp:hidden=1000000000000,mlp:hidden=8", "--together", together)
    assert (result.exit_code, "1 of 2 runs failed" in result.stderr, "Traceback" in result.stderr) == (1, True, False)
    ((failed, reasons),) = read_json(tmp_path / "runs" / "sweep" / "failed.json").items()
    assert "1000000000000" in failed
    assert reasons == {"0": "out of memory"}
    assert len(_finish_times(tmp_path / "runs" / "sweep")) == 1


def test_where_memory_is_too_small_for_all_at_once_they_are_trained_one_by_one(sweep, monkeypatch, tmp_path):
    def is_full(*args: object, **options: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("heads.sweep.run.fit_together", is_full)
    result = sweep("--grid", "loss=ce,focal", "--together", 2)
    assert result.exit_code == 0, result.output
    assert len(_finish_times(tmp_path / "runs" / "sweep")) == 2


def test_features_are_freed_before_others_are_loaded(synthetic, tmp_path):
    files = find_splits(synthetic.annotations)
    variants = make_variants({"neighbours": ["0", "1"]}, {**SETTINGS, "epochs": 1}, [0])
    references: list[weakref.ref] = []
    alive_at_load = []

    def load(config):
        alive_at_load.append(sum(data() is not None for data in references))
        cpu = torch.device("cpu")
        data = load_train_data([synthetic.featureset], files, config, allow_missing=False, device=cpu)
        references.append(weakref.ref(data))
        return data

    run_sweep(plan_sweep(variants, files, tmp_path), load, device=torch.device("cpu"))
    assert alive_at_load == [0, 0]


@pytest.mark.parametrize(("line", "is_together"), [("loss=ce,focal --seeds 0", True), ("loss=ce --seeds 0-1", False)])
def test_features_that_are_not_in_memory_are_read_together_by_runs_of_one_seed(line, is_together, sweep):
    result = sweep("--grid", *line.split(), "--together", 2, "--memory", 1e-9)
    assert result.exit_code == 0, result.output
    assert ("2 runs together" in result.stderr) == is_together


@pytest.mark.parametrize("together", [1, 2])
def test_a_teacher_teaches_every_variant(together, sweep, synthetic, tmp_path):
    teacher = tmp_path / "teacher.pt"
    write_predictions(teacher, drawn_predictions(synthetic.segments("train")))
    line = ("--grid", "teacher_weight=0,1", "--together", together, "--json")
    result = sweep(*line, "--teacher", teacher, "--name", "taught")
    losses = [read_metrics(run / "metrics.csv")[-1]["train_loss"] for run in (tmp_path / "runs" / "taught").glob("*0")]
    assert result.exit_code == 0, result.output
    assert len(set(losses)) == 2
