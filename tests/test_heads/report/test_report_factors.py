"""Settings that vary among runs: what kind of value decides their order."""

from __future__ import annotations

import pytest

from heads.report.factors import Trial, main_effects


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((True, False), ["True", "False"]),  # the best first, as words
        ((0.1, 0.01), ["0.01", "0.1"]),  # ascending, as numbers
        (("cb", "ce"), ["cb", "ce"]),
    ],
)
def test_switches_and_words_stand_with_the_best_first_and_numbers_ascend(values, expected):
    figures = {f"{task}@1": 50.0 for task in ("verb", "noun", "action")}
    trials = [Trial({"it": values[0]}, {**figures, "action@1": 60.0}), Trial({"it": values[1]}, figures)]
    (factor,) = main_effects(trials)
    assert [effect.value for effect in factor.effects] == expected
