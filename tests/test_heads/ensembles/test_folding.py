"""Scores of actions folded into verbs and nouns, against the table of all pairs, and fitted to what it must find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probabilities import softmax
from synthetic import labelled_segments

from features.errors import DataError
from features.predictions import Predictions
from heads.ensembles.fitting import ALL, cross_fitted
from heads.ensembles.folding import folded
from heads.ensembles.posthoc import Correction, CorrectionFitter, Prior, prior_of
from heads.ensembles.settings import EnsembleConfig
from heads.ensembles.survey import gain
from heads.scoring.metrics import compare, log_softmax

PAIRS = np.array([(3, 4), (0, 299), (0, 0), (1, 4), (96, 7), (3, 2)])


def _predictions(num: int, seed: int, *, scale: float = 2.0) -> Predictions:
    rng = np.random.default_rng(seed)
    verb, noun, action = (rng.normal(0, scale, (num, width)).astype(np.float32) for width in (97, 300, len(PAIRS)))
    return Predictions(tuple(f"P01_01_{index}" for index in range(num)), verb, noun, "drawn", action, PAIRS)


@pytest.fixture(scope="module")
def prior() -> Prior:
    return prior_of(labelled_segments(*map(tuple, PAIRS.tolist())))


@settings(max_examples=15, deadline=None)
@given(power=st.floats(0, 1), seed=st.integers(0, 1000), scale=st.sampled_from([0.1, 3.0, 30.0]))
def test_it_is_what_the_table_of_all_pairs_sums_up_to(power, seed, scale):
    predictions = _predictions(3, seed, scale=scale)
    verb, noun = log_softmax(predictions.verb), log_softmax(predictions.noun)
    action = np.full((3, 97, 300), np.log(1e-12))
    action[:, PAIRS[:, 0], PAIRS[:, 1]] = log_softmax(predictions.action).clip(min=np.log(1e-12))
    table = softmax(((1 - power) * (verb[:, :, None] + noun[:, None, :]) + power * action).reshape(3, -1))
    table = table.reshape(3, 97, 300)
    result = folded(verb, noun, predictions.action, PAIRS, power=power)
    np.testing.assert_allclose(np.exp(result[0]), table.sum(axis=2), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(np.exp(result[1]), table.sum(axis=1), rtol=1e-6, atol=1e-12)


def test_rows_do_not_depend_on_how_many_go_together(monkeypatch):
    predictions = _predictions(7, 0)
    arguments = (log_softmax(predictions.verb), log_softmax(predictions.noun), predictions.action, PAIRS)
    whole = folded(*arguments, power=0.5)
    monkeypatch.setattr("heads.ensembles.folding._AT_ONCE", 3)
    for ours, expected in zip(folded(*arguments, power=0.5), whole, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12)


@settings(max_examples=15, deadline=None)
@given(choice=st.integers(0, len(PAIRS) - 1), seed=st.integers(0, 1000))
def test_an_action_that_is_certain_gives_exactly_its_verb_and_its_noun(prior, choice, seed):
    predictions = _predictions(2, seed)
    certain = np.where(np.arange(len(PAIRS)) == choice, 0.0, -1e4).astype(np.float32)
    result = Correction(action_power=1.0).apply(replace(predictions, action=np.stack([certain] * 2)), prior, source="")
    verb, noun = PAIRS[choice]
    for logs, label in ((result.verb, verb), (result.noun, noun)):
        expected = np.zeros(logs.shape[1], dtype=np.float32)
        expected[label] = 1
        np.testing.assert_allclose(np.exp(logs), np.stack([expected] * 2), rtol=0, atol=3e-8)
        assert (np.exp(logs[:, label]) == 1).all()


def test_without_power_nothing_changes(prior):
    predictions = _predictions(5, 0)
    assert folded(
        np.log(softmax(predictions.verb)), np.log(softmax(predictions.noun)), predictions.action, PAIRS, power=0
    )[0] == pytest.approx(np.log(softmax(predictions.verb)), abs=1e-9)
    result = Correction().apply(predictions, prior, source="")
    np.testing.assert_allclose(np.exp(result.verb), softmax(predictions.verb), rtol=1e-5)
    np.testing.assert_array_equal(result.action, predictions.action)


def test_extreme_logits_stay_finite(prior):
    predictions = _predictions(3, 0)
    predictions.verb[:, 3], predictions.noun[:, 7], predictions.action[:, 0] = 1e4, -1e4, -1e4
    result = Correction(action_power=0.7).apply(predictions, prior, source="")
    assert np.isfinite(result.verb).all()
    assert np.isfinite(result.noun).all()


def test_without_scores_of_actions_it_is_refused(prior):
    predictions = _predictions(3, 0).without_actions()
    with pytest.raises(DataError, match="drawn: no member that counts has scores of actions"):
        Correction(action_power=0.5).apply(predictions, prior, source="")


# ---- fitted


def _knowing(num_videos: int, *, of_action: float) -> tuple[Predictions, np.ndarray, np.ndarray]:
    """Predictions whose verbs and nouns know a little of the labels, and whose actions so much; labels and videos.

    Where actions know nothing, their list does not either: any verb and any noun is as likely as those in it.
    """
    rng = np.random.default_rng(1)
    num = 20 * num_videos
    chosen = rng.integers(0, len(PAIRS), num)
    labels = PAIRS[chosen] if of_action else rng.integers(0, (97, 300), (num, 2))
    predictions = _predictions(num, 2, scale=1.0)
    rows = np.arange(num)
    predictions.verb[rows, labels[:, 0]] += 2.0
    predictions.noun[rows, labels[:, 1]] += 2.0
    predictions.action[rows, chosen] += of_action
    return predictions, labels, np.repeat(np.arange(num_videos), 20)


def test_the_power_is_high_where_actions_know_more(prior):
    predictions, labels, _ = _knowing(10, of_action=5.0)
    truth = {"verb": labels[:, 0], "noun": labels[:, 1]}
    assert CorrectionFitter(predictions, truth, prior).fit(fold_actions=True).action_power > 0


def test_the_power_is_0_where_verbs_and_nouns_are_right_already(prior):
    predictions, _, _ = _knowing(2, of_action=0.0)
    truth = {"verb": predictions.verb.argmax(axis=1), "noun": predictions.noun.argmax(axis=1)}
    assert CorrectionFitter(predictions, truth, prior).fit(fold_actions=True).action_power == 0


@pytest.mark.parametrize(("of_action", "helps"), [(4.0, True), (0.0, False)])
def test_the_cross_fitted_gain_is_that_of_what_actions_know(prior, of_action, helps):
    predictions, labels, video = _knowing(20, of_action=of_action)
    truth = {"verb": labels[:, 0], "noun": labels[:, 1]}
    settings = EnsembleConfig(fold_actions=True)
    segments = labelled_segments(*map(tuple, labels.tolist()))
    segments.table["video_id"] = [f"P01_{number:02d}" for number in video]
    _, means = cross_fitted([predictions], 1, None, truth, video, settings=settings, prior=prior, source="")
    results = [compare(mean, segments) for mean in (means[ALL], means["none"])]
    points, low, high = gain(*results, "action@1")
    assert (points > 5 and low > 0) if helps else low <= 0 <= high
    assert means[ALL].action is not None
