"""Ensembles: the mean of probabilities, whatever the order and however extreme; and their folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import drawn_predictions

from features.errors import DataError
from features.files import read_json, write_json
from features.predictions import Predictions, read_predictions, write_predictions
from heads.ensemble import average, write_ensemble


def _drawn(seed: int, *, scale: float = 3.0, num_segments: int = 6) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(
        tuple(f"P01_01_{index}" for index in range(num_segments)),
        rng.normal(0, scale, (num_segments, 97)).astype(np.float32),
        rng.normal(0, scale, (num_segments, 300)).astype(np.float32),
        f"member {seed}",
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Row by row, in the plain way."""
    return np.stack([np.exp(row) / np.exp(row).sum() for row in logits.astype(np.float64)])


# ---- the average


@given(num=st.integers(1, 6), seed=st.integers(0, 99), scale=st.floats(0, 20))
@settings(deadline=None, max_examples=30)
def test_an_ensemble_of_equals_is_the_member(num, seed, scale):
    member = _drawn(seed, scale=scale)
    found = average([member] * num, source="ensemble")
    np.testing.assert_allclose(np.exp(found.noun), _softmax(member.noun), rtol=1e-4, atol=1e-12)


@given(order=st.permutations(range(4)))
@settings(deadline=None, max_examples=24)
def test_the_order_of_members_does_not_matter(order):
    members = [_drawn(seed) for seed in range(4)]
    expected = average(members, source="ensemble")
    found = average([members[index] for index in order], source="ensemble")
    np.testing.assert_allclose(found.verb, expected.verb, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("task", ["verb", "noun"])
def test_the_average_is_the_mean_of_the_members_probabilities(task):
    members = [_drawn(seed) for seed in range(3)]
    expected = np.mean([_softmax(getattr(member, task)) for member in members], axis=0)
    found = getattr(average(members, source="ensemble"), task)
    np.testing.assert_allclose(np.exp(found.astype(np.float64)), expected, rtol=1e-5)


def test_a_constant_on_a_members_row_does_not_give_it_more_weight():
    one, other = _drawn(0), _drawn(1)
    shifted = Predictions(other.narration_id, other.verb + 64, other.noun + 64, "shifted")
    expected = average([one, other], source="ensemble")
    np.testing.assert_allclose(average([one, shifted], source="ensemble").noun, expected.noun, atol=1e-4)


def test_members_may_list_their_segments_in_different_orders():
    one, other = _drawn(0), _drawn(1)
    turned = other.aligned(other.narration_id[::-1])
    np.testing.assert_array_equal(
        average([one, turned], source="ensemble").noun, average([one, other], source="ensemble").noun
    )


@given(sizes=st.lists(st.sampled_from([1e4, -1e4, 0.0]), min_size=2, max_size=4))
@settings(deadline=None, max_examples=20)
def test_extreme_logits_stay_finite(sizes):
    members = [_drawn(seed) for seed in range(len(sizes))]
    for member, size in zip(members, sizes, strict=True):
        member.verb[:, 5] = size
        member.noun[::2, 7] = -size
    found = average(members, source="ensemble")
    assert np.isfinite(found.verb).all()
    assert np.isfinite(found.noun).all()


def test_what_two_sure_members_disagree_on_is_half_and_half():
    one, other = _drawn(0), _drawn(1)
    one.verb[:, 3], other.verb[:, 8] = 1e4, 1e4
    found = np.exp(average([one, other], source="ensemble").verb)
    np.testing.assert_allclose(found[:, [3, 8]], 0.5, rtol=1e-6)


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_segment_that_one_member_lacks_is_named(lacking):
    members = [_drawn(0), _drawn(1)]
    members[lacking] = members[lacking].aligned(members[lacking].narration_id[:-2])
    expected = f"member {lacking}: no prediction for 2 segments: P01_01_4, P01_01_5"
    with pytest.raises(DataError, match=expected):
        average(members, source="ensemble")


def test_no_members_are_an_error():
    with pytest.raises(DataError, match="an ensemble needs members"):
        average([], source="ensemble")


# ---- its folder


@pytest.fixture
def runs(tmp_path, synthetic) -> Path:
    """Three finished runs; the last one predicts validation alone."""
    for seed in range(3):
        folder = tmp_path / "runs" / f"bilstm-seed{seed}"
        write_json(folder / "config.json", {"head": "bilstm", "validation_csv": str(synthetic.csv("validation"))})
        write_predictions(folder / "val_predictions.pt", drawn_predictions(synthetic.segments("validation"), seed=seed))
        if seed < 2:
            write_predictions(folder / "test_predictions.pt", drawn_predictions(synthetic.segments("test"), seed=seed))
    return tmp_path / "runs"


def _members(runs: Path, *seeds: int) -> list[Path]:
    return [runs / f"bilstm-seed{seed}" for seed in seeds]


def test_every_split_that_all_members_predict_is_averaged(runs):
    assert write_ensemble(_members(runs, 0, 1), runs / "both", force=False).splits == ("validation", "test")


def test_a_split_that_a_member_does_not_predict_is_left_out(runs):
    assert write_ensemble(_members(runs, 0, 2), runs / "one", force=False).splits == ("validation",)


def test_the_folder_holds_the_average_of_each_split(runs):
    write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    members = [read_predictions(folder / "test_predictions.pt") for folder in _members(runs, 0, 1)]
    found = read_predictions(runs / "both" / "test_predictions.pt")
    np.testing.assert_array_equal(found.noun, average(members, source="").noun)


def test_the_folder_says_who_its_members_are(runs):
    write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    assert read_json(runs / "both" / "config.json")["members"] == [str(folder) for folder in _members(runs, 0, 1)]


def test_the_same_members_may_be_averaged_again(runs):
    write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    assert write_ensemble(_members(runs, 0, 1), runs / "both", force=False).folder == runs / "both"


def test_an_ensemble_of_other_members_is_kept(runs):
    write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    with pytest.raises(DataError, match="holds an ensemble of 2 other members; --force replaces it"):
        write_ensemble(_members(runs, 0, 1, 2), runs / "both", force=False)


def test_force_replaces_an_ensemble_of_other_members(runs):
    write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    write_ensemble(_members(runs, 1, 2), runs / "both", force=True)
    assert read_json(runs / "both" / "config.json")["members"] == [str(folder) for folder in _members(runs, 1, 2)]


def test_no_prediction_of_the_replaced_members_is_left(runs):
    write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    write_ensemble(_members(runs, 1, 2), runs / "both", force=True)  # these predict validation alone
    assert not (runs / "both" / "test_predictions.pt").exists()


def test_a_run_is_never_replaced_by_an_ensemble(runs):
    with pytest.raises(DataError, match="bilstm-seed2: holds a run, not an ensemble"):
        write_ensemble(_members(runs, 0, 1), runs / "bilstm-seed2", force=True)


def test_members_that_share_no_predictions_are_an_error(runs):
    (runs / "bilstm-seed1" / "val_predictions.pt").unlink()
    with pytest.raises(DataError, match="no predictions that all 2 members have; are the runs finished"):
        write_ensemble(_members(runs, 1, 2), runs / "none", force=False)


def test_a_failed_ensemble_leaves_no_folder(runs, synthetic):
    some = synthetic.segments("test").where(np.arange(10) < 9)
    write_predictions(runs / "bilstm-seed1" / "test_predictions.pt", drawn_predictions(some))
    with pytest.raises(DataError, match="no prediction for 1 segments"):
        write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    assert not (runs / "both").exists()


def test_no_members_leave_no_folder(runs):
    with pytest.raises(DataError, match="needs members"):
        write_ensemble([], runs / "none", force=False)
    assert not (runs / "none").exists()
