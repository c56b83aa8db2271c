"""The scores of one row broken down: by class, segment length and participant, with its mistakes and its confidence."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from features.annotations import NUM_CLASSES, Annotations, Segments
from features.predictions import Predictions
from heads.losses.class_counts import class_counts
from heads.scoring.evaluation import averaged, covered_by, labelled_validation
from heads.scoring.metrics import NUM_BINS, TASKS, Results, compare, ranked

# In seconds; each group begins where the one before it ends. In EPIC-KITCHENS-100 the median is about 1.5 s, the mean
# 3 s.
LENGTHS_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, float("inf"))
FREQUENCY_GROUPS = ("head", "middle", "tail")
NEVER = "never in training"
NUM_CONFUSED, NUM_SHOWN = 15, 12


@dataclass(frozen=True)
class Subset:
    """Top-1 accuracy over a subset of the segments.

    Attributes:
        figures: task -> percent.
        intervals: task -> 95 % of a bootstrap over videos; empty where all segments are of one video.
    """

    name: str
    num_segments: int
    figures: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class FrequencyGroup:
    """Classes that training shows about equally often.

    Attributes:
        fewest, most: training segments of the rarest and of the most frequent class in the group.
        subset: the accuracy over their segments; None where there are none to score.
    """

    name: str
    num_classes: int
    fewest: int
    most: int
    subset: Subset | None


@dataclass(frozen=True)
class Confusion:
    """A frequent mistake.

    Attributes:
        count: segments, as a mean over seeds.
        share: percent of the segments of the true class.
    """

    truth: str
    predicted: str
    count: float
    share: float


@dataclass(frozen=True)
class ConfusionMatrix:
    """The predictions for the most frequent classes.

    Attributes:
        classes: K names, the most frequent first.
        num_segments: of each class.
        percent: K rows of K + 1 values: percent of a true class's segments that are predicted as each class, and as any
            other.
    """

    classes: tuple[str, ...]
    num_segments: tuple[int, ...]
    percent: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ConfidenceBin:
    """Predictions of similar confidence: their number per seed, and their mean confidence and accuracy in percent."""

    num: float
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Breakdown:
    """The scores of one row broken down, as means over its seeds.

    Attributes:
        frequency: task -> head, middle, tail, and classes that training never shows; None where the training list is
            not known.
        confused: task -> the most frequent mistakes, most frequent first.
        matrices: task -> the confusion matrix of the most frequent classes.
        lengths, participants: accuracy by segment length and by participant.
        unseen: accuracy over participants in training and over unseen ones; None where the list of unseen participants
            is missing.
        unseen_participants: their ids.
        reliability: task -> bins of confidence that hold predictions, the lowest confidence first.
        named: task -> whether the names of its classes are known.
    """

    frequency: Mapping[str, tuple[FrequencyGroup, ...]] | None
    confused: Mapping[str, tuple[Confusion, ...]]
    matrices: Mapping[str, ConfusionMatrix]
    lengths: tuple[Subset, ...]
    participants: tuple[Subset, ...]
    unseen: tuple[Subset, ...] | None
    unseen_participants: frozenset[str]
    reliability: Mapping[str, tuple[ConfidenceBin, ...]]
    named: Mapping[str, bool]


def break_down(predicted: Sequence[Predictions], annotations: Annotations, training: Segments | None) -> Breakdown:
    """Break down the scores of the predictions of some seeds for the same segments of validation.

    Args:
        training: the segments that the runs were trained on; None where they are not known.

    Raises:
        DataError: as for `heads.scoring.evaluation.score`.
    """
    segments = covered_by(predicted[0], labelled_validation(annotations))
    truth = {"verb": segments.verb_class, "noun": segments.noun_class}
    lengths, participants = _by_length(segments), _by_participant(segments)
    seen = _by_seen(segments, annotations.unseen_validation)
    groups = {} if training is None else {task: _frequency_groups(truth[task], task, training) for task in NUM_CLASSES}
    masks = lengths | participants | seen
    masks |= {f"{task} {group.name}": mask for task, pairs in groups.items() for group, mask in pairs}
    # All three tasks are scored over every subset, whichever of them are shown.
    parts = {name: dict.fromkeys(TASKS, mask) for name, mask in masks.items() if mask.any()}
    scored = [compare(predictions, segments, parts) for predictions in predicted]
    subsets = _subsets(scored, parts)

    keys = {"verb": annotations.verb_keys, "noun": annotations.noun_keys}
    names = {task: class_names(task, keys[task]) for task in NUM_CLASSES}
    best = {task: np.stack([_best(predictions, segments, task) for predictions in predicted]) for task in NUM_CLASSES}
    return Breakdown(
        frequency={
            task: tuple(replace(group, subset=subsets.get(f"{task} {group.name}")) for group, _ in pairs)
            for task, pairs in groups.items()
        }
        or None,
        confused={task: _confused(truth[task], best[task], names[task]) for task in NUM_CLASSES},
        matrices={task: _matrix(truth[task], best[task], names[task]) for task in NUM_CLASSES},
        lengths=tuple(subsets[name] for name in lengths if name in subsets),
        participants=tuple(subsets[name] for name in participants),
        unseen=tuple(subsets[name] for name in seen if name in subsets) or None,
        unseen_participants=annotations.unseen_validation or frozenset(),
        reliability={task: _reliability(scored, task) for task in TASKS},
        named={task: keys[task] is not None for task in NUM_CLASSES},
    )


# ---- subsets of the segments


def _by_length(segments: Segments) -> dict[str, np.ndarray]:
    length_s = (segments.table.stop_s - segments.table.start_s).to_numpy()
    return {
        _length_name(low, high): (low <= length_s) & (length_s < high) for low, high in itertools.pairwise(LENGTHS_S)
    }


def _length_name(low: float, high: float) -> str:
    if low == 0:
        return f"under {high:g} s"
    return f"{low:g} s or more" if np.isinf(high) else f"{low:g} to {high:g} s"


def _by_participant(segments: Segments) -> dict[str, np.ndarray]:
    participants = segments.table.participant_id.to_numpy(dtype=str)
    return {name: participants == name for name in np.unique(participants).tolist()}


def _by_seen(segments: Segments, unseen: frozenset[str] | None) -> dict[str, np.ndarray]:
    if unseen is None:
        return {}
    is_unseen = segments.table.participant_id.isin(list(unseen)).to_numpy(dtype=bool)
    return {"seen in training": ~is_unseen, "unseen in training": is_unseen}


def _frequency_groups(truth: np.ndarray, task: str, training: Segments) -> list[tuple[FrequencyGroup, np.ndarray]]:
    """Group the classes in training by frequency, equally frequent ones by their ids; return each with its segments."""
    counts = class_counts(training, task)
    order = np.argsort(-counts, kind="stable")
    thirds = np.array_split(order[: np.count_nonzero(counts)], len(FREQUENCY_GROUPS))
    groups = dict(zip(FREQUENCY_GROUPS, thirds, strict=True))
    groups[NEVER] = np.setdiff1d(truth, np.flatnonzero(counts))
    return [
        (
            FrequencyGroup(name, len(classes), int(counts[classes].min()), int(counts[classes].max()), None),
            np.isin(truth, classes),
        )
        for name, classes in groups.items()
        if len(classes)
    ]


def _subsets(scored: Sequence[Results], parts: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Subset]:
    points, intervals = averaged(scored, only=[f"{name} {task}@1" for name in parts for task in TASKS])
    subsets = {}
    for name, masks in parts.items():
        mask = masks["action"]
        figures = {task: float(np.mean([seed[f"{name} {task}@1"] for seed in points])) for task in TASKS}
        has_videos = len(np.unique(scored[0].video[mask])) > 1  # draws of a single video would all be alike
        bounds = {task: intervals[f"{name} {task}@1"] for task in TASKS} if has_videos else {}
        subsets[name] = Subset(name, int(mask.sum()), figures, bounds)
    return subsets


# ---- mistakes


def _best(predicted: Predictions, segments: Segments, task: str) -> np.ndarray:
    """Return the best class of each segment, (N,)."""
    return ranked(getattr(predicted.aligned(segments.narration_id), task), 1)[:, 0]


def class_names(task: str, keys: Mapping[int, str] | None) -> list[str]:
    """Return the name of each class of a task; of classes without a key, such as "verb 7"."""
    return [(keys or {}).get(index, f"{task} {index}") for index in range(NUM_CLASSES[task])]


def _confused(truth: np.ndarray, best: np.ndarray, names: Sequence[str]) -> tuple[Confusion, ...]:
    """Count the mistakes of M seeds: truth (N,), best (M, N)."""
    mistakes = Counter(
        pair for seed in best for pair in zip(truth.tolist(), seed.tolist(), strict=True) if pair[0] != pair[1]
    )
    class_sizes = np.bincount(truth, minlength=len(names))
    order = sorted(mistakes, key=lambda pair: (-mistakes[pair], pair))[:NUM_CONFUSED]
    return tuple(
        Confusion(
            names[a], names[b], mistakes[a, b] / len(best), 100 * mistakes[a, b] / len(best) / int(class_sizes[a])
        )
        for a, b in order
    )


def _matrix(truth: np.ndarray, best: np.ndarray, names: Sequence[str]) -> ConfusionMatrix:
    counts = np.bincount(truth, minlength=len(names))
    shown = [index for index in np.argsort(-counts, kind="stable")[:NUM_SHOWN].tolist() if counts[index]]
    column = np.full(len(names), len(shown))  # the last column is for all other classes
    column[shown] = np.arange(len(shown))
    percent = []
    for index in shown:
        predicted = np.bincount(column[best[:, truth == index]].ravel(), minlength=len(shown) + 1)
        percent.append(tuple((100 * predicted / predicted.sum()).tolist()))
    return ConfusionMatrix(
        tuple(names[index] for index in shown), tuple(int(counts[index]) for index in shown), tuple(percent)
    )


# ---- confidence


def _reliability(scored: Sequence[Results], task: str) -> tuple[ConfidenceBin, ...]:
    """Put the predictions of all seeds into the bins that the calibration error is computed with."""
    confidence = np.concatenate([results.confidence[task] for results in scored])
    hit = np.concatenate([results.hit[task, 1] for results in scored])
    bin_index = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    bins = []
    for index in np.unique(bin_index):
        mask = bin_index == index
        mean = 100 * float(confidence[mask].mean())
        bins.append(ConfidenceBin(mask.sum() / len(scored), mean, 100 * float(hit[mask].mean())))
    return tuple(bins)
