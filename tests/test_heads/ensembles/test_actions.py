"""The mean of action scores, against probabilities that are averaged plainly, over members with lists of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probabilities import softmax

from features.predictions import Predictions
from heads.ensembles.blend import Part, blend, blends, uniform

NUM = 4
actions = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6, unique=True)


def _member(pairs: list[tuple[int, int]] | None, seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    verb, noun = (rng.normal(size=(NUM, width)).astype(np.float32) for width in (97, 300))
    member = Predictions(tuple(map(str, range(NUM))), verb, noun, "drawn")
    if pairs is None:
        return member
    return replace(member, action=rng.normal(0, 3, (NUM, len(pairs))).astype(np.float32), pairs=np.array(pairs))


def _table(member: Predictions) -> np.ndarray:
    """The probability of each pair of the first 4 verbs and nouns, (N, 4, 4)."""
    table = np.full((NUM, 4, 4), 1e-12)
    table[:, member.pairs[:, 0], member.pairs[:, 1]] = softmax(member.action)
    return table


@settings(max_examples=40, deadline=None)
@given(
    lists=st.lists(st.one_of(st.none(), actions), min_size=1, max_size=4).filter(any),
    kind=st.sampled_from(["probabilities", "logits"]),
    seed=st.integers(0, 1000),
)
def test_it_is_the_mean_over_the_members_that_have_scores(lists, kind, seed):
    members = [_member(pairs, seed + number) for number, pairs in enumerate(lists)]
    shares = np.random.default_rng(seed).dirichlet(np.ones(len(members)), 2)
    mean = blend(members, {"verb": shares[0], "noun": shares[1]}, kind, source="")
    weights = [share for share, member in zip(shares.mean(axis=0), members, strict=True) if member.action is not None]
    tables = np.array([_table(member) for member in members if member.action is not None])
    if kind == "logits":
        tables = np.log(tables)
    expected = np.average(tables, axis=0, weights=weights)
    known = sorted({pair for pairs in lists if pairs for pair in pairs})
    assert sorted(map(tuple, mean.pairs.tolist())) == known
    expected = expected[:, mean.pairs[:, 0], mean.pairs[:, 1]]
    expected = softmax(expected) if kind == "logits" else expected / expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(mean.action), expected, rtol=2e-4, atol=1e-7)
    assert mean.action.dtype == np.float32


def test_a_member_that_does_not_count_gives_no_scores():
    members = [_member([(0, 0), (1, 1)], 0), _member(None, 1)]
    assert blend(members, {task: np.array([0.0, 1.0]) for task in ("verb", "noun")}, "logits", source="").action is None


def test_verbs_and_nouns_are_averaged_as_without_scores_of_actions():
    members = [_member([(0, 0), (1, 1)], 0), _member([(1, 1)], 1)]
    mean = blend(members, uniform(2), "probabilities", source="")
    plain = blend([member.without_actions() for member in members], uniform(2), "probabilities", source="")
    assert (mean.verb.tobytes(), mean.noun.tobytes()) == (plain.verb.tobytes(), plain.noun.tobytes())


def test_a_part_has_the_scores_of_its_segments():
    members = [_member([(0, 0), (1, 1)], 0), _member([(1, 1), (2, 2)], 1)]
    mask = np.array([True, False, True, False])
    whole, part = blends(members, [Part(uniform(2)), Part(uniform(2), mask)], "probabilities", source="")
    np.testing.assert_array_equal(part.action, whole.action[mask])


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_the_order_of_members_makes_no_difference(kind):
    members = [_member(pairs, seed) for seed, pairs in enumerate([[(0, 0), (1, 1)], None, [(2, 2), (1, 1)], [(3, 3)]])]
    first, second = (blend(order, uniform(4), kind, source="") for order in (members, members[::-1]))
    np.testing.assert_array_equal(first.pairs, second.pairs)
    np.testing.assert_allclose(first.action, second.action, rtol=1e-4, atol=1e-5)
