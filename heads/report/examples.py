"""Which segments the gallery of a report shows, and why. numpy only: knows no video and no page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from heads.scoring.metrics import ranked

# Why a segment is shown: the key in the page's HTML -> words.
REASONS = {
    "mistake": "confident mistake",
    "noun": "confused nouns",
    "verb": "confused verbs",
    "disagreement": "two runs disagree",
    "random": "random",
}
NUM_PAIRS = 12
_SEED = 0

# Task ("verb", "noun") -> (N,) classes, or (N, K) probabilities.
ByTask = Mapping[str, np.ndarray]


def choose_examples(truth: ByTask, probability: ByTask, other: ByTask | None, num: int) -> dict[int, tuple[str, ...]]:
    """Return the rows of `num` segments to show (all N if there are fewer), each with its reasons, in order of choice.

    The reasons take turns, each with its next candidate, so that they show about equally many. A candidate that another
    reason has chosen already has both, so the random ones are a sample of all segments.

    Args:
        truth: (N,) int64 true classes.
        probability: (N, 97) and (N, 300), of the predictions to show.
        other: those of another run, to disagree with; None if there is none.
    """
    best = {task: ranked(probability[task], 1)[:, 0] for task in truth}
    sure = _confidence(probability)
    wrong = {task: best[task] != truth[task] for task in truth}
    candidates = {
        "mistake": _surest(sure, wrong["verb"] | wrong["noun"]),
        "noun": _confused(truth["noun"], best["noun"], sure),
        "verb": _confused(truth["verb"], best["verb"], sure),
        "random": np.random.default_rng(_SEED).permutation(len(sure)),
    }
    if other is not None:
        differs = [best[task] != ranked(other[task], 1)[:, 0] for task in truth]
        candidates["disagreement"] = _surest(sure * _confidence(other), np.logical_or(*differs))
    return _in_turns({reason: candidates[reason] for reason in REASONS if reason in candidates}, num)


def _confidence(probability: ByTask) -> np.ndarray:
    """Return the probability of the best action of each segment, (N,)."""
    return probability["verb"].max(axis=1) * probability["noun"].max(axis=1)


def _surest(confidence: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the rows where `mask` (N,) is true, the highest confidence first."""
    rows = np.flatnonzero(mask)
    return rows[np.argsort(-confidence[rows], kind="stable")]


def _confused(truth: np.ndarray, best: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Return the rows of the most frequent mistakes: the surest of each pair of classes, then their second, ..."""
    pairs = Counter(pair for pair in zip(truth.tolist(), best.tolist(), strict=True) if pair[0] != pair[1])
    most = sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:NUM_PAIRS]
    places = []
    for place, (true_class, predicted_class) in enumerate(most):
        rows = _surest(confidence, (truth == true_class) & (best == predicted_class))
        places += [(number, place, row) for number, row in enumerate(rows.tolist())]
    return np.array([row for _, _, row in sorted(places)], dtype=np.int64)


def _in_turns(candidates: Mapping[str, np.ndarray], num: int) -> dict[int, tuple[str, ...]]:
    reasons: dict[int, tuple[str, ...]] = {}
    waiting = {reason: iter(rows.tolist()) for reason, rows in candidates.items()}
    while waiting:
        for reason in list(waiting):
            row = next(waiting[reason], None)
            if row is None:
                del waiting[reason]
            elif row in reasons or len(reasons) < num:
                reasons[row] = (*reasons.get(row, ()), reason)
            else:
                return reasons
    return reasons
