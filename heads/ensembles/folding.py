"""The scores of an action classifier, folded into those of verbs and nouns, which is what the challenge scores.

Reads no file.
"""

from __future__ import annotations

import numpy as np

from features.actions import UNLISTED
from heads.ensembles.succession import Edges
from heads.scoring.metrics import log_softmax

# Segments that are gone through together, so that memory does not grow with their number.
_AT_ONCE = 1024


def folded(
    verb: np.ndarray, noun: np.ndarray, action: np.ndarray, pairs: np.ndarray, *, power: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return log-probabilities of verbs and nouns that an action classifier has a share in.

    A pair's probability becomes (verb x noun)^(1 - power) x action^power, over all 97 x 300 pairs; verbs and nouns are
    what it sums up to. A pair that is not in the classifier's list, or scored below that, has 1e-12 for it.

    Args:
        verb, noun: (N, 97) and (N, 300) log-probabilities.
        action, pairs: (N, A) logits of the classifier, and its pairs (A, 2).
        power: 0 changes nothing, 1 leaves the classifier alone.
    """
    columns = np.arange(len(pairs))
    to_class = [Edges(columns, classes, np.ones(len(pairs))) for classes in pairs.T]
    results = [np.empty_like(verb, dtype=np.float64), np.empty_like(noun, dtype=np.float64)]
    unlisted = np.exp(power * UNLISTED)
    for first in range(0, len(verb), _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        own = [np.exp((1 - power) * logs[rows].astype(np.float64)).T for logs in (verb, noun)]  # (K, rows) each
        more = np.exp(power * log_softmax(action[rows]).clip(min=UNLISTED)).T - unlisted  # (A, rows)
        more *= own[0][pairs[:, 0]]
        more *= own[1][pairs[:, 1]]
        for result, edges, values, others in zip(results, to_class, own, own[::-1], strict=True):
            sums = edges.add_to(unlisted * values * others.sum(axis=0), more)
            result[rows] = np.log((sums / sums.sum(axis=0)).clip(min=np.finfo(np.float32).tiny)).T
    return results[0], results[1]
