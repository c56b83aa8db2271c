"""The challenge's scores, and more: accuracy, recall and calibration of verbs, nouns and actions. numpy only.

An action is a pair of verb and noun, scored by the product of their probabilities (Damen et al., IJCV 2022, and
epic-kitchens/C1-Action-Recognition). Every score is a ratio of sums over videos, so a bootstrap over videos is a
matrix product: the number of times that each video was drawn, times its sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from features.actions import action_ids, ids_of
from features.annotations import NUM_NOUNS, Segments
from features.predictions import Predictions

TASKS = ("verb", "noun", "action")
# The name of an action classifier's own accuracies: of the pairs that it scores best, not of verb x noun.
CLASSIFIER = "action head"
KS = (1, 5)
NUM_BINS = 15  # of confidence, as in Guo et al., "On calibration of modern neural networks", ICML 2017


@dataclass(frozen=True, eq=False)
class Results:
    """The predictions for N labelled segments compared with their labels.

    Attributes:
        narration_id: (N,) str objects.
        video: (N,) int64, index of the video of each segment.
        truth: task -> (N,) int64; an action is verb_class * 300 + noun_class.
        hit: (task, k) -> (N,) bool, whether the true class is among the k best; of CLASSIFIER too, where there is one.
        confidence: task -> (N,) float64, the probability of the best class.
        parts: name of a subset, such as "unseen" or "tail" -> task -> (N,) bool, which segments belong to it.
    """

    narration_id: np.ndarray
    video: np.ndarray
    truth: Mapping[str, np.ndarray]
    hit: Mapping[tuple[str, int], np.ndarray]
    confidence: Mapping[str, np.ndarray]
    parts: Mapping[str, Mapping[str, np.ndarray]]

    def __len__(self) -> int:
        return len(self.video)


def compare(
    predictions: Predictions, segments: Segments, parts: Mapping[str, Mapping[str, np.ndarray]] | None = None
) -> Results:
    """Compare predictions with labelled segments.

    Args:
        parts: subsets of the segments to score as well, as in `Results`.

    Raises:
        DataError: the segments have no labels, or some of them have no prediction.
    """
    aligned = predictions.aligned(segments.narration_id)
    truth = _classes_of(segments)
    best = {
        "verb": ranked(aligned.verb, max(KS)),
        "noun": ranked(aligned.noun, max(KS)),
        "action": ranked_actions(aligned.verb, aligned.noun, max(KS)),
    }
    hit = {(task, k): (best[task][:, :k] == truth[task][:, None]).any(axis=1) for task in TASKS for k in KS}
    if aligned.action is not None and aligned.pairs is not None:
        ids = ids_of(aligned.pairs)[ranked(aligned.action, min(max(KS), len(aligned.pairs)))]
        hit |= {(CLASSIFIER, k): (ids[:, :k] == truth["action"][:, None]).any(axis=1) for k in KS}
    confidence = {task: np.exp(log_softmax(getattr(aligned, task)).max(axis=1)) for task in ("verb", "noun")}
    return Results(
        narration_id=segments.narration_id,
        video=np.unique(segments.table.video_id.to_numpy(dtype=str), return_inverse=True)[1],
        truth=truth,
        hit=hit,
        confidence={**confidence, "action": confidence["verb"] * confidence["noun"]},
        parts=parts or {},
    )


def ranked(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the k best classes of each row of finite scores (N, K), best first: (N, k).

    Among equal scores, the class with the lower id comes first. A sort would order them differently on another CPU.
    """
    left, rows = np.array(scores), np.arange(len(scores))
    best = np.empty((len(scores), k), dtype=np.int64)
    for rank in range(k):
        best[:, rank] = left.argmax(axis=1)  # the first of equals
        left[rows, best[:, rank]] = -np.inf
    return best


def ranked_actions(verb: np.ndarray, noun: np.ndarray, k: int) -> np.ndarray:
    """Return the k best pairs of each row, best first, as verb_class * 300 + noun_class: (N, k).

    Pairs are ranked by the sum of their logits, which orders them like the product of their probabilities; sums are the
    same on every machine and never underflow. Among equal sums, the pair with the lower verb id comes first, then the
    one with the lower noun id.

    A pair among the k best is made of one of the k best verbs and one of the k best nouns, since each better verb or
    noun would make a better pair. So few pairs are compared.

    Args:
        verb, noun: finite logits (N, 97) and (N, 300).
    """
    verbs, nouns = ranked(verb, k), ranked(noun, k)
    # In the order of their ids, so that the first of equals is the one with the lower id.
    verbs.sort(axis=1)
    nouns.sort(axis=1)
    sums = _below_best(verb, verbs)[:, :, None] + _below_best(noun, nouns)[:, None, :]
    by_verb, by_noun = np.divmod(ranked(sums.reshape(len(verb), -1), k), k)
    return np.take_along_axis(verbs, by_verb, axis=1) * NUM_NOUNS + np.take_along_axis(nouns, by_noun, axis=1)


def _below_best(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return how far the logits of some classes are below the best of their row, as float64: (N, k), 0 or less.

    The sum of two such differences is exact where it matters. Sums of logits would not be: verbs and nouns may have
    offsets of very different size.
    """
    chosen = np.take_along_axis(logits, classes, axis=1).astype(np.float64)
    return chosen - chosen.max(axis=1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the log-probabilities of each row, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def figures(
    results: Results, weights: np.ndarray | None = None, *, only: Iterable[str] | None = None
) -> dict[str, np.ndarray]:
    """Return scores in percent: name -> (R,), for each of R ways to weight videos.

    - "verb@1" ... "action@5": top-k accuracy, as the challenge has it; "unseen verb@1", "tail action@5", ...: over a
      subset of the segments.
    - "verb mean-class@1" ... "action mean-class@5": the mean over classes of the share of their segments for which they
      are among the k best (mean-class accuracy and mean-class top-5 recall), over the classes that occur.
    - "verb calibration" ...: expected calibration error of the best class, over 15 bins of confidence.
    - "action head@1", "action head@5": of an action classifier, where there is one.

    Args:
        weights: (R, V), how often each video counts; once by default.
        only: names of the scores to compute; all by default.

    A subset without segments has no scores; a subset without segments in a draw has NaN for that draw.
    """
    num_videos = int(results.video.max()) + 1
    weights = np.ones((1, num_videos)) if weights is None else weights
    known: dict[str, Callable[[], np.ndarray]] = {}
    for task in TASKS:
        for k in KS:
            hit = results.hit[task, k]
            known[f"{task}@{k}"] = partial(_share, results.video, hit, np.ones(len(hit), dtype=bool), weights)
            for part, masks in results.parts.items():
                if masks[task].any():
                    known[f"{part} {task}@{k}"] = partial(_share, results.video, hit, masks[task], weights)
        for k in KS:
            known[f"{task} mean-class@{k}"] = partial(_mean_class, results, task, k, weights)
        known[f"{task} calibration"] = partial(_calibration, results, task, weights)
    for k in KS:
        own = results.hit.get((CLASSIFIER, k))
        if own is not None:
            known[f"{CLASSIFIER}@{k}"] = partial(_share, results.video, own, np.ones(len(own), dtype=bool), weights)
    return {name: known[name]() for name in (only or known)}


def _sums(video: np.ndarray, values: np.ndarray, groups: np.ndarray, num_groups: int, num_videos: int) -> np.ndarray:
    """Return the sums of values (N,) by video and group: (V, G)."""
    cells = np.bincount(video * num_groups + groups, weights=values, minlength=num_videos * num_groups)
    return cells.reshape(num_videos, num_groups)


def _share(video: np.ndarray, hit: np.ndarray, mask: np.ndarray, weights: np.ndarray) -> np.ndarray:
    num_videos = weights.shape[1]
    hits, counts = (np.bincount(video, weights=values, minlength=num_videos) for values in (hit & mask, mask))
    with np.errstate(invalid="ignore"):  # a draw without any of these segments
        return 100 * (weights @ hits) / (weights @ counts)


def _mean_class(results: Results, task: str, k: int, weights: np.ndarray) -> np.ndarray:
    classes, index = np.unique(results.truth[task], return_inverse=True)
    size = (len(classes), weights.shape[1])
    hits = weights @ _sums(results.video, results.hit[task, k].astype(float), index, *size)
    counts = weights @ _sums(results.video, np.ones(len(index)), index, *size)
    occurs = counts > 0
    return 100 * np.divide(hits, counts, out=np.zeros_like(hits), where=occurs).sum(axis=1) / occurs.sum(axis=1)


def _calibration(results: Results, task: str, weights: np.ndarray) -> np.ndarray:
    confidence = results.confidence[task]
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    gap = _sums(results.video, confidence - results.hit[task, 1], bins, NUM_BINS, weights.shape[1])
    num = weights @ np.bincount(results.video, minlength=weights.shape[1])
    return 100 * np.abs(weights @ gap).sum(axis=1) / num


def draw_videos(results: Results, *, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """Draw V of V videos with replacement, R times; return how often each was drawn, (R, V).

    Segments of a video are alike, so intervals of a bootstrap over segments would be too narrow (Efron and Tibshirani,
    "An introduction to the bootstrap", 1993, on clustered data).
    """
    num_videos = int(results.video.max()) + 1
    return np.random.default_rng(seed).multinomial(num_videos, np.full(num_videos, 1 / num_videos), draws)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the bounds of the middle 95 % of bootstrap draws (R,)."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def chance(train: Segments) -> dict[str, float]:
    """Return the accuracies, in percent, of k random classes (or pairs) of those that occur in training."""
    counts = {task: len(np.unique(classes)) for task, classes in _classes_of(train).items()}
    return {f"{task}@{k}": 100 * min(1.0, k / counts[task]) for task in TASKS for k in KS}


def most_frequent(train: Segments, segments: Segments) -> dict[str, float]:
    """Return the accuracies, in percent, of always predicting the k most frequent classes (or pairs) of training."""
    truth = _classes_of(segments)
    return {
        f"{task}@{k}": 100 * float(np.isin(truth[task], _most_frequent(classes, k)).mean())
        for task, classes in _classes_of(train).items()
        for k in KS
    }


def _classes_of(segments: Segments) -> dict[str, np.ndarray]:
    return {"verb": segments.verb_class, "noun": segments.noun_class, "action": action_ids(segments)}


def _most_frequent(classes: np.ndarray, k: int) -> np.ndarray:
    values, counts = np.unique(classes, return_counts=True)
    return values[np.argsort(-counts, kind="stable")[:k]]
