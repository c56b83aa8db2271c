"""Several predictions as one: weighted means, and weights that are fitted. Arithmetic only: reads no file.

Averaging what networks trained from different seeds say is the surest gain there is (Lakshminarayanan et al., "Simple
and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS 2017). Weights are fitted to the
likelihood of the labels, not to an accuracy, which would be fitted to the luck of a few segments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from features.predictions import Predictions
from heads.metrics import log_softmax

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
    logs = {task: np.stack([log_softmax(getattr(member, task)) for member in members]) for task in _TASKS}
    mixed = {task: _mean(logs[task], weights[task], kind) for task in _TASKS}
    return Predictions(members[0].narration_id, mixed["verb"], mixed["noun"], source)


def _mean(log_p: np.ndarray, weights: np.ndarray, kind: str) -> np.ndarray:
    """Average log-probabilities (M, N, K): (N, K) float32. In logarithms no probability is too small to count."""
    counted = weights > 0
    log_p, weights = log_p[counted], weights[counted, None, None]
    if kind == "logits":
        return log_softmax((weights * log_p).sum(axis=0)).astype(np.float32)
    return np.logaddexp.reduce(log_p + np.log(weights)).astype(np.float32)


def fit(members: Sequence[Predictions], truth: dict[str, np.ndarray], kind: str, *, per_task: bool) -> Weights:
    """Fit weights to the likelihood of labelled segments.

    Args:
        truth: task -> (N,) int64.
        per_task: verb and noun may trust different members; else one set of weights serves both.

    The likelihood is concave in the weights of probabilities, and nearly always has one summit in those of logits.
    """
    groups = [(task,) for task in _TASKS] if per_task else [_TASKS]
    found: Weights = {}
    for tasks in groups:
        logs = [torch.from_numpy(np.stack([log_softmax(getattr(m, task)) for m in members])) for task in tasks]
        labels = [torch.from_numpy(truth[task]) for task in tasks]
        score = torch.zeros(len(members), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([score], max_iter=100, line_search_fn="strong_wolfe")
        rows = [torch.arange(len(one)) for one in labels]
        own = [log_p[:, row, label] for log_p, row, label in zip(logs, rows, labels, strict=True)]

        def loss(score=score, own=own, logs=logs) -> torch.Tensor:
            share = score.log_softmax(dim=0)[:, None]
            if kind == "probabilities":
                return -sum((share + one).logsumexp(dim=0).mean() for one in own)
            weights = share.exp()
            mixed = [(weights[..., None] * log_p).sum(dim=0).logsumexp(dim=1) for log_p in logs]
            return -sum(((weights * one).sum(dim=0) - total).mean() for one, total in zip(own, mixed, strict=True))

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
    rows = np.arange(len(truth["verb"]))
    own = {
        task: np.exp([log_softmax(getattr(m, task))[rows, truth[task]] for m in members]).clip(1e-30) for task in _TASKS
    }
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


def cross_fitted(
    members: Sequence[Predictions],
    truth: dict[str, np.ndarray],
    video: np.ndarray,
    fitted: Callable[[Sequence[Predictions], dict[str, np.ndarray]], Callable[[Sequence[Predictions]], Predictions]],
    *,
    folds: int = 5,
    source: str,
) -> Predictions:
    """Predict each part of the videos by what was fitted to the others, so that gains are honest.

    Args:
        truth: task -> (N,), video: (N,) int64, of the members' segments.
        fitted: fits something to members and truth, and gives what predicts with it.
    """
    num_videos = int(video.max()) + 1
    fold = np.random.default_rng(0).permutation(num_videos)[video] % min(folds, num_videos)
    verb, noun = (np.empty_like(getattr(members[0], task), dtype=np.float32) for task in _TASKS)
    for held_out in range(int(fold.max()) + 1):
        mine = fold == held_out
        rest = [_rows(member, ~mine) for member in members]
        predicted = fitted(rest, {task: labels[~mine] for task, labels in truth.items()})(
            [_rows(member, mine) for member in members]
        )
        verb[mine], noun[mine] = predicted.verb, predicted.noun
    return Predictions(members[0].narration_id, verb, noun, source)


def _rows(predictions: Predictions, mask: np.ndarray) -> Predictions:
    names = tuple(np.array(predictions.narration_id, dtype=object)[mask])
    return Predictions(names, predictions.verb[mask], predictions.noun[mask], predictions.source)


def disagreement(members: Sequence[Predictions]) -> dict[str, float]:
    """Give in how many of the segments two members differ about the best class, in percent, over all pairs of them."""
    best = {task: np.stack([getattr(member, task).argmax(axis=1) for member in members]) for task in _TASKS}
    pairs = np.triu_indices(len(members), k=1)
    differs = {task: one[pairs[0]] != one[pairs[1]] for task, one in best.items()}
    differs["action"] = differs["verb"] | differs["noun"]
    return {task: 100 * float(one.mean()) for task, one in differs.items()}
