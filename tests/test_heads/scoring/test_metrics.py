"""Figures against the challenge's own way written plainly, scikit-learn, and a slow bootstrap; baselines by hand."""

from __future__ import annotations

import math

import numpy as np
import official
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from synthetic import drawn_predictions, labelled_rows, labelled_segments, write_csv

from features.annotations import Segments, read_segments
from features.errors import DataError
from features.predictions import Predictions
from heads.scoring.metrics import (
    Results,
    chance,
    compare,
    draw_videos,
    figures,
    interval,
    log_softmax,
    most_frequent,
    ranked,
    ranked_actions,
)

VERBS, NOUNS = 97, 300
seeds = st.integers(0, 2**32 - 1)


def _logits(rng: np.random.Generator, num_segments: int, num_classes: int) -> np.ndarray:
    """Logits without ties: different sixteenths, so that sums with whole numbers are exact in float32."""
    return np.stack([rng.permutation(num_classes) for _ in range(num_segments)]).astype(np.float32) / 16


def _random_logits_and_labels(seed: int, num_segments: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logits of verb and noun and labels that are often, but not always, among the best."""
    rng = np.random.default_rng(seed)
    verb, noun = _logits(rng, num_segments, VERBS), _logits(rng, num_segments, NOUNS)
    return verb, noun, *_labels(rng, verb, noun)


def _labels(rng: np.random.Generator, verb: np.ndarray, noun: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(len(verb))
    verb_class = np.argsort(-verb, axis=1)[rows, rng.integers(0, 8, len(verb))]
    noun_class = np.argsort(-noun, axis=1)[rows, rng.integers(0, 8, len(verb))]
    return verb_class, noun_class


def _results(verb, noun, verb_class, noun_class, *, num_videos: int = 3, parts=None) -> Results:
    """Results of logits against labels; segments lie in videos by turns."""
    names = [f"P01_{index % num_videos:02}_{index}" for index in range(len(verb))]
    table = pd.DataFrame(
        {
            "narration_id": names,
            "video_id": [name[:6] for name in names],
            "verb_class": verb_class,
            "noun_class": noun_class,
        }
    )
    return compare(Predictions(tuple(names), verb, noun, "drawn"), Segments(table, "by hand"), parts)


def _points(results: Results) -> dict[str, float]:
    return {name: float(value[0]) for name, value in figures(results).items()}


def _probabilities(logits: np.ndarray) -> list[float]:
    weights = [math.exp(float(value) - float(logits.max())) for value in logits]
    return [weight / math.fsum(weights) for weight in weights]


# ---- against independent counts

KINDS = ("usual", "tied", "all tied", "huge", "offset", "extreme")


def _scores(kind: str, rng: np.random.Generator, num_segments: int, num_classes: int) -> np.ndarray:
    """Scores as heads give them, and as they should not."""
    shape = (num_segments, num_classes)
    generators = {
        "usual": lambda: rng.normal(0, 3, shape),
        "tied": lambda: rng.integers(0, 4, shape),
        "all tied": lambda: np.full(shape, rng.normal()),
        "huge": lambda: rng.normal(0, 1e4, shape),
        "offset": lambda: rng.normal(0, 3, shape) + rng.normal(0, 500, (num_segments, 1)),
        "extreme": lambda: rng.choice([-3e38, -1e3, 0, 1e3, 3e38], shape),
    }
    return generators[kind]().astype(np.float32)


@given(
    seed=seeds,
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    num_segments=st.integers(1, 25),
    num_classes=st.integers(1, 97),
)
@settings(deadline=None, max_examples=60)
def test_all_figures_are_those_of_the_challenges_way_written_plainly(seed, kinds, num_segments, num_classes):
    rng = np.random.default_rng(seed)
    verb = _scores(kinds[0], rng, num_segments, VERBS)
    noun = _scores(kinds[1], rng, num_segments, NOUNS)
    verb_class, noun_class = (rng.integers(0, num_classes, num_segments) for _ in range(2))
    is_likely = rng.random(num_segments) < 0.7  # ties among the best are where orders differ
    for row in np.flatnonzero(is_likely):
        pairs = official.best_actions(verb[row], noun[row])
        verb_class[row], noun_class[row] = pairs[rng.integers(8)]
    tail = {"verb": rng.random(num_segments) < 0.5, "noun": rng.random(num_segments) < 0.5}
    parts = {"tail": {**tail, "action": tail["verb"] | tail["noun"]}}

    actual = _points(_results(verb, noun, verb_class, noun_class, parts=parts))

    truth = {"verb": verb_class.tolist(), "noun": noun_class.tolist()}
    truth["action"] = list(zip(truth["verb"], truth["noun"], strict=True))
    hits = official.hits(verb, noun, truth["action"])
    confidence = official.confidences(verb, noun)
    expected = {name: official.percent(task_hits) for name, task_hits in hits.items()}
    for task in ("verb", "noun", "action"):
        for k in (1, 5):
            task_hits = hits[f"{task}@{k}"]
            expected[f"{task} mean-class@{k}"] = official.mean_class(task_hits, truth[task])
            in_tail = [value for value, is_tail in zip(task_hits, parts["tail"][task], strict=True) if is_tail]
            if in_tail:
                expected[f"tail {task}@{k}"] = official.percent(in_tail)
        expected[f"{task} calibration"] = official.calibration(confidence[task], hits[f"{task}@1"])
    assert actual == pytest.approx(expected, rel=0, abs=1e-9)


@given(seed=seeds)
@settings(deadline=None, max_examples=30)
def test_verb_and_noun_figures_are_those_of_scikit_learn(seed):
    verb, noun, verb_class, noun_class = _random_logits_and_labels(seed, 20)
    points = _points(_results(verb, noun, verb_class, noun_class))
    for task, logits, truth in (("verb", verb, verb_class), ("noun", noun, noun_class)):
        for k in (1, 5):
            expected = top_k_accuracy_score(truth, logits, k=k, labels=range(logits.shape[1]))
            assert points[f"{task}@{k}"] == pytest.approx(100 * expected)
        is_present = np.isin(logits.argmax(axis=1), truth)  # scikit-learn warns of answers that no segment has
        if is_present.all():
            expected = balanced_accuracy_score(truth, logits.argmax(axis=1))
            assert points[f"{task} mean-class@1"] == pytest.approx(100 * expected)


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
    points = _points(_results(verb, noun, verb_class, noun_class))
    for k in (1, 5):
        hits = [pair in pairs[:k] for pair, pairs in zip(zip(verb_class, noun_class, strict=True), best, strict=True)]
        assert points[f"action@{k}"] == pytest.approx(100 * sum(hits) / 3)


@given(seed=seeds, k=st.integers(1, 20), kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)))
@settings(deadline=None, max_examples=40)
def test_the_best_actions_are_those_of_exact_sums_and_of_equals_the_one_of_the_lowest_ids(seed, k, kinds):
    rng = np.random.default_rng(seed)
    verb, noun = _scores(kinds[0], rng, 2, VERBS), _scores(kinds[1], rng, 2, NOUNS)
    expected = [[v * NOUNS + n for v, n in official.best_actions(verb[row], noun[row])[:k]] for row in range(len(verb))]
    assert ranked_actions(verb, noun, k).tolist() == expected


@given(seed=seeds)
@settings(deadline=None, max_examples=30)
def test_an_action_is_right_first_when_both_its_verb_and_its_noun_are(seed):
    verb, noun, verb_class, noun_class = _random_logits_and_labels(seed, 20)
    is_right = (verb.argmax(axis=1) == verb_class) & (noun.argmax(axis=1) == noun_class)
    assert _points(_results(verb, noun, verb_class, noun_class))["action@1"] == pytest.approx(100 * is_right.mean())


@given(seed=seeds, shift=st.integers(-1000, 1000))
@settings(deadline=None, max_examples=30)
def test_a_constant_added_to_a_row_changes_nothing(seed, shift):
    verb, noun, verb_class, noun_class = _random_logits_and_labels(seed, 10)
    expected = _points(_results(verb, noun, verb_class, noun_class))
    verb[3] += shift
    noun[7] -= shift
    assert _points(_results(verb, noun, verb_class, noun_class)) == expected


@given(seed=seeds)
@settings(deadline=None, max_examples=20)
def test_the_order_of_segments_changes_nothing(seed):
    arrays = _random_logits_and_labels(seed, 10)
    order = np.random.default_rng(seed).permutation(10)
    points = _points(_results(*(values[order] for values in arrays)))
    assert points == pytest.approx(_points(_results(*arrays)))


@given(seed=seeds, offset=st.sampled_from([0.0, 500.0]))
@settings(deadline=None, max_examples=20)
def test_without_ties_the_order_is_that_of_the_challenges_sort(seed, offset):
    rng = np.random.default_rng(seed)
    # In float64, in which no two of so few numbers are equal.
    verb, noun = (rng.normal(0, 3, (2, width)) + rng.normal(0, offset, (2, 1)) for width in (VERBS, NOUNS))
    for task_scores in (verb, noun):
        assert ranked(task_scores, 20).tolist() == [official.sorted_classes(row)[:20].tolist() for row in task_scores]
    expected = [[v * NOUNS + n for v, n in official.sorted_actions(verb[row], noun[row])[:20]] for row in range(2)]
    assert ranked_actions(verb, noun, 20).tolist() == expected


@pytest.mark.parametrize("num_classes", [VERBS, NOUNS])
def test_of_equal_scores_the_lower_id_comes_first(num_classes):
    scores = np.random.default_rng(0).integers(0, 3, (50, num_classes)).astype(np.float32)
    assert ranked(scores, 5).tolist() == [official.best_classes(row)[:5] for row in scores]


def test_where_nothing_differs_ids_decide():
    constant = np.full((1, VERBS), 0.3, np.float32), np.full((1, NOUNS), -7, np.float32)
    assert ranked(constant[1], 5).tolist() == [[0, 1, 2, 3, 4]]
    assert ranked_actions(*constant, 5).tolist() == [[0, 1, 2, 3, 4]]  # verb 0 with nouns 0 to 4


def test_saturated_scores_are_ranked_by_their_ids_and_the_others_below():
    verb, noun = np.zeros((1, VERBS), np.float32), np.zeros((1, NOUNS), np.float32)
    verb[0, [7, 30]] = 1
    noun[0, [200, 4]] = 1
    expected = [7 * NOUNS + 4, 7 * NOUNS + 200, 30 * NOUNS + 4, 30 * NOUNS + 200, 0 * NOUNS + 4]
    assert ranked_actions(verb, noun, 5).tolist() == [expected]


def test_a_pair_of_the_same_sum_is_ranked_by_its_verb_first():
    verb, noun = np.zeros((1, VERBS), np.float32), np.zeros((1, NOUNS), np.float32)
    verb[0, [3, 5]] = 2, 3  # 5 is best; 3 with the best noun is as good as 5 with the second best
    noun[0, [8, 9]] = 2, 3
    assert ranked_actions(verb, noun, 4).tolist() == [[5 * NOUNS + 9, 3 * NOUNS + 9, 5 * NOUNS + 8, 3 * NOUNS + 8]]


def test_log_softmax_of_extreme_logits_is_finite():
    rows = np.array([[1e4, -1e4, 0], [-3e38, 3e38, 0]], dtype=np.float32)
    assert np.isfinite(log_softmax(rows)).all()


def test_probabilities_of_a_row_sum_to_one():
    rows = np.random.default_rng(0).normal(0, 30, (5, NOUNS)).astype(np.float32)
    np.testing.assert_allclose(np.exp(log_softmax(rows)).sum(axis=1), 1)


def test_only_the_figures_that_are_asked_for_are_computed():
    results = _results(*_random_logits_and_labels(0, 10))
    assert _points(results)["noun@5"] == figures(results, only=["noun@5"])["noun@5"][0]
    assert list(figures(results, only=["noun@5"])) == ["noun@5"]


# ---- intervals


def _of_videos(results: Results, counts: np.ndarray, arrays) -> dict[str, float]:
    """All figures of a draw of videos, by scoring the segments of each as often as it was drawn."""
    rows = np.concatenate(
        [np.flatnonzero(results.video == video) for video in np.repeat(np.arange(len(counts)), counts)]
    )
    return _points(_results(*(values[rows] for values in arrays)))


@given(seed=st.integers(0, 99))
@settings(deadline=None, max_examples=8)
def test_bootstrap_figures_are_those_of_segments_drawn_by_video_and_scored_anew(seed):
    arrays = _random_logits_and_labels(seed, 30)
    results = _results(*arrays, num_videos=4)
    counts = draw_videos(results, draws=10, seed=seed)
    bootstrap = figures(results, counts)
    for index, draw in enumerate(counts):
        expected = _of_videos(results, draw, arrays)
        assert {name: values[index] for name, values in bootstrap.items()} == pytest.approx(expected, abs=1e-9)


def test_each_draw_has_as_many_videos_as_there_are():
    counts = draw_videos(_results(*_random_logits_and_labels(0, 30), num_videos=7), draws=50)
    assert (counts.shape, set(counts.sum(axis=1))) == ((50, 7), {7})


def test_an_interval_holds_the_middle_of_the_draws():
    assert interval(np.arange(1001.0)) == (25.0, 975.0)


def test_a_draw_without_a_part_does_not_spoil_the_interval():
    assert interval(np.array([np.nan, *np.arange(1001.0)])) == (25.0, 975.0)


def _random_results_by_video(rng: np.random.Generator, num_videos: int, size: int) -> Results:
    """Verbs that are right with a probability of the video's own, 0.5 on average."""
    chance_of_video = rng.beta(3, 3, num_videos)
    is_right = rng.random((num_videos, size)) < chance_of_video[:, None]
    verb, noun = (np.tile(-np.arange(n, dtype=np.float32) / n, (num_videos * size, 1)) for n in (VERBS, NOUNS))
    verb[np.arange(len(verb)), np.where(is_right.T.ravel(), 0, 1)] = 1  # segments lie in videos by turns
    zeros = np.zeros(len(verb), dtype=int)
    return _results(verb, noun, zeros, zeros, num_videos=num_videos)


def test_intervals_hold_the_true_accuracy_as_often_as_they_promise():
    rng = np.random.default_rng(0)
    is_inside = []
    for _ in range(150):
        results = _random_results_by_video(rng, 40, 5)
        low, high = interval(figures(results, draw_videos(results, draws=400), only=["verb@1"])["verb@1"])
        is_inside.append(low <= 50 <= high)
    assert 0.88 <= np.mean(is_inside) <= 0.99


# ---- predictions against segments


@pytest.fixture
def segments(tmp_path):
    return read_segments(write_csv(tmp_path / "val.csv", labelled_rows(("P01_02",), 12, np.random.default_rng(0))))


def test_predictions_are_matched_to_segments_by_name(segments):
    predictions = drawn_predictions(segments)
    other_order = predictions.aligned(predictions.narration_id[::-1])
    assert _points(compare(other_order, segments)) == _points(compare(predictions, segments))


def test_results_are_as_many_as_the_segments(segments):
    assert len(compare(drawn_predictions(segments), segments)) == 12


def test_a_segment_without_prediction_is_an_error_that_names_it(segments):
    subset = segments.where(np.arange(12) < 11)
    with pytest.raises(DataError, match="no prediction for 1 segments: P01_02_9"):
        compare(drawn_predictions(subset), segments)


# ---- baselines


TRAIN = labelled_segments(*[(0, 0)] * 4, *[(0, 1)] * 3, *[(1, 2)] * 2, (2, 2), (3, 2), (4, 3), (5, 3))


def test_chance_counts_the_classes_that_training_shows():
    accuracies = chance(TRAIN)
    assert {key: round(value, 6) for key, value in accuracies.items()} == {
        "verb@1": round(100 / 6, 6),  # 0 to 5
        "verb@5": round(500 / 6, 6),
        "noun@1": 25.0,  # 0 to 3: five of four classes are never wrong
        "noun@5": 100.0,
        "action@1": round(100 / 7, 6),
        "action@5": round(500 / 7, 6),
    }


def test_most_frequent_answers_what_training_shows_most():
    validation = labelled_segments((0, 2), (1, 0), (0, 0), (5, 4))
    # First verb 0, noun 2 (four times; so is 0, of a lower id), action (0, 0).
    assert most_frequent(TRAIN, validation) == {
        "verb@1": 50.0,
        "verb@5": 75.0,  # 0, 1, then three of the four that are seen once: 2, 3, 4
        "noun@1": 50.0,
        "noun@5": 75.0,
        "action@1": 25.0,
        "action@5": 25.0,
    }
