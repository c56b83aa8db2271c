"""Run folders: which belong together, which are finished, which ensemble is the last."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from synthetic import drawn_predictions

from features.errors import DataError
from features.files import write_json
from features.predictions import write_predictions
from heads.runs import (
    find_last_ensemble,
    find_predicted,
    find_runs,
    group_of,
    is_ensemble,
    predictions_of,
    run_folder,
)


@pytest.fixture
def make_run(tmp_path, synthetic):
    """Write a run folder, or an ensemble's, with predictions for validation."""

    def write(name: str, *, members: list[str] | None = None) -> Path:
        folder = tmp_path / "runs" / name
        write_json(folder / "config.json", {"head": "bilstm"} if members is None else {"members": members})
        write_predictions(folder / "val_predictions.pt", drawn_predictions(synthetic.segments("validation")))
        return folder

    return write


@pytest.mark.parametrize(
    ("folder", "group"),
    [
        ("runs/bilstm-seed0", "bilstm"),
        ("runs/bilstm-seed12", "bilstm"),
        ("runs/long-name-seed3", "long-name"),
        ("runs/ensemble", "ensemble"),
        ("runs/seed3", "seed3"),
        ("runs/bilstm-seedling", "bilstm-seedling"),
    ],
)
def test_seeds_of_a_run_share_its_name(folder, group):
    assert group_of(Path(folder)) == group


def test_the_group_of_a_run_folder_is_the_name_it_was_made_with():
    assert group_of(run_folder(Path("runs"), "my-head", 7)) == "my-head"


def test_seeds_have_folders_of_their_own():
    assert len({run_folder(Path("runs"), "bilstm", seed) for seed in range(12)}) == 12


def test_runs_come_before_ensembles(make_run, tmp_path):
    for name, members in (("an-ensemble", ["x"]), ("bilstm-seed1", None), ("bilstm-seed0", None)):
        make_run(name, members=members)
    assert [folder.name for folder in find_predicted(tmp_path / "runs")] == [
        "bilstm-seed0",
        "bilstm-seed1",
        "an-ensemble",
    ]


def test_ensembles_are_no_members(make_run, tmp_path):
    make_run("ensemble", members=["x"])
    make_run("bilstm-seed0")
    assert [folder.name for folder in find_runs(tmp_path / "runs")] == ["bilstm-seed0"]


def test_a_run_that_is_not_finished_is_not_found(make_run, tmp_path):
    make_run("bilstm-seed0")
    write_json(tmp_path / "runs" / "bilstm-seed1" / "config.json", {"head": "bilstm"})
    assert [folder.name for folder in find_runs(tmp_path / "runs")] == ["bilstm-seed0"]


def test_a_folder_without_runs_is_an_error_that_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match=r"runs: no finished runs in it; train some first \(heads train"):
        find_runs(tmp_path / "runs")


def test_an_ensemble_is_known_by_its_members(make_run):
    assert (is_ensemble(make_run("ensemble", members=["x"])), is_ensemble(make_run("bilstm-seed0"))) == (True, False)


def test_the_last_ensemble_is_the_one_written_last(make_run, tmp_path):
    for name, time_s in (("a", 100), ("b", 300), ("c", 200)):
        os.utime(make_run(name, members=["x"]) / "config.json", (time_s, time_s))
    assert find_last_ensemble(tmp_path / "runs").name == "b"


def test_a_later_run_is_no_ensemble(make_run, tmp_path):
    os.utime(make_run("ensemble", members=["x"]) / "config.json", (100, 100))
    make_run("bilstm-seed0")
    assert find_last_ensemble(tmp_path / "runs").name == "ensemble"


def test_no_ensemble_is_an_error_that_says_how_to_make_one(make_run, tmp_path):
    make_run("bilstm-seed0")
    with pytest.raises(DataError, match=r"no ensemble in it; make one \(heads ensemble\), or name a run"):
        find_last_ensemble(tmp_path / "runs")


def test_a_run_without_predictions_for_a_split_is_an_error(make_run):
    with pytest.raises(DataError, match=r"no predictions for test in it \(test_predictions\.pt\)"):
        predictions_of(make_run("bilstm-seed0"), "test")


def test_a_predictions_file_is_read_whatever_the_split(make_run, synthetic):
    file = make_run("bilstm-seed0") / "val_predictions.pt"
    assert predictions_of(file, "test").narration_id == tuple(synthetic.segments("validation").narration_id)


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.pt: no such file"):
        predictions_of(tmp_path / "nothing.pt", "validation")


def test_a_run_that_predicts_only_the_test_list_can_be_ensembled(tmp_path):
    folder = tmp_path / "runs" / "bilstm-seed0"
    folder.mkdir(parents=True)
    (folder / "test_predictions.pt").touch()
    assert find_runs(tmp_path / "runs") == [folder]
