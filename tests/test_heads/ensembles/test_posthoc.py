"""What is done to finished predictions: each correction against the plain formula, and fitted to what it must find."""

from __future__ import annotations

import numpy as np
import pytest
from probabilities import softmax
from synthetic import labelled_segments

from features.annotations import Segments
from features.predictions import Predictions
from heads.ensembles.posthoc import Correction, CorrectionFitter, Prior, prior_of


def _random_predictions(seed: int, *, num_segments: int = 8, scale: float = 2.0) -> Predictions:
    rng = np.random.default_rng(seed)
    verb, noun = (rng.normal(0, scale, (num_segments, width)).astype(np.float32) for width in (97, 300))
    return Predictions(tuple(f"P01_01_{index}" for index in range(num_segments)), verb, noun, "drawn")


@pytest.fixture(scope="module")
def train() -> Segments:
    """Three verbs with nouns of their own: 0 with 0 and 1, 1 with 2, 2 rarely with 3."""
    pairs = [(0, 0)] * 60 + [(0, 1)] * 30 + [(1, 2)] * 40 + [(2, 3)] * 4
    return labelled_segments(*pairs)


@pytest.fixture(scope="module")
def prior(train) -> Prior:
    return prior_of(train)


# ---- applied


def test_by_default_nothing_is_done(prior):
    predictions = _random_predictions(0)
    result = Correction().apply(predictions, prior, source="")
    np.testing.assert_allclose(np.exp(result.verb), softmax(predictions.verb), rtol=1e-5)
    np.testing.assert_allclose(np.exp(result.noun), softmax(predictions.noun), rtol=1e-5)


def test_a_temperature_divides_logits(prior):
    predictions = _random_predictions(0)
    result = Correction(temperature=(2.0, 0.5)).apply(predictions, prior, source="")
    np.testing.assert_allclose(np.exp(result.verb), softmax(predictions.verb / 2), rtol=1e-4)
    np.testing.assert_allclose(np.exp(result.noun), softmax(predictions.noun * 2), rtol=1e-4)


def test_logit_adjustment_divides_by_a_power_of_the_frequencies(prior, train):
    predictions = _random_predictions(0)
    counts = np.bincount(train.verb_class, minlength=97).clip(min=1)
    result = Correction(tau=(0.7, 0.0)).apply(predictions, prior, source="")
    expected = softmax(predictions.verb) / (counts / counts.sum()) ** 0.7
    np.testing.assert_allclose(np.exp(result.verb), expected / expected.sum(axis=1, keepdims=True), rtol=1e-4)
    np.testing.assert_allclose(np.exp(result.noun), softmax(predictions.noun), rtol=1e-5)


def test_the_pair_prior_is_folded_back_as_the_marginals_of_all_pairs(prior):
    predictions = _random_predictions(0)
    result = Correction(pair_power=0.6).apply(predictions, prior, source="")
    pairs = (
        softmax(predictions.verb)[:, :, None] * softmax(predictions.noun)[:, None, :] * np.exp(0.6 * prior.log_affinity)
    )
    pairs /= pairs.sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(np.exp(result.verb), pairs.sum(axis=2), rtol=1e-4)
    np.testing.assert_allclose(np.exp(result.noun), pairs.sum(axis=1), rtol=1e-4)


@pytest.mark.parametrize(
    "correction",
    [Correction(temperature=(0.05, 20.0)), Correction(tau=(1.0, 1.0)), Correction(pair_power=1.0)],
    ids=["temperature", "tau", "pairs"],
)
def test_extreme_logits_stay_finite(prior, correction):
    predictions = _random_predictions(0)
    predictions.verb[:, 3], predictions.noun[:, 7] = 1e4, -1e4
    result = correction.apply(predictions, prior, source="")
    assert np.isfinite(result.verb).all()
    assert np.isfinite(result.noun).all()


# ---- the prior


def test_pairs_that_training_shows_are_likelier_than_by_chance_and_others_less_but_possible(prior):
    assert prior.log_affinity[1, 2] > 0.5
    assert prior.log_affinity[1, 0] < -0.5
    assert np.isfinite(prior.log_affinity).all()


def test_the_prior_of_classes_is_their_share(prior, train):
    assert np.exp(prior.log_share["verb"][1]) == pytest.approx(40 / 228)  # 134 segments, 94 verbs as if shown once
    assert np.exp(prior.log_share["verb"][5]) == pytest.approx(1 / 228)


# ---- fitted


def _predictions_and_labels(num_segments: int, temperature: float) -> tuple[Predictions, dict[str, np.ndarray]]:
    """Labels drawn as the probabilities say, and logits that are so many times too small."""
    predictions = _random_predictions(5, num_segments=num_segments, scale=3.0)
    rng = np.random.default_rng(6)
    truth = {
        task: np.array([rng.choice(len(row), p=row) for row in softmax(getattr(predictions, task))])
        for task in ("verb", "noun")
    }
    return Predictions(
        predictions.narration_id, predictions.verb * temperature, predictions.noun * temperature, "drawn"
    ), truth


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_logits_were_made_with_is_found(prior, temperature):
    predictions, truth = _predictions_and_labels(800, temperature)
    correction = CorrectionFitter(predictions, truth, prior).fit(temperature=True)
    assert correction.temperature == pytest.approx((temperature, temperature), rel=0.12)
    assert (correction.tau, correction.pair_power) == ((0.0, 0.0), 0.0)


def test_tau_is_found_where_labels_are_balanced_and_logits_follow_training(prior):
    rng = np.random.default_rng(1)
    truth = {"verb": rng.integers(0, 3, 600), "noun": rng.integers(0, 4, 600)}
    predictions = _random_predictions(2, num_segments=600, scale=0.5)
    rows = np.arange(600)
    for task in ("verb", "noun"):
        logits = getattr(predictions, task)
        logits[rows, truth[task]] += 1.5
        logits += prior.log_share[task].astype(np.float32)
    correction = CorrectionFitter(predictions, truth, prior).fit(adjust=True)
    assert min(correction.tau) >= 0.4
    accuracies = [
        ((candidate.verb.argmax(1) == truth["verb"]) & (candidate.noun.argmax(1) == truth["noun"])).mean()
        for candidate in (predictions, correction.apply(predictions, prior, source=""))
    ]
    assert accuracies[1] > accuracies[0] + 0.05


def test_pairs_are_found_where_nouns_tell_the_verb(prior):
    rng = np.random.default_rng(1)
    pairs = np.array([(0, 0), (0, 1), (1, 2), (2, 3)])[rng.integers(0, 3, 400)]
    truth = {"verb": pairs[:, 0], "noun": pairs[:, 1]}
    predictions = _random_predictions(2, num_segments=400, scale=0.1)
    predictions.verb[:, 3:], predictions.noun[:, 4:] = -9, -9
    predictions.noun[np.arange(400), truth["noun"]] += 6  # nouns are known, verbs are noise
    correction = CorrectionFitter(predictions, truth, prior).fit(pairs=True)
    assert correction.pair_power > 0
    assert (correction.apply(predictions, prior, source="").verb.argmax(axis=1) == truth["verb"]).mean() > 0.95


def test_where_nothing_helps_nothing_is_done(prior):
    predictions = _random_predictions(0, num_segments=40)
    truth = {"verb": predictions.verb.argmax(axis=1), "noun": predictions.noun.argmax(axis=1)}  # all right already
    correction = CorrectionFitter(predictions, truth, prior).fit(adjust=True, pairs=True)
    assert (correction.tau, correction.pair_power) == ((0.0, 0.0), 0.0)
