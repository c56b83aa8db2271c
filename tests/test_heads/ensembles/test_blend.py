"""Weighted means of predictions, in any order and however extreme; weights that find the good, and gain no luck."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.annotations import Segments
from features.errors import DataError
from features.predictions import Predictions
from heads.ensembles.blend import KINDS, blend, cross_fitted, disagreement, fit, greedy, uniform
from heads.scoring.metrics import compare, draw_videos, figures, interval

FITS = {
    "fitted": lambda members, truth: fit(members, truth, "probabilities", per_task=False),
    "fitted to logits": lambda members, truth: fit(members, truth, "logits", per_task=False),
    "fitted per task": lambda members, truth: fit(members, truth, "probabilities", per_task=True),
    "greedy": lambda members, truth: greedy(members, truth, per_task=False),
    "greedy per task": lambda members, truth: greedy(members, truth, per_task=True),
}


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


def _mean(members: list[Predictions], kind: str = "probabilities") -> Predictions:
    return blend(members, uniform(len(members)), kind, source="ensemble")


# ---- the mean


@given(num=st.integers(1, 6), seed=st.integers(0, 99), scale=st.floats(0, 20), kind=st.sampled_from(KINDS))
@settings(deadline=None, max_examples=40)
def test_an_ensemble_of_equals_is_the_member(num, seed, scale, kind):
    member = _drawn(seed, scale=scale)
    found = _mean([member] * num, kind)
    np.testing.assert_allclose(np.exp(found.noun.astype(np.float64)), _softmax(member.noun), rtol=1e-4, atol=1e-12)


@given(order=st.permutations(range(4)), kind=st.sampled_from(KINDS))
@settings(deadline=None, max_examples=30)
def test_the_order_of_members_does_not_matter(order, kind):
    members = [_drawn(seed) for seed in range(4)]
    expected = _mean(members, kind)
    found = _mean([members[index] for index in order], kind)
    np.testing.assert_allclose(found.verb, expected.verb, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("task", ["verb", "noun"])
def test_the_mean_of_probabilities_is_that(task):
    members = [_drawn(seed) for seed in range(3)]
    weights = {"verb": np.array([0.5, 0.25, 0.25]), "noun": np.array([0.0, 0.1, 0.9])}
    expected = np.average([_softmax(getattr(member, task)) for member in members], axis=0, weights=weights[task])
    found = getattr(blend(members, weights, "probabilities", source=""), task)
    np.testing.assert_allclose(np.exp(found.astype(np.float64)), expected, rtol=1e-5)


def test_the_mean_of_logits_is_the_geometric_mean_of_probabilities():
    members = [_drawn(seed) for seed in range(3)]
    product = np.prod([_softmax(member.noun) for member in members], axis=0) ** (1 / 3)
    expected = product / product.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(_mean(members, "logits").noun.astype(np.float64)), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_on_a_members_row_does_not_give_it_more_weight(kind):
    one, other = _drawn(0), _drawn(1)
    shifted = Predictions(other.narration_id, other.verb + 64, other.noun + 64, "shifted")
    np.testing.assert_allclose(_mean([one, shifted], kind).noun, _mean([one, other], kind).noun, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_without_weight_does_not_count(kind):
    one, other = _drawn(0), _drawn(1)
    other.verb[:] = -1e4
    weights = dict.fromkeys(("verb", "noun"), np.array([1.0, 0.0]))
    found = blend([one, other], weights, kind, source="")
    np.testing.assert_allclose(found.verb, _mean([one], kind).verb, atol=1e-6)


@given(sizes=st.lists(st.sampled_from([1e4, -1e4, 0.0]), min_size=2, max_size=4), kind=st.sampled_from(KINDS))
@settings(deadline=None, max_examples=20)
def test_extreme_logits_stay_finite(sizes, kind):
    members = [_drawn(seed) for seed in range(len(sizes))]
    for member, size in zip(members, sizes, strict=True):
        member.verb[:, 5] = size
        member.noun[::2, 7] = -size
    found = _mean(members, kind)
    assert np.isfinite(found.verb).all()
    assert np.isfinite(found.noun).all()


def test_what_two_sure_members_disagree_on_is_half_and_half():
    one, other = _drawn(0), _drawn(1)
    one.verb[:, 3], other.verb[:, 8] = 1e4, 1e4
    found = np.exp(_mean([one, other]).verb)
    np.testing.assert_allclose(found[:, [3, 8]], 0.5, rtol=1e-6)


# ---- weights that are fitted


def _knowing(seed: int, truth: dict[str, np.ndarray], *, verb: float, noun: float) -> Predictions:
    """A member that gives the true class so much more than the noise."""
    num = len(truth["verb"])
    member = _drawn(seed, scale=1.0, num_segments=num)
    rows = np.arange(num)
    member.verb[rows, truth["verb"]] += verb
    member.noun[rows, truth["noun"]] += noun
    return member


def _truth(num_segments: int, seed: int = 9) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"verb": rng.integers(0, 97, num_segments), "noun": rng.integers(0, 300, num_segments)}


@pytest.mark.parametrize("name", FITS)
def test_weights_are_shares(name):
    truth = _truth(40)
    weights = FITS[name]([_knowing(seed, truth, verb=2, noun=2) for seed in range(3)], truth)
    for of_task in weights.values():
        assert of_task.min() >= 0
        assert of_task.sum() == pytest.approx(1)


@pytest.mark.parametrize("name", FITS)
def test_weights_trust_whom_the_labels_speak_for(name):
    truth = _truth(60)
    members = [_drawn(0, num_segments=60), _knowing(1, truth, verb=9, noun=9), _drawn(2, num_segments=60)]
    weights = FITS[name](members, truth)
    assert [int(of_task.argmax()) for of_task in weights.values()] == [1, 1]
    assert min(of_task.max() for of_task in weights.values()) > 0.9


@pytest.mark.parametrize("name", ["fitted per task", "greedy per task"])
def test_each_task_may_trust_another_member(name):
    truth = _truth(60)
    members = [_knowing(0, truth, verb=9, noun=0), _knowing(1, truth, verb=0, noun=9)]
    weights = FITS[name](members, truth)
    assert (weights["verb"][0], weights["noun"][1]) > (0.9, 0.9)


@pytest.mark.parametrize("kind", KINDS)
def test_fitted_weights_are_the_likeliest_of_a_grid(kind):
    truth = _truth(50)
    members = [_knowing(0, truth, verb=2, noun=3), _knowing(1, truth, verb=3, noun=2)]
    found = fit(members, truth, kind, per_task=False)["verb"][0]

    def likelihood(share: float) -> float:
        mixed = blend(members, dict.fromkeys(("verb", "noun"), np.array([share, 1 - share])), kind, source="")
        rows = np.arange(50)
        return float(mixed.verb[rows, truth["verb"]].mean() + mixed.noun[rows, truth["noun"]].mean())

    grid = np.linspace(0.005, 0.995, 100)
    assert found == pytest.approx(grid[np.argmax([likelihood(share) for share in grid])], abs=0.02)


@pytest.mark.parametrize("name", FITS)
@given(order=st.permutations(range(3)))
@settings(deadline=None, max_examples=6)
def test_weights_do_not_depend_on_the_order_of_members(name, order):
    truth = _truth(40)
    members = [_knowing(seed, truth, verb=seed, noun=3 - seed) for seed in range(3)]
    expected, found = FITS[name](members, truth), FITS[name]([members[index] for index in order], truth)
    for task in ("verb", "noun"):
        np.testing.assert_allclose(found[task], expected[task][list(order)], atol=1e-3)


@pytest.mark.parametrize("name", FITS)
def test_a_member_that_is_sure_and_wrong_leaves_weights_finite(name):
    truth = _truth(20)
    wrong = _drawn(0, num_segments=20)
    wrong.verb[np.arange(20), truth["verb"]] = -3e38
    weights = FITS[name]([wrong, _knowing(1, truth, verb=2, noun=2)], truth)
    assert np.isfinite(weights["verb"]).all()
    assert weights["verb"][1] > 0.9


def test_greedy_takes_a_good_member_out_of_many_more_than_once():
    truth = _truth(60)
    members = [_drawn(seed, num_segments=60) for seed in range(40)]
    members[17] = _knowing(17, truth, verb=6, noun=6)
    counts = greedy(members, truth, per_task=False)["verb"] * 50
    np.testing.assert_allclose(counts, counts.round(), atol=1e-9)
    assert counts[17] > 25


# ---- cross-fitting


def _segments(truth: dict[str, np.ndarray], names: tuple[str, ...], video: np.ndarray) -> Segments:
    columns = {"narration_id": names, "video_id": [f"P01_{one:03}" for one in video]}
    columns |= {f"{task}_class": labels for task, labels in truth.items()}
    return Segments(pd.DataFrame(columns), "by hand")


def test_no_video_is_predicted_by_what_was_fitted_to_it():
    truth, video = _truth(30), np.repeat(np.arange(6), 5)
    member = _drawn(0, num_segments=30)
    member.verb[:, 0] = video  # so that segments say which video they are of
    seen = []

    def fit_to(members, labels):
        fitted_to = set(members[0].verb[:, 0])
        assert len(labels["verb"]) == len(members[0])

        def predict(held_out):
            seen.append((fitted_to, set(held_out[0].verb[:, 0])))
            return {"all": held_out[0]}

        return predict

    found = cross_fitted([member], truth, video, fit_to, source="")["all"]
    assert all(not fitted_to & held_out for fitted_to, held_out in seen)
    assert set.union(*(held_out for _, held_out in seen)) == set(range(6))
    assert found.narration_id == member.narration_id
    np.testing.assert_array_equal(found.noun, member.noun)


def test_segments_of_a_single_video_cannot_be_cross_fitted():
    with pytest.raises(DataError, match="needs segments of two videos or more"):
        cross_fitted([_drawn(0)], _truth(6), np.zeros(6, int), lambda *_: None, source="ensemble")


@pytest.mark.parametrize("name", FITS)
def test_weights_fitted_to_noise_gain_nothing(name):
    num_segments, video = 600, np.arange(600) % 30
    rng = np.random.default_rng(3)
    truth = {"verb": rng.integers(0, 3, num_segments), "noun": rng.integers(0, 3, num_segments)}
    # Twenty members that draw among the three classes there are: a few are lucky, none knows anything.
    members = []
    for seed in range(20):
        member = _drawn(seed, scale=1.0, num_segments=num_segments)
        member.verb[:, 3:], member.noun[:, 3:] = -9, -9
        members.append(member)
    segments = _segments(truth, members[0].narration_id, video)

    def fit_to(chosen, labels):
        weights = FITS[name](chosen, labels)
        return lambda held_out: {"all": blend(held_out, weights, "probabilities", source="")}

    fitted = compare(cross_fitted(members, truth, video, fit_to, source="")["all"], segments)
    plain = compare(_mean(members), segments)
    weights = draw_videos(fitted)
    for task in ("verb", "noun", "action"):
        low, high = interval(figures(fitted, weights)[f"{task}@1"] - figures(plain, weights)[f"{task}@1"])
        assert low <= 0 <= high


# ---- disagreement


def test_disagreement_is_that_counted_over_all_pairs():
    members = [_drawn(seed, num_segments=20) for seed in range(4)]
    for member in members:  # few classes, so that some agree
        member.verb[:, 3:], member.noun[:, 2:] = -99, -99
    best = [(member.verb.argmax(axis=1), member.noun.argmax(axis=1)) for member in members]
    differing = {"verb": [], "noun": [], "action": []}
    for one in range(4):
        for other in range(one):
            for row in range(20):
                differs = [best[one][task][row] != best[other][task][row] for task in (0, 1)]
                differing["verb"].append(differs[0])
                differing["noun"].append(differs[1])
                differing["action"].append(any(differs))
    assert disagreement(members) == pytest.approx({task: 100 * np.mean(of) for task, of in differing.items()})


def test_equals_never_disagree():
    assert disagreement([_drawn(0)] * 3) == {"verb": 0.0, "noun": 0.0, "action": 0.0}
