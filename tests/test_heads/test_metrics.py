"""Accuracies against scikit-learn and against every pair looked at; baselines against what is counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score
from synthetic import drawn_predictions, labelled_rows, write_csv

from features.annotations import Segments, read_segments
from features.errors import DataError
from heads.metrics import accuracies, chance, log_softmax, most_frequent, score_logits, top_actions, top_classes

VERBS, NOUNS = 97, 300
seeds = st.integers(0, 2**32 - 1)


def _logits(rng: np.random.Generator, num_segments: int, num_classes: int) -> np.ndarray:
    """Logits without ties: different sixteenths, so that sums with whole numbers are exact in float32."""
    return np.stack([rng.permutation(num_classes) for _ in range(num_segments)]).astype(np.float32) / 16


def _drawn(seed: int, num_segments: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logits of verb and noun and labels that are often, but not always, among the best."""
    rng = np.random.default_rng(seed)
    verb, noun = _logits(rng, num_segments, VERBS), _logits(rng, num_segments, NOUNS)
    rows = np.arange(num_segments)
    verb_class = np.argsort(-verb, axis=1)[rows, rng.integers(0, 8, num_segments)]
    noun_class = np.argsort(-noun, axis=1)[rows, rng.integers(0, 8, num_segments)]
    return verb, noun, verb_class, noun_class


def _probabilities(logits: np.ndarray) -> list[float]:
    weights = [math.exp(float(value) - float(logits.max())) for value in logits]
    return [weight / math.fsum(weights) for weight in weights]


# ---- against independent counts


@given(seed=seeds)
@settings(deadline=None, max_examples=30)
def test_verb_and_noun_accuracies_are_those_of_scikit_learn(seed):
    verb, noun, verb_class, noun_class = _drawn(seed, 20)
    top = score_logits(verb, noun, verb_class, noun_class).top
    for task, logits, truth in (("verb", verb, verb_class), ("noun", noun, noun_class)):
        for k in (1, 5):
            expected = top_k_accuracy_score(truth, logits, k=k, labels=range(logits.shape[1]))
            assert top[task, k] == pytest.approx(100 * expected)


@given(seed=seeds)
@settings(deadline=None, max_examples=10)
def test_action_accuracies_are_those_of_all_pairs_ranked_by_product(seed):
    rng = np.random.default_rng(seed)
    verb, noun = rng.normal(0, 2, (3, VERBS)), rng.normal(0, 2, (3, NOUNS))
    best = []
    for row in range(3):
        verbs, nouns = _probabilities(verb[row]), _probabilities(noun[row])
        products = {(v, n): verbs[v] * nouns[n] for v in range(VERBS) for n in range(NOUNS)}
        best.append(sorted(products, key=products.get, reverse=True)[:8])
    verb_class, noun_class = np.array([pairs[rng.integers(8)] for pairs in best]).T
    top = score_logits(verb, noun, verb_class, noun_class).top
    for k in (1, 5):
        right = [pair in pairs[:k] for pair, pairs in zip(zip(verb_class, noun_class, strict=True), best, strict=True)]
        assert top["action", k] == pytest.approx(100 * sum(right) / 3)


@given(seed=seeds, k=st.integers(1, 20))
@settings(deadline=None, max_examples=30)
def test_the_best_actions_come_best_first(seed, k):
    rng = np.random.default_rng(seed)
    verb, noun = (log_softmax(rng.normal(0, 2, (1, width))) for width in (VERBS, NOUNS))
    every = (verb[0][:, None] + noun[0][None, :]).ravel()
    assert top_actions(verb, noun, k)[0].tolist() == np.argsort(-every)[:k].tolist()


@given(seed=seeds)
@settings(deadline=None, max_examples=30)
def test_an_action_is_right_first_when_both_its_verb_and_its_noun_are(seed):
    verb, noun, verb_class, noun_class = _drawn(seed, 20)
    both = (verb.argmax(axis=1) == verb_class) & (noun.argmax(axis=1) == noun_class)
    top = score_logits(verb, noun, verb_class, noun_class).top
    assert top["action", 1] == pytest.approx(100 * both.mean())


@given(seed=seeds, shift=st.integers(-1000, 1000))
@settings(deadline=None, max_examples=30)
def test_a_constant_added_to_a_row_changes_nothing(seed, shift):
    verb, noun, verb_class, noun_class = _drawn(seed, 10)
    before = score_logits(verb, noun, verb_class, noun_class)
    verb[3] += shift
    noun[7] -= shift
    assert score_logits(verb, noun, verb_class, noun_class) == before


@given(seed=seeds)
@settings(deadline=None, max_examples=20)
def test_the_order_of_segments_changes_nothing(seed):
    drawn = _drawn(seed, 10)
    order = np.random.default_rng(seed).permutation(10)
    shuffled = score_logits(*(values[order] for values in drawn)).top
    assert shuffled == pytest.approx(score_logits(*drawn).top)


def test_of_equal_classes_the_lower_id_is_first():
    assert top_classes(np.array([[0.0, 2.0, 1.0, 2.0]]), 3).tolist() == [[1, 3, 2]]


def test_log_softmax_of_extreme_logits_is_finite():
    rows = np.array([[1e4, -1e4, 0], [-3e38, 3e38, 0]], dtype=np.float32)
    assert np.isfinite(log_softmax(rows)).all()


def test_probabilities_of_a_row_sum_to_one():
    rows = np.random.default_rng(0).normal(0, 30, (5, NOUNS)).astype(np.float32)
    np.testing.assert_allclose(np.exp(log_softmax(rows)).sum(axis=1), 1)


# ---- predictions against segments


@pytest.fixture
def segments(tmp_path):
    return read_segments(write_csv(tmp_path / "val.csv", labelled_rows(("P01_02",), 12, np.random.default_rng(0))))


def test_predictions_are_matched_to_segments_by_name(segments):
    predictions = drawn_predictions(segments)
    other_order = predictions.aligned(predictions.narration_id[::-1])
    assert accuracies(other_order, segments) == accuracies(predictions, segments)


def test_the_number_of_segments_scored_is_reported(segments):
    assert accuracies(drawn_predictions(segments), segments).num_segments == 12


def test_a_segment_without_prediction_is_an_error_that_names_it(segments):
    first = segments.where(np.arange(12) < 11)
    with pytest.raises(DataError, match="no prediction for 1 segments: P01_02_9"):
        accuracies(drawn_predictions(first), segments)


# ---- baselines


def _labelled(*pairs: tuple[int, int]) -> Segments:
    verb_class, noun_class = zip(*pairs, strict=True)
    names = [f"P01_01_{index}" for index in range(len(pairs))]
    return Segments(
        pd.DataFrame({"narration_id": names, "verb_class": verb_class, "noun_class": noun_class}), "by hand"
    )


TRAIN = _labelled(*[(0, 0)] * 4, *[(0, 1)] * 3, *[(1, 2)] * 2, (2, 2), (3, 2), (4, 3), (5, 3))


def test_chance_counts_the_classes_that_training_shows():
    found = chance(TRAIN)
    assert {key: round(value, 6) for key, value in found.items()} == {
        ("verb", 1): round(100 / 6, 6),  # 0 to 5
        ("verb", 5): round(500 / 6, 6),
        ("noun", 1): 25.0,  # 0 to 3: five of four classes are never wrong
        ("noun", 5): 100.0,
        ("action", 1): round(100 / 7, 6),
        ("action", 5): round(500 / 7, 6),
    }


def test_most_frequent_answers_what_training_shows_most():
    validation = _labelled((0, 2), (1, 0), (0, 0), (5, 4))
    # First verb 0, noun 2 (four times; so is 0, of a lower id), action (0, 0).
    assert most_frequent(TRAIN, validation) == {
        ("verb", 1): 50.0,
        ("verb", 5): 75.0,  # 0, 1, then three of the four that are seen once: 2, 3, 4
        ("noun", 1): 50.0,
        ("noun", 5): 75.0,
        ("action", 1): 25.0,
        ("action", 5): 25.0,
    }
