"""Ways to split: the published lists, both together, and folds in which nobody is seen in both parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold
from synthetic import CSV, labelled_rows, write_csv

from features.annotations import SplitFiles, find_splits
from features.errors import DataError, OptionError
from heads.data.splits import choose_split, folds_of, scored_csv

PARTICIPANTS = ("P01_01", "P01_102", "P02_01", "P03_01", "P04_101", "P05_01", "P06_01")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> SplitFiles:
    """Thirty segments of six participants to train on, ten of another one to validate on."""
    folder = tmp_path_factory.mktemp("annotations")
    rng = np.random.default_rng(0)
    write_csv(folder / CSV["train"], labelled_rows(PARTICIPANTS, 30, rng))
    write_csv(folder / CSV["validation"], labelled_rows(("P07_01",), 10, rng))
    return find_splits(folder)


def names_of(split) -> tuple[list[str], list[str]]:
    return split.train.narration_id.tolist(), split.validation.narration_id.tolist()


def test_the_official_split_is_the_published_lists(files):
    split = choose_split("official", files)
    assert (len(split.train), len(split.validation)) == (30, 10)
    assert set(split.validation.table.participant_id) == {"P07"}


def test_the_official_split_without_a_validation_list_validates_on_nothing(files):
    assert choose_split("official", replace(files, validation=None)).validation is None


def test_all_trains_on_both_lists_and_validates_on_nothing(files):
    split = choose_split("all", files)
    assert (len(split.train), split.validation) == (40, None)


def test_all_needs_a_validation_list(files):
    with pytest.raises(DataError, match=r"--split-train-val all: there is no EPIC_100_validation\.csv beside "):
        choose_split("all", replace(files, validation=None))


def test_a_training_list_is_always_needed(files):
    with pytest.raises(DataError, match="no training annotations: give --annotations"):
        choose_split("fold:0/2", replace(files, train=None))


# ---- folds


@pytest.mark.parametrize("numfolds_of", [2, 3, 6])
def test_every_segment_is_held_out_by_one_fold(files, numfolds_of):
    held_out = [
        name for fold in range(numfolds_of) for name in names_of(choose_split(f"fold:{fold}/{numfolds_of}", files))[1]
    ]
    assert sorted(held_out) == sorted(choose_split("official", files).train.narration_id)


@pytest.mark.parametrize("fold", range(3))
def test_both_parts_of_a_fold_make_up_the_training_list(files, fold):
    train, validation = names_of(choose_split(f"fold:{fold}/3", files))
    assert sorted(train + validation) == sorted(choose_split("official", files).train.narration_id)


@pytest.mark.parametrize("fold", range(3))
def test_nobody_is_seen_in_both_parts_of_a_fold(files, fold):
    split = choose_split(f"fold:{fold}/3", files)
    assert not set(split.train.table.participant_id) & set(split.validation.table.participant_id)


def test_a_fold_is_the_same_each_time(files):
    assert names_of(choose_split("fold:1/3", files)) == names_of(choose_split("fold:1/3", files))


def testfolds_of_do_not_depend_on_the_order_of_the_list():
    participants = np.array(["P03", "P01", "P02", "P01", "P04", "P02", "P01"])
    order = np.random.default_rng(0).permutation(len(participants))
    np.testing.assert_array_equal(folds_of(participants[order], 3), folds_of(participants, 3)[order])


def test_thefolds_of_of_the_published_participants_stay_what_they_are():
    """Results of cross-validation are compared over months: a fold may not change."""
    participants = np.repeat(["P01", "P02", "P03", "P04", "P05"], [40, 25, 25, 10, 5])
    folds = dict(zip(participants, folds_of(participants, 2).tolist(), strict=True))
    assert folds == {"P01": 0, "P02": 1, "P03": 1, "P04": 0, "P05": 0}


@given(st.lists(st.integers(1, 50), min_size=2, max_size=12), st.data())
def testfolds_of_are_as_even_as_those_of_scikit_learn(counts, data):
    numfolds_of = data.draw(st.integers(2, len(counts)))
    participants = np.repeat([f"P{index:02}" for index in range(len(counts))], counts)
    sklearnfolds_of = GroupKFold(numfolds_of).split(participants, groups=participants)
    sizes = np.bincount(folds_of(participants, numfolds_of), minlength=numfolds_of)
    assert sorted(sizes.tolist()) == sorted(len(held_out) for _, held_out in sklearnfolds_of)


# ---- what is refused


@pytest.mark.parametrize("name", ["", "Official", "fold", "fold:1", "fold:1-3", "fold:-1/3", "fold:1/3 ", "fold:a/b"])
def test_another_way_to_split_is_refused(files, name):
    with pytest.raises(OptionError, match="is none of official, all, fold:I/K") as error:
        choose_split(name, files)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize("name", ["fold:3/3", "fold:0/1", "fold:0/0", "fold:0/7"])
def test_a_fold_that_there_cannot_be_is_refused(files, name):
    with pytest.raises(OptionError, match=f"{name}: 6 participants allow 2 to 6 folds, numbered from 0"):
        choose_split(name, files)


@pytest.mark.parametrize(("name", "expected"), [("official", "validation"), ("fold:0/3", "train"), ("all", None)])
def test_a_run_is_scored_on_the_list_that_holds_its_validation(files, name, expected):
    assert scored_csv(name, files) == (expected and getattr(files, expected))
