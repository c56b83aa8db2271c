"""Lists of actions, which are pairs of a verb and a noun, and scores over such lists. numpy only."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from features.annotations import NUM_NOUNS, NUM_VERBS, Segments

# The log-probability of an action that is not in the list that scores are over.
UNLISTED = float(np.log(1e-12))


def ids_of(pairs: np.ndarray) -> np.ndarray:
    """Return the ids of pairs (A, 2): verb * 300 + noun, (A,) int64."""
    return pairs[:, 0] * NUM_NOUNS + pairs[:, 1]


def action_ids(segments: Segments) -> np.ndarray:
    """Return the id of the action of each labelled segment, (N,) int64."""
    return segments.verb_class * NUM_NOUNS + segments.noun_class


def pairs_of(*lists: Segments) -> np.ndarray:
    """Return the different actions of labelled segments as pairs, (A, 2) int64, by their ids."""
    return _pairs(action_ids(segments) for segments in lists)


def joined(lists: Iterable[np.ndarray]) -> np.ndarray:
    """Return the pairs of several lists (A, 2) in one, each once, by their ids."""
    return _pairs(map(ids_of, lists))


def _pairs(ids: Iterable[np.ndarray]) -> np.ndarray:
    return np.stack(np.divmod(np.unique(np.concatenate(list(ids))), NUM_NOUNS), axis=1)


def what_is_wrong(pairs: np.ndarray) -> str:
    """Return what is wrong with a list of pairs, as the end of a sentence; nothing if it is a list of actions."""
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs) or pairs.dtype.kind not in "iu":
        return f"have shape {pairs.shape} and type {pairs.dtype}, not (A, 2) and whole numbers"
    if (pairs < 0).any() or (pairs >= (NUM_VERBS, NUM_NOUNS)).any():
        return f"are not all of a verb below {NUM_VERBS} and a noun below {NUM_NOUNS}"
    return "" if len(np.unique(ids_of(pairs))) == len(pairs) else "are not all different"


def spread(scores: np.ndarray, pairs: np.ndarray, wanted: np.ndarray, fill: float) -> np.ndarray:
    """Return scores (N, A) of some pairs as scores of the `wanted` ones, which hold them all: `fill` for the others.

    Args:
        wanted: (B, 2), by their ids.
    """
    if np.array_equal(pairs, wanted):
        return scores
    result = np.full((len(scores), len(wanted)), fill, dtype=scores.dtype)
    result[:, np.searchsorted(ids_of(wanted), ids_of(pairs))] = scores
    return result
