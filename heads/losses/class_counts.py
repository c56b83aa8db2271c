"""What the class counts of the training segments give: log priors and weights. Loads no torch.

Counts are (K,) int64. A class that no training segment shows has count 0 and is treated as shown once. Its prior and
weight are then finite, and those of the rarest class possible. It is the label of no training segment, so no loss uses
its weight in training. Results are (K,) float32.
"""

from __future__ import annotations

import numpy as np

from features.actions import action_ids, ids_of
from features.annotations import NUM_CLASSES, Segments


def labels_of(segments: Segments, task: str, pairs: np.ndarray | None = None) -> np.ndarray:
    """Return the class of each labelled segment in a task, (N,) int64.

    Args:
        pairs: of the task "action", its classes, (A, 2) by their ids; they have the action of each segment.
    """
    if pairs is None or task != "action":
        return getattr(segments, f"{task}_class")
    return np.searchsorted(ids_of(pairs), action_ids(segments)).astype(np.int64)


def class_counts(segments: Segments, task: str, pairs: np.ndarray | None = None) -> np.ndarray:
    """Return how often each class of a task occurs in labelled segments, (K,) int64.

    Args:
        pairs: as for `labels_of`.
    """
    num_classes = NUM_CLASSES[task] if pairs is None or task != "action" else len(pairs)
    return np.bincount(labels_of(segments, task, pairs), minlength=num_classes)


def log_prior(counts: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the logarithm of the share of each class, (K,); with weights, of its share of the sum of weights.

    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, use it in two ways. It is added to the logits in
    training (the loss `logit_adjusted`), or subtracted from the logits of a head that was trained without it,
    logits - tau * log_prior(counts). The second lifts a class that training never shows by as much as a class that it
    shows once, though no head can have learned it.
    """
    shown = _shown(counts) if weights is None else _shown(counts) * weights
    return np.log(shown / shown.sum()).astype(np.float32)


def inverse_sqrt_weights(counts: np.ndarray) -> np.ndarray:
    """Return weights in proportion to count^(-1/2), (K,), whose mean over the training segments is 1."""
    return _with_mean_one(1 / np.sqrt(_shown(counts)), counts)


def effective_number_weights(counts: np.ndarray, beta: float) -> np.ndarray:
    """Return weights in proportion to (1 - beta) / (1 - beta^count), (K,), whose mean over the training segments is 1.

    Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019. They scale the weights to a mean
    of 1 over the classes instead: then most segments, which are of frequent classes, weigh far below 1, and the loss
    as a whole shrinks with beta.

    Args:
        beta: in [0, 1). All weights are 1 at 0; towards 1 they become inverse counts.
    """
    return _with_mean_one(1 / (1 - beta ** _shown(counts)), counts)


def _shown(counts: np.ndarray) -> np.ndarray:
    return counts.clip(min=1).astype(np.float64)


def _with_mean_one(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    share = counts / counts.sum()
    return (weights / (share * weights).sum()).astype(np.float32)
