"""Windows that slide over a video, and what becomes of their predictions along it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import OptionError
from features.predictions import Predictions
from live.actions import best_actions, smoothed_segments
from live.windows import need_window, sliding_windows, window_at

LENGTHS = st.floats(0.05, 60)
EVERY = st.sampled_from([0.1, 0.25, 0.4, 1.0])
WINDOW = st.sampled_from([1.0, 1.5, 2.0])


def drawn(num_windows: int, seed: int) -> Predictions:
    """Predictions of few classes, so that neighbouring windows often agree."""
    rng = np.random.default_rng(seed)
    verb, noun = (np.full((num_windows, classes), -30, np.float32) for classes in (97, 300))
    verb[:, :3], noun[:, :2] = rng.normal(0, 2, (num_windows, 3)), rng.normal(0, 2, (num_windows, 2))
    return Predictions(tuple(f"w{number}" for number in range(num_windows)), verb, noun, "drawn")


@given(LENGTHS, WINDOW, EVERY)
def test_windows_cover_the_video_and_nothing_else(end_s, window_s, every_s):
    windows = sliding_windows(end_s, window_s=window_s, every_s=every_s)
    assert windows.start_s[0] == 0
    assert abs(windows.stop_s[-1] - end_s) <= 0.001 + 1e-9
    assert (windows.stop_s <= max(end_s, 0.001) + 1e-9).all()
    assert (np.diff(windows.start_s) > 0).all()
    assert (np.diff(windows.start_s) <= every_s + 1e-9).all()
    length = windows.stop_s - windows.start_s
    np.testing.assert_allclose(length, min(window_s, windows.stop_s[-1]), atol=1e-9)
    np.testing.assert_array_equal(np.round(windows.start_s, 3), windows.start_s)  # as annotation files can hold them


def test_the_window_at_a_moment_has_it_in_its_middle():
    windows = sliding_windows(10, window_s=2, every_s=0.25)
    assert [window_at(windows, second) for second in (0, 1.0, 1.25, 5.0, 10)] == [0, 0, 1, 16, 32]


@pytest.mark.parametrize(("window_s", "every_s"), [(0, 0.25), (2, 0), (float("nan"), 1), (1, 1.5)])
def test_a_window_that_makes_no_sense_is_refused(window_s, every_s):
    with pytest.raises(OptionError, match=r"--window|--every"):
        need_window(window_s, every_s)


@given(st.floats(0.5, 12), WINDOW, EVERY, st.integers(0, 9))
def test_smoothed_actions_are_those_of_the_mean_of_the_windows_around_each_moment(end_s, window_s, every_s, seed):
    windows = sliding_windows(end_s, window_s=window_s, every_s=every_s)
    predictions = drawn(len(windows.start_s), seed)
    segments = smoothed_segments(predictions, windows, every_s=every_s)
    assert segments[0].start_s == 0
    assert segments[-1].stop_s == windows.stop_s[-1]
    assert all(before.stop_s == after.start_s for before, after in itertools.pairwise(segments))
    assert all(before.action != after.action for before, after in itertools.pairwise(segments))
    scores = []
    parts = np.append(np.arange(0, windows.stop_s[-1] - 1e-6, every_s), windows.stop_s[-1])
    for start_s, stop_s in itertools.pairwise(parts):
        middle_s = (start_s + stop_s) / 2
        rows = [row for row in range(len(windows.start_s)) if windows.start_s[row] <= middle_s < windows.stop_s[row]]
        mean = {}
        for task in ("verb", "noun"):
            p = np.exp(getattr(predictions, task)[rows].astype(np.float64))
            mean[task] = (p / p.sum(axis=1, keepdims=True)).mean(axis=0)
        (segment,) = [of for of in segments if of.start_s <= middle_s < of.stop_s]
        ours = mean["verb"][segment.action.verb_class] * mean["noun"][segment.action.noun_class]
        assert ours == pytest.approx(mean["verb"].max() * mean["noun"].max(), abs=1e-9)
        scores.append((segment.start_s, ours))
    for segment in segments:
        of_segment = [score for start_s, score in scores if start_s == segment.start_s]
        assert segment.action.score == pytest.approx(np.mean(of_segment), abs=1e-9)


def test_the_best_actions_are_the_best_products():
    predictions = drawn(20, seed=3)
    for row, actions in enumerate(best_actions(predictions)):
        verb, noun = (np.exp(getattr(predictions, task)[row].astype(np.float64)) for task in ("verb", "noun"))
        products = np.outer(verb / verb.sum(), noun / noun.sum())
        best = np.sort(products.ravel())[::-1][:5]
        np.testing.assert_allclose([action.score for action in actions], best, rtol=1e-6)
        assert all(products[of.verb_class, of.noun_class] == pytest.approx(of.score) for of in actions)
