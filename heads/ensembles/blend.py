"""Weighted means of predictions, and weights that are fitted. Arithmetic only: reads no file.

Averaging networks that were trained from different seeds is the most reliable gain (Lakshminarayanan et al., "Simple
and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS 2017). Weights are fitted to the
likelihood of the labels; an accuracy would depend on chance in a few segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from features.annotations import NUM_CLASSES
from features.errors import DataError
from features.predictions import Predictions
from heads.ensembles.actions import ActionMean, added
from heads.scoring.metrics import log_softmax

KINDS = ("probabilities", "logits")
_TASKS = tuple(NUM_CLASSES)
_GREEDY_ROUNDS = 50

# Weights of M members by task: (M,) each, not negative, with sum 1.
Weights = dict[str, np.ndarray]


def uniform(num_members: int) -> Weights:
    """Return the same weight for every member."""
    return {task: np.full(num_members, 1 / num_members) for task in _TASKS}


def blend(members: Iterable[Predictions], weights: Weights, kind: str, *, source: str) -> Predictions:
    """Return the mean of predictions for the same segments, separately for verbs and nouns, as log-probabilities.

    There is a mean of the scores of actions where a member that counts has any (heads/ensembles/actions.py).

    Args:
        members: taken one at a time, so that hundreds of them need no more memory than a few.
        kind: "probabilities", or "logits": log-probabilities, as logits of different heads have different offsets.
    """
    return blends(members, [Part(weights)], kind, source=source)[0]


@dataclass(frozen=True, eq=False)
class Part:
    """A mean of members: their weights, and (N,) bool, the segments that it is wanted for; all of them by default."""

    weights: Weights
    mask: np.ndarray | None = None

    def rows(self, values: np.ndarray) -> np.ndarray:
        """Return the rows of its segments."""
        return values if self.mask is None else values[self.mask]


def blends(members: Iterable[Predictions], parts: Sequence[Part], kind: str, *, source: str) -> list[Predictions]:
    """Return several means of the same members, as `blend` does each; each member is taken once for all of them."""
    names: tuple[str, ...] = ()
    totals: list[dict[str, np.ndarray]] = [{} for _ in parts]
    of_actions = [ActionMean(kind) for _ in parts]
    for number, member in enumerate(members):
        names = names or member.narration_id
        for task in _TASKS:
            if not any(part.weights[task][number] > 0 for part in parts):
                continue
            log_p = log_softmax(getattr(member, task))
            for part, total in zip(parts, totals, strict=True):
                if (weight := part.weights[task][number]) > 0:
                    total[task] = added(total.get(task), part.rows(log_p), weight, kind)
        weights = [float(np.mean([part.weights[task][number] for task in _TASKS])) for part in parts]
        if member.action is not None and member.pairs is not None and any(weights):
            log_p = log_softmax(member.action).astype(np.float32)
            for part, mean, weight in zip(parts, of_actions, weights, strict=True):
                mean.add(part.rows(log_p), member.pairs, weight)
    ids = np.array(names, dtype=object)
    means = []
    for part, total, mean in zip(parts, totals, of_actions, strict=True):
        verb, noun = (_finished(total[task], kind) for task in _TASKS)
        means.append(Predictions(tuple(part.rows(ids)), verb, noun, source, mean.log_p(), mean.pairs))
    return means


def _finished(total: np.ndarray, kind: str) -> np.ndarray:
    return (log_softmax(total) if kind == "logits" else total).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """What weights are fitted to: log-probabilities that M members give N labelled segments, float64.

    They are finite, even of a member that gives a label the probability 0.

    Attributes:
        own: task -> (M, N), of the labels. They are all that the mean of probabilities needs.
        whole: task -> (M, N, K), of all classes, for the mean of logits; else empty.
    """

    own: Mapping[str, np.ndarray]
    whole: Mapping[str, np.ndarray]

    def rows(self, mask: np.ndarray) -> Likelihoods:
        """Return those of some segments, (N,) bool."""
        own, whole = (
            {task: np.compress(mask, values, axis=1) for task, values in by_task.items()}
            for by_task in (self.own, self.whole)
        )
        return Likelihoods(own, whole)


class LikelihoodCollector:
    """Collects the likelihoods of members that go by one after the other.

    Args:
        truth: task -> (N,) int64, the labels.
        kind: of the mean that weights are fitted for.
    """

    def __init__(self, truth: Mapping[str, np.ndarray], kind: str) -> None:
        self._truth, self._kind = truth, kind
        self._own: dict[str, list[np.ndarray]] = {task: [] for task in _TASKS}
        self._whole: dict[str, list[np.ndarray]] = {task: [] for task in _TASKS if kind == "logits"}

    def add(self, member: Predictions) -> None:
        """Keep what is needed of a member."""
        for task, labels in self._truth.items():
            log_p = log_softmax(getattr(member, task)).clip(min=-100)
            self._own[task].append(log_p[np.arange(len(labels)), labels])
            if self._kind == "logits":
                self._whole[task].append(log_p)

    def likelihoods(self) -> Likelihoods:
        """Return the likelihoods of all members, and let go of them: those of all classes are large."""
        own, whole = ({task: np.stack(kept.pop(task)) for task in list(kept)} for kept in (self._own, self._whole))
        return Likelihoods(own, whole)


def fit(likelihoods: Likelihoods, *, per_task: bool) -> Weights:
    """Fit weights to the likelihood of labelled segments: for the mean of logits where those of all classes are there.

    Args:
        per_task: fit weights for verbs and other ones for nouns, instead of one set for both.

    The likelihood is concave in the weights of probabilities, and nearly always has one maximum in those of logits.
    """
    own = {task: torch.from_numpy(values) for task, values in likelihoods.own.items()}
    whole = {task: torch.from_numpy(values) for task, values in likelihoods.whole.items()}
    num_members = len(own["verb"])

    def log_likelihood(share: torch.Tensor, task: str) -> torch.Tensor:
        """Return the mean over segments, for the log-weights (M,) of the members."""
        if not whole:
            return (share[:, None] + own[task]).logsumexp(dim=0).mean()
        mixed = torch.tensordot(share.exp(), whole[task], dims=1).logsumexp(dim=1)
        return (share.exp() @ own[task] - mixed).mean()

    def fitted(tasks: Sequence[str]) -> np.ndarray:
        score = torch.zeros(num_members, dtype=torch.float64, requires_grad=True)
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


def greedy(likelihoods: Likelihoods, *, per_task: bool) -> Weights:
    """Choose members one after the other, each as often as it helps; return weights in fiftieths, most of them 0.

    Each step adds the member with which the mean of probabilities gives the labels the highest likelihood (Caruana et
    al., "Ensemble selection from libraries of models", ICML 2004).
    """
    own = {task: np.exp(values) for task, values in likelihoods.own.items()}
    weights: Weights = {}
    for tasks in [(task,) for task in _TASKS] if per_task else [_TASKS]:
        p = np.concatenate([own[task] for task in tasks], axis=1)  # (M, N of each task)
        counts, total = np.zeros(len(p)), np.zeros(p.shape[1])
        for _ in range(_GREEDY_ROUNDS):
            # Shares of a mean are the same for all candidates, so their sums can be compared.
            best = int(np.argmax(np.log(total + p).mean(axis=1)))
            counts[best] += 1
            total += p[best]
        weights |= dict.fromkeys(tasks, counts / counts.sum())
    return weights


def folds_of_videos(video: np.ndarray, *, folds: int = 5, source: str) -> list[np.ndarray]:
    """Return the segments that each fold holds out, (N,) bool. No video is in two folds, so that gains are honest.

    Args:
        video: (N,) int64, index of the video of each segment.

    Raises:
        DataError: all segments are of one video, so that there is a single fold.
    """
    num_videos = int(video.max()) + 1
    if num_videos < 2:
        raise DataError(f"{source}: cross-fitting needs segments of two videos or more; these are all of one.")
    fold = np.random.default_rng(0).permutation(num_videos)[video] % min(folds, num_videos)
    return [fold == number for number in range(int(fold.max()) + 1)]


def best_classes(predictions: Predictions) -> dict[str, np.ndarray]:
    """Return the predicted class of each segment by task, (N,) int16: what `disagreement` needs of a member."""
    return {task: getattr(predictions, task).argmax(axis=1).astype(np.int16) for task in _TASKS}


def disagreement(members: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Return the percentage of segments for which two members predict different classes, a mean over all pairs.

    Args:
        members: the `best_classes` of each.
    """
    best = {task: np.stack([classes[task] for classes in members]) for task in _TASKS}
    shares: dict[str, list[float]] = {task: [] for task in (*_TASKS, "action")}
    for member in range(len(members) - 1):
        differs = {
            task: classes[member] != classes[member + 1 :] for task, classes in best.items()
        }  # (members after it, N)
        differs["action"] = differs["verb"] | differs["noun"]
        for task, masks in differs.items():
            shares[task] += masks.mean(axis=1).tolist()
    return {task: 100 * float(np.mean(of_pairs)) for task, of_pairs in shares.items()}
