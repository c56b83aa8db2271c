"""Weighted means of predictions, and weights that are fitted. Arithmetic only: reads no file.

Averaging networks that were trained from different seeds is the most reliable gain (Lakshminarayanan et al., "Simple
and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS 2017). Weights are fitted to the
likelihood of the labels; an accuracy would depend on chance in a few segments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch

from features.annotations import NUM_CLASSES
from features.errors import DataError
from features.predictions import Predictions, concatenate
from heads.scoring.metrics import log_softmax

KINDS = ("probabilities", "logits")
_TASKS = tuple(NUM_CLASSES)
_GREEDY_ROUNDS = 50

# Weights of M members by task: (M,) each, not negative, with sum 1.
Weights = dict[str, np.ndarray]


def uniform(num_members: int) -> Weights:
    """Return the same weight for every member."""
    return {task: np.full(num_members, 1 / num_members) for task in _TASKS}


def blend(members: Sequence[Predictions], weights: Weights, kind: str, *, source: str) -> Predictions:
    """Return the mean of predictions for the same segments, separately for verbs and nouns, as log-probabilities.

    Args:
        kind: "probabilities", or "logits": log-probabilities, as logits of different heads have different offsets.
    """
    mixed = {task: _mean([getattr(member, task) for member in members], weights[task], kind) for task in _TASKS}
    return Predictions(members[0].narration_id, mixed["verb"], mixed["noun"], source)


def _mean(logits: Sequence[np.ndarray], weights: np.ndarray, kind: str) -> np.ndarray:
    """Return the log of the mean of M logits (N, K): (N, K) float32. Logarithms keep probabilities of any size.

    Members are added one after the other, so that hundreds of them need no more memory than a few.
    """
    pairs = ((weight, log_softmax(member)) for weight, member in zip(weights, logits, strict=True) if weight > 0)
    if kind == "logits":
        return log_softmax(np.asarray(sum(weight * log_p for weight, log_p in pairs))).astype(np.float32)
    return functools.reduce(np.logaddexp, (log_p + np.log(weight) for weight, log_p in pairs)).astype(np.float32)


def fit(members: Sequence[Predictions], truth: dict[str, np.ndarray], kind: str, *, per_task: bool) -> Weights:
    """Fit weights to the likelihood of labelled segments.

    Args:
        truth: task -> (N,) int64.
        per_task: fit weights for verbs and other ones for nouns, instead of one set for both.

    The likelihood is concave in the weights of probabilities, and nearly always has one maximum in those of logits.
    """
    own = {task: torch.from_numpy(_of_labels(members, truth, task)) for task in _TASKS}
    # The mean of probabilities needs those of the labels only, (M, N); the mean of logits needs all, (M, N, K).
    whole = {
        task: torch.from_numpy(np.stack([_bounded(getattr(member, task)) for member in members]))
        for task in _TASKS
        if kind == "logits"
    }

    def log_likelihood(share: torch.Tensor, task: str) -> torch.Tensor:
        """Return the mean over segments, for the log-weights (M,) of the members."""
        if kind == "probabilities":
            return (share[:, None] + own[task]).logsumexp(dim=0).mean()
        mixed = torch.tensordot(share.exp(), whole[task], dims=1).logsumexp(dim=1)
        return (share.exp() @ own[task] - mixed).mean()

    def fitted(tasks: Sequence[str]) -> np.ndarray:
        score = torch.zeros(len(members), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([score], max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            share = score.log_softmax(dim=0)
            value = -sum((log_likelihood(share, task) for task in tasks), start=torch.zeros((), dtype=torch.float64))
            value.backward()
            return value

        optimizer.step(closure)
        return score.detach().softmax(dim=0).numpy()

    if per_task:
        return {task: fitted([task]) for task in _TASKS}
    return dict.fromkeys(_TASKS, fitted(_TASKS))


def greedy(members: Sequence[Predictions], truth: dict[str, np.ndarray], *, per_task: bool) -> Weights:
    """Choose members one after the other, each as often as it helps; return weights in fiftieths, most of them 0.

    Each step adds the member with which the mean of probabilities gives the labels the highest likelihood (Caruana et
    al., "Ensemble selection from libraries of models", ICML 2004).
    """
    own = {task: np.exp(_of_labels(members, truth, task)) for task in _TASKS}
    weights: Weights = {}
    for tasks in [(task,) for task in _TASKS] if per_task else [_TASKS]:
        p = np.concatenate([own[task] for task in tasks], axis=1)  # (M, N of each task)
        counts, total = np.zeros(len(members)), np.zeros(p.shape[1])
        for _ in range(_GREEDY_ROUNDS):
            # Shares of a mean are the same for all candidates, so their sums can be compared.
            best = int(np.argmax(np.log(total + p).mean(axis=1)))
            counts[best] += 1
            total += p[best]
        weights |= dict.fromkeys(tasks, counts / counts.sum())
    return weights


def _of_labels(members: Sequence[Predictions], truth: dict[str, np.ndarray], task: str) -> np.ndarray:
    """Return the log-probabilities of the labels, (M, N)."""
    rows = np.arange(len(truth[task]))
    return np.stack([_bounded(getattr(member, task))[rows, truth[task]] for member in members])


def _bounded(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities that are finite, even of a member that gives a label the probability 0."""
    return log_softmax(logits).clip(min=-100)


# A function that predicts with fitted weights: members -> name -> predictions.
Fitted = Callable[[Sequence[Predictions]], dict[str, Predictions]]


def cross_fitted(
    members: Sequence[Predictions],
    truth: dict[str, np.ndarray],
    video: np.ndarray,
    fit_to: Callable[[Sequence[Predictions], dict[str, np.ndarray]], Fitted],
    *,
    folds: int = 5,
    source: str,
) -> dict[str, Predictions]:
    """Predict each fold of the videos with weights that were fitted to the other folds, so that gains are honest.

    Args:
        truth: task -> (N,) labels of the members' segments.
        video: (N,) int64, index of the video of each segment.
        fit_to: fits to members and truth.

    Returns:
        Name -> predictions, as the fitted function names them.

    Raises:
        DataError: all segments are of one video, so that there is a single fold.
    """
    num_videos = int(video.max()) + 1
    if num_videos < 2:
        raise DataError(f"{source}: cross-fitting needs segments of two videos or more; these are all of one.")
    fold = np.random.default_rng(0).permutation(num_videos)[video] % min(folds, num_videos)
    parts: dict[str, list[Predictions]] = {}
    for held_out in range(int(fold.max()) + 1):
        mask = fold == held_out
        predict = fit_to(
            [_rows(member, ~mask) for member in members], {task: labels[~mask] for task, labels in truth.items()}
        )
        for name, predicted in predict([_rows(member, mask) for member in members]).items():
            parts.setdefault(name, []).append(predicted)
    return {name: concatenate(pieces, source).aligned(members[0].narration_id) for name, pieces in parts.items()}


def _rows(predictions: Predictions, mask: np.ndarray) -> Predictions:
    names = tuple(np.array(predictions.narration_id, dtype=object)[mask])
    return Predictions(names, predictions.verb[mask], predictions.noun[mask], predictions.source)


def disagreement(members: Sequence[Predictions]) -> dict[str, float]:
    """Return the percentage of segments for which two members predict different classes, a mean over all pairs."""
    best = {task: np.stack([getattr(member, task).argmax(axis=1) for member in members]) for task in _TASKS}
    shares: dict[str, list[float]] = {task: [] for task in (*_TASKS, "action")}
    for member in range(len(members) - 1):
        differs = {
            task: classes[member] != classes[member + 1 :] for task, classes in best.items()
        }  # (members after it, N)
        differs["action"] = differs["verb"] | differs["noun"]
        for task, masks in differs.items():
            shares[task] += masks.mean(axis=1).tolist()
    return {task: 100 * float(np.mean(of_pairs)) for task, of_pairs in shares.items()}
