"""Actions re-scored by those before and after them, against all sequences spelled out and against the true chain."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from features.annotations import Segments
from features.errors import DataError
from features.predictions import Predictions
from heads.ensembles.fitting import NONE, cross_fitted
from heads.ensembles.posthoc import prior_of
from heads.ensembles.settings import EnsembleConfig
from heads.ensembles.succession import Succession, in_videos, rescored, succession_of, timeline_of
from heads.ensembles.survey import gain
from heads.scoring.metrics import compare, log_softmax

# Two verbs share a noun, and two nouns a verb.
ACTIONS = np.array([(0, 0), (0, 1), (1, 1), (2, 5), (3, 7), (4, 9)])
# All have one noun, so that the verb is the action.
VERBS = np.array([(verb, 0) for verb in range(6)])


def _segments(chains: list[np.ndarray], actions: np.ndarray = VERBS) -> Segments:
    """Videos of these actions, one a second; the rows are shuffled, as annotations need be in no order."""
    rows = [
        (f"P01_{video:02d}_{index}", f"P01_{video:02d}", index, *actions[action])
        for video, chain in enumerate(chains)
        for index, action in enumerate(chain)
    ]
    order = np.random.default_rng(0).permutation(len(rows))
    columns = ["narration_id", "video_id", "start_s", "verb_class", "noun_class"]
    table = pd.DataFrame([rows[row] for row in order], columns=columns)
    table["participant_id"], table["stop_s"] = "P01", table.start_s + 1.0
    return Segments(table, "drawn")


def _drawn(transitions: np.ndarray, num_videos: int, length: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    chains = []
    for _ in range(num_videos):
        chain = [int(rng.integers(len(transitions)))]
        while len(chain) < length:
            chain.append(int(rng.choice(len(transitions), p=transitions[chain[-1]])))
        chains.append(np.array(chain))
    return chains


def _share(segments: Segments) -> np.ndarray:
    return np.bincount(segments.verb_class, minlength=len(VERBS)) / len(segments)


def _predictions(segments: Segments, seed: int) -> Predictions:
    """The posterior of each segment's verb after one noisy look, given how often it occurs; the noun is certain."""
    verb, noun = (np.full((len(segments), width), -25.0) for width in (97, 300))
    verb[:, : len(VERBS)] = np.random.default_rng(seed).normal(0, 1, (len(segments), len(VERBS)))
    verb[np.arange(len(segments)), segments.verb_class] += 1.0
    verb[:, : len(VERBS)] += np.log(_share(segments))
    noun[:, 0] = 0.0
    return Predictions(tuple(segments.narration_id), verb.astype(np.float32), noun.astype(np.float32), "drawn")


@pytest.fixture(scope="module")
def transitions() -> np.ndarray:
    return np.random.default_rng(1).dirichlet(np.full(len(VERBS), 0.3), len(VERBS))


@pytest.fixture(scope="module")
def train(transitions) -> Segments:
    return _segments(_drawn(transitions, 60, 40, seed=2), ACTIONS)


def _logs(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return log_softmax(rng.normal(0, 2, (num, 97))), log_softmax(rng.normal(0, 2, (num, 300)))


# ---- counted


def test_transitions_are_those_of_a_plain_count(train):
    succession, rows = succession_of(train), train.table.sort_values(["video_id", "start_s"])
    pairs = list(zip(succession.verb, succession.noun, strict=True))
    edges = zip(succession.before, succession.after, strict=True)
    known = dict(zip(edges, succession.factor, strict=True))
    actions = [pairs.index(pair) for pair in zip(rows.verb_class, rows.noun_class, strict=True)]
    videos = rows.video_id.tolist()
    following = [
        (a, b) for a, b, va, vb in zip(actions[:-1], actions[1:], videos[:-1], videos[1:], strict=True) if va == vb
    ]
    share = np.bincount(actions) / len(actions)
    for before in range(len(pairs)):
        after = [b for a, b in following if a == before]
        total = len(after) + len(set(after))
        probability = [(after.count(b) + len(set(after)) * share[b]) / total for b in range(len(pairs))]
        assert sum(probability) == pytest.approx(1)
        factors = [known.get((before, b), succession.unseen[before]) for b in range(len(pairs))]
        np.testing.assert_allclose(factors * share, probability)


# ---- applied


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_it_is_the_sum_over_all_sequences(train, power):
    succession = succession_of(train)
    num, num_states = 4, len(succession.verb) + 1
    verb, noun = _logs(num, seed=3)
    factors = np.ones((num_states, num_states))
    factors[:-1] = succession.unseen[:, None]
    factors[succession.before, succession.after] = succession.factor
    pairs = np.exp(verb)[:, :, None] * np.exp(noun)[:, None]  # (4, 97, 300)
    seen = np.zeros((97, 300), dtype=bool)
    seen[succession.verb, succession.noun] = True
    states = np.concatenate([pairs[:, succession.verb, succession.noun], pairs[:, ~seen].sum(1, keepdims=True)], axis=1)
    posterior = np.zeros((num, num_states))
    for sequence in itertools.product(range(num_states), repeat=num):
        weight = np.prod(states[np.arange(num), sequence])
        weight *= np.prod([factors[a, b] ** power for a, b in itertools.pairwise(sequence)])
        posterior[np.arange(num), sequence] += weight
    posterior /= posterior.sum(axis=1, keepdims=True)
    expected = pairs * np.where(seen, 0, (posterior[:, -1] / states[:, -1])[:, None, None])
    expected[:, succession.verb, succession.noun] = posterior[:, :-1]
    result = rescored(verb, noun, [np.arange(num)], succession, power=power)
    np.testing.assert_allclose(np.exp(result[0]), expected.sum(axis=2), rtol=1e-6)
    np.testing.assert_allclose(np.exp(result[1]), expected.sum(axis=1), rtol=1e-6)


def test_videos_are_gone_through_apart(train):
    succession, (verb, noun) = succession_of(train), _logs(60, seed=4)
    lengths = [1, 2, 7, 3, 1, 12, 4, 9, 5, 1, 15]
    rows = np.random.default_rng(5).permutation(60)
    videos = sorted(np.split(rows, np.cumsum(lengths)[:-1]), key=len, reverse=True)
    together = rescored(verb, noun, videos, succession, power=1.0)
    for video in videos:
        alone = rescored(verb[video], noun[video], [np.arange(len(video))], succession, power=1.0)
        np.testing.assert_allclose(together[0][video], alone[0], rtol=1e-9)
        np.testing.assert_allclose(together[1][video], alone[1], rtol=1e-9)


def test_where_each_action_is_as_likely_after_any_other_nothing_changes():
    classes = np.arange(5)
    uniform = Succession(classes, classes, classes, classes[::-1].copy(), np.ones(5), np.ones(5))
    verb, noun = _logs(9, seed=6)
    result = rescored(verb, noun, [np.arange(9)], uniform, power=1.0)
    np.testing.assert_allclose(result[0], verb, rtol=1e-6)
    np.testing.assert_allclose(result[1], noun, rtol=1e-6)


def test_segments_are_in_the_order_of_their_starts(train):
    rows = in_videos(train.narration_id[::-1], timeline_of(train))
    names = [list(train.narration_id[::-1][video]) for video in rows]
    assert sorted(names) == [[f"P01_{video:02d}_{index}" for index in range(40)] for video in range(60)]


def test_a_segment_of_no_list_is_named(train):
    with pytest.raises(DataError, match=r"1 predicted segments are in no annotated list.*P09_01_0"):
        in_videos(["P01_00_0", "P09_01_0"], timeline_of(train))


# ---- what it gains


def test_it_gains_what_the_true_chain_gains(transitions):
    train, segments = (_segments(_drawn(transitions, 60, 40, seed=seed)) for seed in (2, 7))
    predictions = _predictions(segments, seed=8)
    verb, noun = log_softmax(predictions.verb), log_softmax(predictions.noun)
    videos = in_videos(segments.narration_id, timeline_of(segments))
    before = _accuracy(verb, segments)
    ours = _accuracy(rescored(verb, noun, videos, succession_of(train), power=1.0)[0], segments)
    # Forward-backward of the chain that the verbs were drawn from, dense and plain.
    observed, states = np.exp(verb[:, : len(VERBS)]) / _share(segments), np.full_like(verb, -np.inf)
    for rows in videos:
        forward, backward = [observed[rows[0]]], [np.ones(len(VERBS))]
        for row in rows[1:]:
            forward.append(observed[row] * (forward[-1] / forward[-1].sum() @ transitions))
        for row in rows[:0:-1]:
            message = observed[row] * backward[-1]
            backward.append(transitions @ (message / message.sum()))
        states[rows, : len(VERBS)] = np.log(np.array(forward) * np.array(backward)[::-1])
    true_chain = _accuracy(states, segments)
    assert true_chain - before > 0.1
    assert ours - before == pytest.approx(true_chain - before, abs=0.02)


def _accuracy(verb: np.ndarray, segments: Segments) -> float:
    return float((verb.argmax(axis=1) == segments.verb_class).mean())


@pytest.mark.parametrize("is_chain", [True, False], ids=["a chain", "independent"])
def test_a_cross_fitted_gain_is_there_only_where_actions_depend_on_each_other(transitions, is_chain):
    law = transitions if is_chain else np.full_like(transitions, 1 / len(transitions))
    # Both lists have the same ids at the same times.
    train, segments = (_segments(_drawn(law, 30, 25, seed=seed)) for seed in (9, 10))
    fitted, by_name = cross_fitted(
        [_predictions(segments, seed=11)],
        1,
        None,
        {"verb": segments.verb_class, "noun": segments.noun_class},
        np.unique(segments.table.video_id, return_inverse=True)[1],
        settings=EnsembleConfig(sequence=True),
        prior=prior_of(train, segments),
        source="the ensemble",
    )
    _, low, high = gain(*(compare(by_name[name], segments) for name in ("sequence", NONE)), "action@1")
    assert low > 0 if is_chain else low <= 0 <= high
    assert fitted.corrections["sequence"].sequence_power > 0 or not is_chain
