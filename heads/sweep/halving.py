"""Successive halving: which variants of a sweep go on after a few epochs. Knows neither runs nor files.

Jamieson & Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016; Li et al.,
Hyperband, JMLR 2018. The paper's budget is epochs here. It departs from them in two ways: there are two rungs, however
many variants there are, and a run goes on from where it stood instead of beginning anew with more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from features.errors import OptionError

# Where variants are compared, as shares of their epochs; at each the better half goes on.
RUNGS = (Fraction(1, 4), Fraction(1, 2))


@dataclass(frozen=True)
class Decision:
    """What became of a variant at a rung.

    Attributes:
        epoch: the rung, in epochs.
        rank: from 1, of those that were compared.
        score: mean over its seeds of the best validation action@1 up to there, in percent.
        stopped: whether it ends there.
    """

    epoch: int
    rank: int
    name: str
    score: float
    stopped: bool


def rungs_of(epochs: int) -> list[int]:
    """Give the epochs after which variants are compared, ascending, each below `epochs`.

    >>> rungs_of(30), rungs_of(4), rungs_of(3), rungs_of(2)
    ([8, 15], [1, 2], [1, 2], [1])

    Raises:
        OptionError: there is no epoch to stop before the last.
    """
    if epochs < 2:
        raise OptionError("--halving", f"runs of {epochs} epoch have nothing to stop early; give --epochs 2 or more.")
    return sorted({math.ceil(epochs * share) for share in RUNGS})


def score_at(history: Sequence[Mapping[str, float]], epoch: int) -> float:
    """Give the best validation action@1 of a run's first `epoch` rows of metrics.csv, in percent.

    What came later does not count, so that a sweep that is started again decides as it did.

    Raises:
        OptionError: the run has no validation.
    """
    if "val_action_top1" not in history[0]:
        raise OptionError("--halving", "compares variants on validation, and there is none.")
    return max(row["val_action_top1"] for row in history[:epoch])


def decide(scores: Mapping[str, Sequence[float]], epoch: int) -> list[Decision]:
    """Rank variants at a rung and stop all but the best half of them, rounded up; best first.

    Args:
        scores: variant -> `score_at` of each of its seeds, in the order of the grid, which decides between equals.
            Variants without a single score have failed: they are not ranked, and take nobody's place.

    >>> [(one.name, one.stopped) for one in decide({"a": [10.0], "b": [30.0, 20.0], "c": [10.0], "d": []}, 8)]
    [('b', False), ('a', False), ('c', True)]
    """
    means = {name: float(np.mean(found)) for name, found in scores.items() if found}
    order = sorted(means, key=lambda name: -means[name])
    kept = math.ceil(len(order) / 2)
    return [Decision(epoch, rank, name, means[name], rank > kept) for rank, name in enumerate(order, start=1)]
