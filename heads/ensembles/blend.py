"""Several predictions as one: weighted means, and weights that are fitted. Arithmetic only: reads no file.

Averaging what networks trained from different seeds say is the surest gain there is (Lakshminarayanan et al., "Simple
and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS 2017). Weights are fitted to the
likelihood of the labels, not to an accuracy, which would be fitted to the luck of a few segments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch

from features.errors import DataError
from features.predictions import Predictions
from heads.scoring.metrics import log_softmax

KINDS = ("probabilities", "logits")
_TASKS = ("verb", "noun")
_GREEDY_ROUNDS = 50

# Weights of M members by task: (M,) each, not negative, 1 together.
Weights = dict[str, np.ndarray]


def uniform(num_members: int) -> Weights:
    """Give every member the same weight."""
    return {task: np.full(num_members, 1 / num_members) for task in _TASKS}


def blend(members: Sequence[Predictions], weights: Weights, kind: str, *, source: str) -> Predictions:
    """Average predictions of the same segments, verb and noun apart; give log-probabilities.

    Args:
        kind: "probabilities", or "logits": log-probabilities, as logits of different heads have different offsets.
    """
    mixed = {task: _mean([getattr(member, task) for member in members], weights[task], kind) for task in _TASKS}
    return Predictions(members[0].narration_id, mixed["verb"], mixed["noun"], source)


def _mean(logits: Sequence[np.ndarray], weights: np.ndarray, kind: str) -> np.ndarray:
    """Average log-probabilities of M logits (N, K): (N, K) float32. In logarithms no probability is too small to count.

    One member after the other, so that hundreds of them need no more memory than a few.
    """
    pairs = ((weight, log_softmax(one)) for weight, one in zip(weights, logits, strict=True) if weight > 0)
    if kind == "logits":
        return log_softmax(sum(weight * log_p for weight, log_p in pairs)).astype(np.float32)
    return functools.reduce(np.logaddexp, (log_p + np.log(weight) for weight, log_p in pairs)).astype(np.float32)


def fit(members: Sequence[Predictions], truth: dict[str, np.ndarray], kind: str, *, per_task: bool) -> Weights:
    """Fit weights to the likelihood of labelled segments.

    Args:
        truth: task -> (N,) int64.
        per_task: verb and noun may trust different members; else one set of weights serves both.

    The likelihood is concave in the weights of probabilities, and nearly always has one summit in those of logits.
    """
    groups = [(task,) for task in _TASKS] if per_task else [_TASKS]
    own = {task: torch.from_numpy(_of_labels(members, truth, task)) for task in _TASKS}
    # Of probabilities only those of the labels count, (M, N); of logits all, (M, N, K).
    whole = {
        task: torch.from_numpy(np.stack([_bounded(getattr(member, task)) for member in members]))
        for task in _TASKS
        if kind == "logits"
    }
    found: Weights = {}
    for tasks in groups:
        score = torch.zeros(len(members), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([score], max_iter=100, line_search_fn="strong_wolfe")

        def loss(score=score, tasks=tasks) -> torch.Tensor:
            share = score.log_softmax(dim=0)
            if kind == "probabilities":
                return -sum((share[:, None] + own[task]).logsumexp(dim=0).mean() for task in tasks)
            mixed = {task: torch.tensordot(share.exp(), whole[task], dims=1).logsumexp(dim=1) for task in tasks}
            return -sum((share.exp() @ own[task] - mixed[task]).mean() for task in tasks)

        def closure(optimizer=optimizer, loss=loss) -> torch.Tensor:
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        optimizer.step(closure)
        found |= dict.fromkeys(tasks, score.detach().softmax(dim=0).numpy())
    return found


def greedy(members: Sequence[Predictions], truth: dict[str, np.ndarray], *, per_task: bool) -> Weights:
    """Choose members one after the other, each as often as it helps: weights in fiftieths, most of them 0.

    Each time the member is added with which the mean of probabilities makes the labels likeliest (Caruana et al.,
    "Ensemble selection from libraries of models", ICML 2004).
    """
    own = {task: np.exp(_of_labels(members, truth, task)) for task in _TASKS}
    found: Weights = {}
    for tasks in [(task,) for task in _TASKS] if per_task else [_TASKS]:
        p = np.concatenate([own[task] for task in tasks], axis=1)  # (M, N of each task)
        counts, total = np.zeros(len(members)), np.zeros(p.shape[1])
        for _ in range(_GREEDY_ROUNDS):
            # Shares of a mean are the same for all candidates, so their sums can be compared.
            best = int(np.argmax(np.log(total + p).mean(axis=1)))
            counts[best] += 1
            total += p[best]
        found |= dict.fromkeys(tasks, counts / counts.sum())
    return found


def _of_labels(members: Sequence[Predictions], truth: dict[str, np.ndarray], task: str) -> np.ndarray:
    """Give the log-probabilities that members have for the labels, (M, N)."""
    rows = np.arange(len(truth[task]))
    return np.stack([_bounded(getattr(member, task))[rows, truth[task]] for member in members])


def _bounded(logits: np.ndarray) -> np.ndarray:
    """Give log-probabilities that are finite to reckon with, even of one who is sure of something else."""
    return log_softmax(logits).clip(min=-100)


# What predicts with something fitted: members -> name -> predictions.
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
    """Predict each part of the videos by what was fitted to the others, so that gains are honest.

    Args:
        truth: task -> (N,), video: (N,) int64, of the members' segments.
        fit_to: fits something to members and truth.

    Raises:
        DataError: all segments are of one video, so that there are no others.
    """
    num_videos = int(video.max()) + 1
    if num_videos < 2:
        raise DataError(f"{source}: cross-fitting needs segments of two videos or more; these are all of one.")
    fold = np.random.default_rng(0).permutation(num_videos)[video] % min(folds, num_videos)
    parts: dict[str, list[Predictions]] = {}
    for held_out in range(int(fold.max()) + 1):
        mine = fold == held_out
        predict = fit_to([_rows(one, ~mine) for one in members], {task: of[~mine] for task, of in truth.items()})
        for name, predicted in predict([_rows(one, mine) for one in members]).items():
            parts.setdefault(name, []).append(predicted)
    return {name: _joined(of, source).aligned(members[0].narration_id) for name, of in parts.items()}


def _joined(parts: Sequence[Predictions], source: str) -> Predictions:
    names = tuple(name for part in parts for name in part.narration_id)
    return Predictions(names, *(np.concatenate([getattr(part, task) for part in parts]) for task in _TASKS), source)


def _rows(predictions: Predictions, mask: np.ndarray) -> Predictions:
    names = tuple(np.array(predictions.narration_id, dtype=object)[mask])
    return Predictions(names, predictions.verb[mask], predictions.noun[mask], predictions.source)


def disagreement(members: Sequence[Predictions]) -> dict[str, float]:
    """Give in how many of the segments two members differ about the best class, in percent, over all pairs of them."""
    best = {task: np.stack([getattr(member, task).argmax(axis=1) for member in members]) for task in _TASKS}
    shares: dict[str, list[float]] = {task: [] for task in (*_TASKS, "action")}
    for place in range(len(members) - 1):
        differs = {task: of[place] != of[place + 1 :] for task, of in best.items()}  # (members after it, N)
        differs["action"] = differs["verb"] | differs["noun"]
        for task, one in differs.items():
            shares[task] += one.mean(axis=1).tolist()
    return {task: 100 * float(np.mean(of)) for task, of in shares.items()}
