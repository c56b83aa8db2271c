"""Accuracies of verb, noun and action as the challenge counts them. numpy only.

An action is a pair of verb and noun, scored by the product of their probabilities (Damen et al., IJCV 2022, and
epic-kitchens/C1-Action-Recognition).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from features.annotations import NUM_NOUNS, Segments
from features.predictions import Predictions

TASKS = ("verb", "noun", "action")
KS = (1, 5)


@dataclass(frozen=True)
class Accuracies:
    """Shares of segments, in percent, of `num_segments`.

    Attributes:
        top: (task, k) -> share of segments whose class is among the k best, for each of TASKS and KS.
        recall: verb and noun -> mean over the classes that there are of the share of theirs that is found first.
    """

    num_segments: int
    top: Mapping[tuple[str, int], float]
    recall: Mapping[str, float]


def accuracies(predictions: Predictions, segments: Segments) -> Accuracies:
    """Score predictions for labelled segments.

    Raises:
        DataError: the segments have no labels, or there is no prediction for some of them.
    """
    aligned = predictions.aligned(segments.narration_id)
    return score_logits(aligned.verb, aligned.noun, segments.verb_class, segments.noun_class)


def score_logits(
    verb_logits: np.ndarray, noun_logits: np.ndarray, verb_class: np.ndarray, noun_class: np.ndarray
) -> Accuracies:
    """Score logits (N, 97) and (N, 300) against class ids (N,)."""
    verb, noun = log_softmax(verb_logits), log_softmax(noun_logits)
    truth = {"verb": verb_class, "noun": noun_class, "action": verb_class * NUM_NOUNS + noun_class}
    best = {
        "verb": top_classes(verb, max(KS)),
        "noun": top_classes(noun, max(KS)),
        "action": top_actions(verb, noun, max(KS)),
    }
    return Accuracies(
        num_segments=len(verb_class),
        top={
            (task, k): 100 * float((best[task][:, :k] == truth[task][:, None]).any(axis=1).mean())
            for task in TASKS
            for k in KS
        },
        recall={task: _mean_class_recall(best[task][:, 0], truth[task]) for task in ("verb", "noun")},
    )


def _mean_class_recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Give the mean over the classes in `truth` of the percentage of their segments that are found."""
    _, place, counts = np.unique(truth, return_inverse=True, return_counts=True)
    return 100 * float((np.bincount(place, weights=found == truth) / counts).mean())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Give log-probabilities row by row, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def top_classes(scores: np.ndarray, k: int) -> np.ndarray:
    """Give the k best classes of each row of scores (N, K), best first; of equal ones the lower id."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def top_actions(verb: np.ndarray, noun: np.ndarray, k: int) -> np.ndarray:
    """Give the k best pairs of each row, best first, as verb_class * 300 + noun_class, (N, k).

    A pair among the k best is made of one of the k best verbs and one of the k best nouns: each better verb or noun
    would make a better pair. So k x k pairs are compared instead of 97 x 300.

    Args:
        verb, noun: log-probabilities (N, 97) and (N, 300).
    """
    verbs, nouns = top_classes(verb, k), top_classes(noun, k)
    scores = np.take_along_axis(verb, verbs, 1)[:, :, None] + np.take_along_axis(noun, nouns, 1)[:, None, :]
    pairs = (verbs[:, :, None] * NUM_NOUNS + nouns[:, None, :]).reshape(len(verb), -1)
    return np.take_along_axis(pairs, top_classes(scores.reshape(len(verb), -1), k), axis=1)


def chance(train: Segments) -> dict[tuple[str, int], float]:
    """Give the accuracies, in percent, of drawing k of the classes (or pairs) that training shows at random."""
    counts = {task: len(np.unique(classes)) for task, classes in _classes_of(train).items()}
    return {(task, k): 100 * min(1.0, k / counts[task]) for task in TASKS for k in KS}


def most_frequent(train: Segments, segments: Segments) -> dict[tuple[str, int], float]:
    """Give the accuracies, in percent, of always answering the k most frequent classes (or pairs) of training."""
    truth = _classes_of(segments)
    return {
        (task, k): 100 * float(np.isin(truth[task], _most_frequent(classes, k)).mean())
        for task, classes in _classes_of(train).items()
        for k in KS
    }


def _classes_of(segments: Segments) -> dict[str, np.ndarray]:
    verb, noun = segments.verb_class, segments.noun_class
    return {"verb": verb, "noun": noun, "action": verb * NUM_NOUNS + noun}


def _most_frequent(classes: np.ndarray, k: int) -> np.ndarray:
    values, counts = np.unique(classes, return_counts=True)
    return values[np.argsort(-counts, kind="stable")[:k]]
