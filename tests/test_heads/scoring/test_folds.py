"""Which runs are the folds of one head."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.files import write_json
from heads.scoring.folds import join_folds


@pytest.fixture
def run(tmp_path):
    """Write the record of a run; return its folder."""

    def write(name: str, split: str, **settings: object) -> Path:
        folder = tmp_path / name
        record = {"head": "mlp", "seed": int(name[-1]), "lr": 1e-3, "epochs": 30, "train_csv": "lists/train.csv"}
        write_json(folder / "config.json", {**record, "split": split, **settings})
        return folder

    return write


def test_all_folds_of_a_head_are_one_member_and_others_keep_their_places(run):
    first, other, second = run("b-seed0", "fold:1/2"), run("c-seed0", "official"), run("a-seed0", "fold:0/2")
    assert [member.paths for member in join_folds([first, other, second])] == [(second, first), (other,)]


def test_a_member_of_folds_has_their_name_and_split(run):
    (member,) = join_folds([run(f"fold{fold}-seed3", f"fold:{fold}/3") for fold in range(3)])
    assert (member.path.name, member.split) == ("fold*-seed3", "fold:*/3")


def test_folds_that_are_not_all_there_stay_apart(run):
    runs = [run("a-seed0", "fold:0/3"), run("b-seed0", "fold:2/3")]
    assert [member.paths for member in join_folds(runs)] == [(run,) for run in runs]


@pytest.mark.parametrize("settings", [{"lr": 3e-3}, {"head": "tcn"}, {"train_csv": "lists/other.csv"}])
def test_folds_of_another_head_or_list_are_not_joined(run, settings):
    runs = [run("a-seed0", "fold:0/2"), run("b-seed0", "fold:1/2", **settings)]
    assert [member.paths for member in join_folds(runs)] == [(run,) for run in runs]


@pytest.mark.parametrize("chosen", [{"epochs": 31, "train_segments": 7}, {"select": "last", "validation_segments": 7}])
def test_what_a_run_chose_for_its_numbers_of_segments_may_differ(run, chosen):
    runs = [run("a-seed0", "fold:0/2"), run("b-seed0", "fold:1/2", **chosen)]
    assert [member.paths for member in join_folds(runs)] == [tuple(runs)]


def test_seeds_are_joined_each_by_itself(run):
    runs = [run(f"fold{fold}-seed{seed}", f"fold:{fold}/2") for fold in range(2) for seed in range(2)]
    assert [member.path.name for member in join_folds(runs)] == ["fold*-seed0", "fold*-seed1"]


def test_a_fold_per_seed_is_joined_too(run):
    runs = [run(f"cv-seed{fold}", f"fold:{fold}/3") for fold in range(3)]
    assert [member.paths for member in join_folds(runs)] == [tuple(runs)]


def test_two_sets_of_the_same_settings_are_told_apart_by_their_names(run):
    runs = [run(f"{name}{fold}-seed0", f"fold:{fold}/2") for name in ("old", "new") for fold in range(2)]
    assert [member.path.name for member in join_folds(runs)] == ["old*-seed0", "new*-seed0"]


def test_two_numbers_of_folds_are_two_members(run):
    runs = [run(f"of{num}-{fold}-seed0", f"fold:{fold}/{num}") for num in (2, 3) for fold in range(num)]
    assert [len(member.paths) for member in join_folds(runs)] == [2, 3]
