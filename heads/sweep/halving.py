"""Successive halving: which variants of a sweep continue after some epochs. Knows neither runs nor files.

Jamieson & Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016; Li et al.,
Hyperband, JMLR 2018. The budget of the papers is the number of epochs here. There are two departures: there are two
rungs for any number of variants, and a run continues instead of starting again with a larger budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from features.errors import OptionError

# The rungs at which variants are compared, as shares of their epochs; the better half continues.
RUNGS = (Fraction(1, 4), Fraction(1, 2))


@dataclass(frozen=True)
class Decision:
    """The decision about a variant at a rung.

    Attributes:
        epoch: the rung, in epochs.
        rank: from 1, among the variants that were compared.
        score: mean over its seeds of the best validation action@1 up to the rung, in percent.
        stopped: whether it ends at the rung.
    """

    epoch: int
    rank: int
    name: str
    score: float
    stopped: bool


def rungs_of(epochs: int) -> list[int]:
    """Return the epochs after which variants are compared, ascending, each below `epochs`.

    >>> rungs_of(30), rungs_of(4), rungs_of(3), rungs_of(2)
    ([8, 15], [1, 2], [1, 2], [1])

    Raises:
        OptionError: there is only one epoch.
    """
    if epochs < 2:
        raise OptionError("--halving", f"runs of {epochs} epoch have nothing to stop early; give --epochs 2 or more.")
    return sorted({math.ceil(epochs * share) for share in RUNGS})


def score_at(history: Sequence[Mapping[str, float]], epoch: int) -> float:
    """Return the best validation action@1 of a run's first `epoch` rows of metrics.csv, in percent.

    Later epochs do not count, so that a sweep that is started again decides as before.

    Raises:
        OptionError: the run has no validation.
    """
    if "val_action_top1" not in history[0]:
        raise OptionError("--halving", "compares variants on validation, but there is no validation list.")
    return max(row["val_action_top1"] for row in history[:epoch])


def best_first(percent: float) -> float:
    """Return the key that sorts scores in percent, the best first.

    Means of equally many hits are equal by it, in whatever order they were added, so that what comes first of equals
    (the order of the grid, the name of the run) decides, and not the last digit of a sum.
    """
    return -round(percent, 9)


def decide(scores: Mapping[str, Sequence[float]], epoch: int) -> list[Decision]:
    """Rank variants at a rung and stop all but the best half of them, rounded up; return the decisions, best first.

    Args:
        scores: variant -> `score_at` of each of its seeds, in the order of the grid, which decides between equals.
            Variants without scores have failed: they are not ranked, and do not count for the half.

    >>> scores = {"a": [10.0], "b": [30.0, 20.0], "c": [10.0], "d": []}
    >>> [(decision.name, decision.stopped) for decision in decide(scores, 8)]
    [('b', False), ('a', False), ('c', True)]
    """
    means = {name: float(np.mean(of_seeds)) for name, of_seeds in scores.items() if of_seeds}
    order = sorted(means, key=lambda name: best_first(means[name]))
    kept = math.ceil(len(order) / 2)
    return [Decision(epoch, rank, name, means[name], rank > kept) for rank, name in enumerate(order, start=1)]
