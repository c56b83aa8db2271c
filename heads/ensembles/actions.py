"""The mean of the action scores of an ensemble's members, of which not all need have any. Reads no file."""

from __future__ import annotations

import numpy as np

from features.actions import UNLISTED, joined, spread
from heads.scoring.metrics import log_softmax


def added(total: np.ndarray | None, log_p: np.ndarray, weight: float, kind: str) -> np.ndarray:
    """Add log-probabilities (N, K) to a weighted sum. Of probabilities it is kept as a logarithm, for any size."""
    if kind == "logits":
        return weight * log_p if total is None else total + weight * log_p
    term = log_p + np.log(weight)
    return term if total is None else np.logaddexp(total, term)


class ActionMean:
    """The mean of action scores over the members that have any, and over the pairs of all of these.

    A member counts by the mean of its weights for verbs and for nouns. A pair that it does not have has the probability
    1e-12 in it.

    Args:
        kind: of the mean, as for `blend`.

    Attributes:
        pairs: (A, 2), those of the members so far; None before the first.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._total: np.ndarray | None = None
        self._weight = 0.0
        self.pairs: np.ndarray | None = None

    def add(self, log_p: np.ndarray, pairs: np.ndarray, weight: float) -> None:
        """Add a member with log-probabilities (N, A) float32 of its pairs."""
        if not weight:
            return
        known = pairs if self.pairs is None else self.pairs
        if not np.array_equal(known, pairs):
            wanted = joined([known, pairs])
            log_p = spread(log_p, pairs, wanted, UNLISTED)
            if self._total is not None:
                fill = UNLISTED * self._weight if self._kind == "logits" else UNLISTED + np.log(self._weight)
                self._total = spread(self._total, known, wanted, fill)
            known = wanted
        self.pairs = known
        self._total = added(self._total, log_p, np.float32(weight), self._kind)
        self._weight += weight

    def log_p(self) -> np.ndarray | None:
        """Return the mean as log-probabilities (N, A) float32; None where no member has action scores."""
        if self._total is None:
            return None
        total = self._total / np.float32(self._weight) if self._kind == "logits" else self._total
        return log_softmax(total).astype(np.float32)
