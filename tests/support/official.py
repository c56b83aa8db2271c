"""The challenge's scores written plainly, segment by segment, to test ours against. Shares no code with them.

As epic-kitchens/C1-Action-Recognition has it (utils/scoring.py, utils/metrics.py), but for the softmax: theirs is one
over all segments in float32, this one is over a segment's classes in float64. And but for ties, which theirs orders as
the CPU's sort does: here lower ids come first.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

TOP_N = 100
MOST = 20  # of the best pairs that tests ask for; none of them has a worse verb or noun than this


def collated(rows: list[dict]) -> dict[str, np.ndarray]:
    """The columns of a file in the list format, as the challenge's loader makes them (utils/results.py).

    They are the keys of the first row, and every row has to have them all.
    """
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def best_classes(scores: np.ndarray) -> list[int]:
    """All classes of one segment, best first; of equals, the one with the lower id."""
    return sorted(range(len(scores)), key=lambda index: (-scores[index], index))


def best_actions(verb: np.ndarray, noun: np.ndarray) -> list[tuple[int, int]]:
    """The 20 best pairs of one segment, best first; of equals, the one with the lower verb, then the lower noun.

    Sums of logits, which are exact here, are ordered as the products of probabilities are without rounding.
    """
    verbs, nouns = best_classes(verb)[:MOST], best_classes(noun)[:MOST]
    verb_units, noun_units = (
        [_in_smallest_units(scores[i]) for i in best] for scores, best in ((verb, verbs), (noun, nouns))
    )
    keys = [
        (-a - b, v, n) for v, a in zip(verbs, verb_units, strict=True) for n, b in zip(nouns, noun_units, strict=True)
    ]
    return [(v, n) for _, v, n in sorted(keys)[:MOST]]


def _in_smallest_units(score: np.float32) -> int:
    """A float32 number as a whole multiple of the smallest one."""
    return int(Fraction(float(score)) * 2**149)


def sorted_classes(scores: np.ndarray) -> np.ndarray:
    """All classes of one segment in the order that the challenge's code gives them, which ties leave to the CPU."""
    return scores.argsort()[::-1]


def sorted_actions(verb: np.ndarray, noun: np.ndarray) -> list[tuple[int, int]]:
    """The hundred best pairs of one segment in the order that the challenge's code gives them."""
    verbs, nouns = sorted_classes(verb)[:TOP_N], sorted_classes(noun)[:TOP_N]
    products = np.outer(_softmax(verb[verbs]), _softmax(noun[nouns]))
    order = products.ravel().argsort()[::-1][:TOP_N]
    return [(int(verbs[index // len(nouns)]), int(nouns[index % len(nouns)])) for index in order]


def _softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores.astype(np.float64) - float(scores.max()))
    return weights / weights.sum()


def hits(verb: np.ndarray, noun: np.ndarray, truth: list[tuple[int, int]]) -> dict[str, list[bool]]:
    """Whether each segment's class is among the k best: "verb@1" ... "action@5" -> a value per segment."""
    results: dict[str, list[bool]] = {f"{task}@{k}": [] for task in ("verb", "noun", "action") for k in (1, 5)}
    for verb_scores, noun_scores, pair in zip(verb, noun, truth, strict=True):
        for k in (1, 5):
            results[f"verb@{k}"].append(pair[0] in best_classes(verb_scores)[:k])
            results[f"noun@{k}"].append(pair[1] in best_classes(noun_scores)[:k])
            results[f"action@{k}"].append(pair in best_actions(verb_scores, noun_scores)[:k])
    return results


def percent(values: list[bool]) -> float:
    """The share that is true."""
    return 100 * sum(values) / len(values)


def mean_class(right: list[bool], classes: list) -> float:
    """The mean over classes of the share of their segments that are right."""
    shares = []
    for class_id in sorted(set(classes)):
        class_hits = [value for value, label in zip(right, classes, strict=True) if label == class_id]
        shares.append(sum(class_hits) / len(class_hits))
    return 100 * sum(shares) / len(shares)


def confidences(verb: np.ndarray, noun: np.ndarray) -> dict[str, list[float]]:
    """The probability of the best class of each segment."""
    by_task = {
        task: [float(_softmax(scores).max()) for scores in logits] for task, logits in (("verb", verb), ("noun", noun))
    }
    return {**by_task, "action": [v * n for v, n in zip(by_task["verb"], by_task["noun"], strict=True)]}


def calibration(confidence: list[float], right: list[bool], num_bins: int = 15) -> float:
    """Expected calibration error: how far confidence and accuracy lie apart in each bin, weighed by its segments."""
    total = 0.0
    for bin_index in range(num_bins):
        members = [i for i, value in enumerate(confidence) if min(int(value * num_bins), num_bins - 1) == bin_index]
        if members:
            mean_confidence = sum(confidence[i] for i in members) / len(members)
            accuracy = sum(right[i] for i in members) / len(members)
            total += len(members) / len(confidence) * abs(mean_confidence - accuracy)
    return 100 * total
