"""Which segments a gallery shows, checked one by one against what their reasons say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from probabilities import softmax

from heads.report.examples import NUM_PAIRS, REASONS, choose_examples

N, NUM = 300, 60


def _drawn(rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
    return {task: softmax(rng.normal(0, 2, (num, width))) for task, width in (("verb", 6), ("noun", 8))}


@pytest.fixture(scope="module")
def drawn() -> tuple[dict, dict, dict]:
    """True classes of N segments, and what two runs make of them."""
    rng = np.random.default_rng(5)
    truth = {"verb": rng.integers(0, 6, N), "noun": rng.integers(0, 8, N)}
    return truth, _drawn(rng, N), _drawn(rng, N)


@pytest.fixture(scope="module")
def chosen(drawn) -> dict[int, tuple[str, ...]]:
    return choose_examples(*drawn, NUM)


def _best(probability: dict[str, np.ndarray], row: int) -> tuple[int, int]:
    return int(probability["verb"][row].argmax()), int(probability["noun"][row].argmax())


def _truth(truth: dict[str, np.ndarray], row: int) -> tuple[int, int]:
    return int(truth["verb"][row]), int(truth["noun"][row])


def _sure(probability: dict[str, np.ndarray], row: int) -> float:
    return probability["verb"][row].max() * probability["noun"][row].max()


def _with(chosen: dict[int, tuple[str, ...]], reason: str) -> list[int]:
    return [row for row, reasons in chosen.items() if reason in reasons]


def test_so_many_are_shown_each_reason_about_as_often(chosen):
    assert len(chosen) == NUM
    counts = Counter(reason for reasons in chosen.values() for reason in reasons)
    assert set(counts) == set(REASONS)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_mistakes_are_the_surest_of_all(drawn, chosen):
    truth, probability, _ = drawn
    mistakes = [row for row in range(N) if _best(probability, row) != _truth(truth, row)]
    mistakes.sort(key=lambda row: -_sure(probability, row))
    shown = _with(chosen, "mistake")
    assert set(shown) == set(mistakes[: len(shown)])


def test_disagreements_are_the_surest_of_both(drawn, chosen):
    _, probability, other = drawn
    differ = [row for row in range(N) if _best(probability, row) != _best(other, row)]
    differ.sort(key=lambda row: -_sure(probability, row) * _sure(other, row))
    shown = _with(chosen, "disagreement")
    assert set(shown) == set(differ[: len(shown)])


@pytest.mark.parametrize(("task", "position"), [("verb", 0), ("noun", 1)])
def test_confusions_take_the_most_confused_pairs_in_turn(drawn, chosen, task, position):
    truth, probability, _ = drawn
    pair_of = {row: (_truth(truth, row)[position], _best(probability, row)[position]) for row in range(N)}
    counts = Counter(pair for pair in pair_of.values() if pair[0] != pair[1])
    most = sorted(counts, key=lambda pair: (-counts[pair], pair))[:NUM_PAIRS]
    shown = Counter(pair_of[row] for row in _with(chosen, task))
    assert set(shown) <= set(most)
    full, rest = divmod(sum(shown.values()), NUM_PAIRS)
    assert [shown[pair] for pair in most] == [full + (place < rest) for place in range(NUM_PAIRS)]


@given(num=st.integers(1, 40), num_shown=st.integers(1, 60), seed=st.integers(0, 20), has_other=st.booleans())
def test_no_segment_is_shown_twice_and_reasons_hold(num, num_shown, seed, has_other):
    rng = np.random.default_rng(seed)
    truth = {"verb": rng.integers(0, 6, num), "noun": rng.integers(0, 8, num)}
    probability, other = _drawn(rng, num), _drawn(rng, num) if has_other else None
    chosen = choose_examples(truth, probability, other, num_shown)
    assert len(chosen) == min(num, num_shown)
    for row, reasons in chosen.items():
        assert len(set(reasons)) == len(reasons) > 0
        verb, noun = (a == b for a, b in zip(_best(probability, row), _truth(truth, row), strict=True))
        assert "mistake" not in reasons or not (verb and noun)
        assert "verb" not in reasons or not verb
        assert "noun" not in reasons or not noun
        assert "disagreement" not in reasons or (other and _best(other, row) != _best(probability, row))


def test_what_is_all_right_has_random_segments_only():
    truth = {"verb": np.arange(5), "noun": np.arange(5)}
    probability = {"verb": np.eye(5, 6), "noun": np.eye(5, 8)}
    chosen = choose_examples(truth, probability, None, 9)
    assert sorted(chosen) == [0, 1, 2, 3, 4]
    assert set(chosen.values()) == {("random",)}
