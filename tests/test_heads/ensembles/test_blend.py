"""Weighted means of predictions, in any order and however extreme; weights that find the good, and gain no luck."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probabilities import softmax

from features.annotations import Segments
from features.errors import DataError
from features.predictions import Predictions
from heads.ensembles.blend import (
    KINDS,
    LikelihoodCollector,
    Likelihoods,
    best_classes,
    blend,
    disagreement,
    fit,
    folds_of_videos,
    greedy,
    uniform,
)
from heads.ensembles.fitting import cross_fitted
from heads.ensembles.settings import EnsembleConfig
from heads.scoring.metrics import compare, draw_videos, figures, interval


def _likelihoods(members: list[Predictions], truth: dict[str, np.ndarray], kind: str = "probabilities") -> Likelihoods:
    collector = LikelihoodCollector(truth, kind)
    for member in members:
        collector.add(member)
    return collector.likelihoods()


FITS = {
    "fitted": lambda members, truth: fit(_likelihoods(members, truth), per_task=False),
    "fitted to logits": lambda members, truth: fit(_likelihoods(members, truth, "logits"), per_task=False),
    "fitted per task": lambda members, truth: fit(_likelihoods(members, truth), per_task=True),
    "greedy": lambda members, truth: greedy(_likelihoods(members, truth), per_task=False),
    "greedy per task": lambda members, truth: greedy(_likelihoods(members, truth), per_task=True),
}


def _random_member(seed: int, *, scale: float = 3.0, num_segments: int = 6) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(
        tuple(f"P01_01_{index}" for index in range(num_segments)),
        rng.normal(0, scale, (num_segments, 97)).astype(np.float32),
        rng.normal(0, scale, (num_segments, 300)).astype(np.float32),
        f"member {seed}",
    )


def _mean(members: list[Predictions], kind: str = "probabilities") -> Predictions:
    return blend(members, uniform(len(members)), kind, source="ensemble")


# ---- the mean


@given(num=st.integers(1, 6), seed=st.integers(0, 99), scale=st.floats(0, 20), kind=st.sampled_from(KINDS))
@settings(deadline=None, max_examples=40)
def test_an_ensemble_of_equals_is_the_member(num, seed, scale, kind):
    member = _random_member(seed, scale=scale)
    ensemble = _mean([member] * num, kind)
    np.testing.assert_allclose(np.exp(ensemble.noun.astype(np.float64)), softmax(member.noun), rtol=1e-4, atol=1e-12)


@given(order=st.permutations(range(4)), kind=st.sampled_from(KINDS))
@settings(deadline=None, max_examples=30)
def test_the_order_of_members_does_not_matter(order, kind):
    members = [_random_member(seed) for seed in range(4)]
    expected = _mean(members, kind)
    ensemble = _mean([members[index] for index in order], kind)
    np.testing.assert_allclose(ensemble.verb, expected.verb, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("task", ["verb", "noun"])
def test_the_mean_of_probabilities_is_that(task):
    members = [_random_member(seed) for seed in range(3)]
    weights = {"verb": np.array([0.5, 0.25, 0.25]), "noun": np.array([0.0, 0.1, 0.9])}
    expected = np.average([softmax(getattr(member, task)) for member in members], axis=0, weights=weights[task])
    mean = getattr(blend(members, weights, "probabilities", source=""), task)
    np.testing.assert_allclose(np.exp(mean.astype(np.float64)), expected, rtol=1e-5)


def test_the_mean_of_logits_is_the_geometric_mean_of_probabilities():
    members = [_random_member(seed) for seed in range(3)]
    product = np.prod([softmax(member.noun) for member in members], axis=0) ** (1 / 3)
    expected = product / product.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(_mean(members, "logits").noun.astype(np.float64)), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_on_a_members_row_does_not_give_it_more_weight(kind):
    first, second = _random_member(0), _random_member(1)
    shifted_member = Predictions(second.narration_id, second.verb + 64, second.noun + 64, "shifted")
    np.testing.assert_allclose(_mean([first, shifted_member], kind).noun, _mean([first, second], kind).noun, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_without_weight_does_not_count(kind):
    first, second = _random_member(0), _random_member(1)
    second.verb[:] = -1e4
    weights = dict.fromkeys(("verb", "noun"), np.array([1.0, 0.0]))
    ensemble = blend([first, second], weights, kind, source="")
    np.testing.assert_allclose(ensemble.verb, _mean([first], kind).verb, atol=1e-6)


@given(sizes=st.lists(st.sampled_from([1e4, -1e4, 0.0]), min_size=2, max_size=4), kind=st.sampled_from(KINDS))
@settings(deadline=None, max_examples=20)
def test_extreme_logits_stay_finite(sizes, kind):
    members = [_random_member(seed) for seed in range(len(sizes))]
    for member, size in zip(members, sizes, strict=True):
        member.verb[:, 5] = size
        member.noun[::2, 7] = -size
    ensemble = _mean(members, kind)
    assert np.isfinite(ensemble.verb).all()
    assert np.isfinite(ensemble.noun).all()


def test_what_two_sure_members_disagree_on_is_half_and_half():
    first, second = _random_member(0), _random_member(1)
    first.verb[:, 3], second.verb[:, 8] = 1e4, 1e4
    probabilities = np.exp(_mean([first, second]).verb)
    np.testing.assert_allclose(probabilities[:, [3, 8]], 0.5, rtol=1e-6)


# ---- weights that are fitted


def _skilled_member(seed: int, truth: dict[str, np.ndarray], *, verb: float, noun: float) -> Predictions:
    """A member that gives the true class so much more than the noise."""
    num = len(truth["verb"])
    member = _random_member(seed, scale=1.0, num_segments=num)
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
    weights = FITS[name]([_skilled_member(seed, truth, verb=2, noun=2) for seed in range(3)], truth)
    for task_weights in weights.values():
        assert task_weights.min() >= 0
        assert task_weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("name", FITS)
def test_weights_trust_whom_the_labels_speak_for(name):
    truth = _truth(60)
    members = [
        _random_member(0, num_segments=60),
        _skilled_member(1, truth, verb=9, noun=9),
        _random_member(2, num_segments=60),
    ]
    weights = FITS[name](members, truth)
    assert [int(task_weights.argmax()) for task_weights in weights.values()] == [1, 1]
    assert min(task_weights.max() for task_weights in weights.values()) > 0.9


@pytest.mark.parametrize("name", ["fitted per task", "greedy per task"])
def test_each_task_may_trust_another_member(name):
    truth = _truth(60)
    members = [_skilled_member(0, truth, verb=9, noun=0), _skilled_member(1, truth, verb=0, noun=9)]
    weights = FITS[name](members, truth)
    assert (weights["verb"][0], weights["noun"][1]) > (0.9, 0.9)


@pytest.mark.parametrize("kind", KINDS)
def test_fitted_weights_are_the_likeliest_of_a_grid(kind):
    truth = _truth(50)
    members = [_skilled_member(0, truth, verb=2, noun=3), _skilled_member(1, truth, verb=3, noun=2)]
    fitted_share = fit(_likelihoods(members, truth, kind), per_task=False)["verb"][0]

    def likelihood(share: float) -> float:
        ensemble = blend(members, dict.fromkeys(("verb", "noun"), np.array([share, 1 - share])), kind, source="")
        rows = np.arange(50)
        return float(ensemble.verb[rows, truth["verb"]].mean() + ensemble.noun[rows, truth["noun"]].mean())

    grid = np.linspace(0.005, 0.995, 100)
    assert fitted_share == pytest.approx(grid[np.argmax([likelihood(share) for share in grid])], abs=0.02)


@pytest.mark.parametrize("name", FITS)
@given(order=st.permutations(range(3)))
@settings(deadline=None, max_examples=6)
def test_weights_do_not_depend_on_the_order_of_members(name, order):
    truth = _truth(40)
    members = [_skilled_member(seed, truth, verb=seed, noun=3 - seed) for seed in range(3)]
    expected, weights = FITS[name](members, truth), FITS[name]([members[index] for index in order], truth)
    for task in ("verb", "noun"):
        np.testing.assert_allclose(weights[task], expected[task][list(order)], atol=1e-3)


@pytest.mark.parametrize("name", FITS)
def test_a_member_that_is_sure_and_wrong_leaves_weights_finite(name):
    truth = _truth(20)
    wrong_member = _random_member(0, num_segments=20)
    wrong_member.verb[np.arange(20), truth["verb"]] = -3e38
    weights = FITS[name]([wrong_member, _skilled_member(1, truth, verb=2, noun=2)], truth)
    assert np.isfinite(weights["verb"]).all()
    assert weights["verb"][1] > 0.9


def test_greedy_takes_a_good_member_out_of_many_more_than_once():
    truth = _truth(60)
    members = [_random_member(seed, num_segments=60) for seed in range(40)]
    members[17] = _skilled_member(17, truth, verb=6, noun=6)
    counts = greedy(_likelihoods(members, truth), per_task=False)["verb"] * 50
    np.testing.assert_allclose(counts, counts.round(), atol=1e-9)
    assert counts[17] > 25


# ---- cross-fitting


def _segments(truth: dict[str, np.ndarray], names: tuple[str, ...], video: np.ndarray) -> Segments:
    columns = {"narration_id": names, "video_id": [f"P01_{number:03}" for number in video]}
    columns |= {f"{task}_class": labels for task, labels in truth.items()}
    return Segments(pd.DataFrame(columns), "by hand")


@given(video=st.lists(st.integers(0, 8), min_size=2).filter(lambda numbers: len(set(numbers)) > 1))
@settings(deadline=None)
def test_every_segment_is_in_one_fold_and_every_video_too(video):
    video = np.unique(video, return_inverse=True)[1]
    folds = folds_of_videos(video, source="")
    assert (np.sum(folds, axis=0) == 1).all()
    assert all(not set(video[fold]) & set(video[~fold]) for fold in folds)
    assert len(folds) == min(5, len(set(video)))


def _cross_fitted(members: list[Predictions], truth: dict[str, np.ndarray], video: np.ndarray, name: str):
    kind = "logits" if name == "fitted to logits" else "probabilities"
    fits = {"weights": "greedy" if "greedy" in name else "fitted", "per_task": "per task" in name}
    return cross_fitted(
        members,
        len(members),
        _likelihoods(members, truth, kind),
        truth,
        video,
        settings=EnsembleConfig(kind=kind, **fits),
        prior=None,
        source="ensemble",
    )


@pytest.mark.parametrize("name", FITS)
def test_no_video_is_predicted_by_what_was_fitted_to_it(name):
    """Each fold is predicted by weights that are fitted to the others alone; the ensemble has those of all."""
    truth, video = _truth(30), np.repeat(np.arange(6), 5)
    members = [_skilled_member(seed, truth, verb=seed, noun=3 - seed) for seed in range(3)]
    fitted, predicted = _cross_fitted(members, truth, video, name)
    kind = fitted.settings.kind
    for fold in folds_of_videos(video, source=""):
        weights = FITS[name]([member.rows(~fold) for member in members], {t: y[~fold] for t, y in truth.items()})
        expected = blend([member.rows(fold) for member in members], weights, kind, source="")
        np.testing.assert_array_equal(predicted["all"].rows(fold).noun, expected.noun)
    np.testing.assert_array_equal(fitted.weights["verb"], FITS[name](members, truth)["verb"])
    assert predicted["all"].narration_id == members[0].narration_id


def test_segments_of_a_single_video_cannot_be_cross_fitted():
    with pytest.raises(DataError, match="needs segments of two videos or more"):
        folds_of_videos(np.zeros(6, int), source="ensemble")


@pytest.mark.parametrize("name", FITS)
def test_weights_fitted_to_noise_gain_nothing(name):
    num_segments, video = 600, np.arange(600) % 30
    rng = np.random.default_rng(3)
    truth = {"verb": rng.integers(0, 3, num_segments), "noun": rng.integers(0, 3, num_segments)}
    # Twenty members that draw among the three classes there are: a few are lucky, none knows anything.
    members = []
    for seed in range(20):
        member = _random_member(seed, scale=1.0, num_segments=num_segments)
        member.verb[:, 3:], member.noun[:, 3:] = -9, -9
        members.append(member)
    segments = _segments(truth, members[0].narration_id, video)
    fitted, predicted = _cross_fitted(members, truth, video, name)
    fitted_results = compare(predicted["all"], segments)
    plain_results = compare(_mean(members, fitted.settings.kind), segments)
    weights = draw_videos(fitted_results)
    for task in ("verb", "noun", "action"):
        low, high = interval(
            figures(fitted_results, weights)[f"{task}@1"] - figures(plain_results, weights)[f"{task}@1"]
        )
        assert low <= 0 <= high


# ---- disagreement


def test_disagreement_is_that_counted_over_all_pairs():
    members = [_random_member(seed, num_segments=20) for seed in range(4)]
    for member in members:  # few classes, so that some agree
        member.verb[:, 3:], member.noun[:, 2:] = -99, -99
    best = [(member.verb.argmax(axis=1), member.noun.argmax(axis=1)) for member in members]
    differences = {"verb": [], "noun": [], "action": []}
    for first in range(4):
        for second in range(first):
            for row in range(20):
                is_different = [best[first][task][row] != best[second][task][row] for task in (0, 1)]
                differences["verb"].append(is_different[0])
                differences["noun"].append(is_different[1])
                differences["action"].append(any(is_different))
    expected = {task: 100 * np.mean(flags) for task, flags in differences.items()}
    assert disagreement([best_classes(member) for member in members]) == pytest.approx(expected)


def test_equals_never_disagree():
    assert disagreement([best_classes(_random_member(0))] * 3) == {"verb": 0.0, "noun": 0.0, "action": 0.0}
