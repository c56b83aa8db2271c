"""Lists of actions: each pair once, in the order of ids, and scores put where they belong in a longer list."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import labelled_segments

from features.actions import ids_of, joined, pairs_of, spread, what_is_wrong

actions = st.tuples(st.integers(0, 96), st.integers(0, 299))
lists = st.lists(actions, min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(lists, lists)
def test_a_list_has_each_action_of_its_segments_once_and_by_its_id(first, second):
    expected = [list(pair) for pair in sorted({*first, *second})]
    segments = [labelled_segments(*pairs) for pairs in (first, second)]
    assert pairs_of(*segments).tolist() == expected
    assert joined(pairs_of(part) for part in segments).tolist() == expected
    assert what_is_wrong(pairs_of(*segments)) == ""


@settings(max_examples=40, deadline=None)
@given(lists, lists)
def test_a_score_stays_that_of_its_action_in_a_longer_list(own, others):
    pairs = np.array(sorted(set(own)))[::-1]  # in any order
    wanted = joined([pairs, np.array(others)])
    scores = np.arange(2 * len(pairs), dtype=np.float32).reshape(2, -1)
    result = spread(scores, pairs, wanted, -1.0)
    by_id = dict(zip(ids_of(pairs).tolist(), scores.T.tolist(), strict=True))
    assert result.T.tolist() == [by_id.get(action, [-1.0, -1.0]) for action in ids_of(wanted).tolist()]
    assert result.dtype == np.float32


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (np.zeros((0, 2), int), r"have shape \(0, 2\)"),
        (np.zeros((3, 3), int), r"have shape \(3, 3\)"),
        (np.zeros((3, 2)), "type float64, not"),
        (np.array([(0, 300)]), "not all of a verb below 97 and a noun below 300"),
        (np.array([(97, 0)]), "not all of a verb below 97"),
        (np.array([(-1, 0)]), "not all of a verb below 97"),
        (np.array([(1, 2), (1, 2)]), "are not all different"),
    ],
)
def test_what_is_no_list_of_actions_is_told(pairs, message):
    assert re.search(message, what_is_wrong(pairs))
