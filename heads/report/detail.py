"""What one row gets right and wrong, segment by segment: by class, by length, by participant; and how sure it is."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from features.annotations import NUM_NOUNS, NUM_VERBS, Annotations, Segments
from features.predictions import Predictions
from heads.scoring.evaluation import averaged, covered_by
from heads.scoring.metrics import NUM_BINS, TASKS, Results, compare, ranked

CLASSES = {"verb": NUM_VERBS, "noun": NUM_NOUNS}
# In seconds; each bin begins where the one before ends. The median of EPIC-KITCHENS-100 is about 1.5 s, the mean 3 s.
LENGTHS_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, float("inf"))
THIRDS = ("head", "middle", "tail")
NEVER = "never in training"
NUM_CONFUSED, NUM_SHOWN = 15, 12


@dataclass(frozen=True)
class Part:
    """Some of the segments, and their top-1.

    Attributes:
        figures: task -> percent.
        intervals: task -> 95 % of a bootstrap over videos; empty where they are of one video.
    """

    name: str
    num_segments: int
    figures: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Third:
    """Classes that training shows about equally often.

    Attributes:
        fewest, most: training segments of a class, over those of the third.
        part: their segments; None where there are none to score.
    """

    name: str
    num_classes: int
    fewest: int
    most: int
    part: Part | None


@dataclass(frozen=True)
class Confusion:
    """One class taken for another.

    Attributes:
        count: segments, a seed.
        share: percent of the segments of the true class.
    """

    truth: str
    predicted: str
    count: float
    share: float


@dataclass(frozen=True)
class Matrix:
    """What the most frequent classes are taken for.

    Attributes:
        classes: K names, the most frequent first.
        num_segments: of each class.
        percent: K rows of K + 1 values: of a class's segments, how many are taken for each class and for any other.
    """

    classes: tuple[str, ...]
    num_segments: tuple[int, ...]
    percent: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Bin:
    """Predictions of about the same confidence; `num` of them, a seed, and confidence and accuracy in percent."""

    num: float
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Detail:
    """The per-segment figures of one row, a mean over its seeds.

    Attributes:
        thirds: task -> head, middle, tail, and what training never shows; None where training is not known.
        confused: task -> the most frequent mistakes, most frequent first.
        matrices: task -> of the most frequent classes.
        lengths, participants: parts of the segments.
        unseen: participants whom training does not show, and the others; None where the list is not there.
        strangers: their ids.
        reliability: task -> bins of confidence that hold something, from the lowest on.
        named: task -> whether classes have their names.
    """

    thirds: Mapping[str, tuple[Third, ...]] | None
    confused: Mapping[str, tuple[Confusion, ...]]
    matrices: Mapping[str, Matrix]
    lengths: tuple[Part, ...]
    participants: tuple[Part, ...]
    unseen: tuple[Part, ...] | None
    strangers: frozenset[str]
    reliability: Mapping[str, tuple[Bin, ...]]
    named: Mapping[str, bool]


def look_at(predicted: Sequence[Predictions], annotations: Annotations, training: Segments | None) -> Detail:
    """Look at what some seeds predict for the same segments of validation.

    Args:
        training: what they were trained on; None where it is not known.

    Raises:
        DataError: as for `heads.scoring.evaluation.score`.
    """
    segments = covered_by(predicted[0], annotations.validation)
    truth = {"verb": segments.verb_class, "noun": segments.noun_class}
    lengths, participants = _by_length(segments), _by_participant(segments)
    seen = _by_acquaintance(segments, annotations.unseen_validation)
    thirds = {} if training is None else {task: _thirds(truth[task], task, training) for task in CLASSES}
    masks = lengths | participants | seen
    masks |= {f"{task} {one.name}": mask for task, group in thirds.items() for one, mask in group}
    # A part has top-1 of all three tasks, whichever of them are shown.
    parts = {name: dict.fromkeys(TASKS, mask) for name, mask in masks.items() if mask.any()}
    scored = [compare(one, segments, parts) for one in predicted]
    found = _parts(scored, parts)

    keys = {"verb": annotations.verb_keys, "noun": annotations.noun_keys}
    names = {task: _names(task, keys[task]) for task in CLASSES}
    best = {task: np.stack([_best(one, segments, task) for one in predicted]) for task in CLASSES}
    return Detail(
        thirds={
            task: tuple(replace(one, part=found.get(f"{task} {one.name}")) for one, _ in group)
            for task, group in thirds.items()
        }
        or None,
        confused={task: _confused(truth[task], best[task], names[task]) for task in CLASSES},
        matrices={task: _matrix(truth[task], best[task], names[task]) for task in CLASSES},
        lengths=tuple(found[name] for name in lengths if name in found),
        participants=tuple(found[name] for name in participants),
        unseen=tuple(found[name] for name in seen if name in found) or None,
        strangers=annotations.unseen_validation or frozenset(),
        reliability={task: _reliability(scored, task) for task in TASKS},
        named={task: keys[task] is not None for task in CLASSES},
    )


# ---- parts of the segments


def _by_length(segments: Segments) -> dict[str, np.ndarray]:
    length_s = (segments.table.stop_s - segments.table.start_s).to_numpy()
    return {_length(low, high): (low <= length_s) & (length_s < high) for low, high in itertools.pairwise(LENGTHS_S)}


def _length(low: float, high: float) -> str:
    if low == 0:
        return f"under {high:g} s"
    return f"{low:g} s or more" if np.isinf(high) else f"{low:g} to {high:g} s"


def _by_participant(segments: Segments) -> dict[str, np.ndarray]:
    who = segments.table.participant_id.to_numpy(dtype=str)
    return {name: who == name for name in np.unique(who).tolist()}


def _by_acquaintance(segments: Segments, unseen: frozenset[str] | None) -> dict[str, np.ndarray]:
    if unseen is None:
        return {}
    is_unseen = segments.table.participant_id.isin(unseen).to_numpy(dtype=bool)
    return {"seen in training": ~is_unseen, "unseen in training": is_unseen}


def _thirds(truth: np.ndarray, task: str, training: Segments) -> list[tuple[Third, np.ndarray]]:
    """Cut the classes that training shows into thirds by how often it does, equals in the order of their ids."""
    counts = np.bincount(getattr(training, f"{task}_class"), minlength=CLASSES[task])
    order = np.argsort(-counts, kind="stable")
    groups = dict(zip(THIRDS, np.array_split(order[: np.count_nonzero(counts)], len(THIRDS)), strict=True))
    groups[NEVER] = np.setdiff1d(truth, np.flatnonzero(counts))
    return [
        (
            Third(name, len(classes), int(counts[classes].min()), int(counts[classes].max()), None),
            np.isin(truth, classes),
        )
        for name, classes in groups.items()
        if len(classes)
    ]


def _parts(scored: Sequence[Results], parts: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Part]:
    points, intervals = averaged(scored, only=[f"{name} {task}@1" for name in parts for task in TASKS])
    found = {}
    for name, masks in parts.items():
        mask = masks["action"]
        many = len(np.unique(scored[0].video[mask])) > 1  # one video drawn again and again would promise certainty
        figures = {task: float(np.mean([one[f"{name} {task}@1"] for one in points])) for task in TASKS}
        inside = {task: intervals[f"{name} {task}@1"] for task in TASKS} if many else {}
        found[name] = Part(name, int(mask.sum()), figures, inside)
    return found


# ---- classes taken for each other


def _best(predicted: Predictions, segments: Segments, task: str) -> np.ndarray:
    """Give the best class of each segment, (N,)."""
    return ranked(getattr(predicted.aligned(segments.narration_id), task), 1)[:, 0]


def _names(task: str, keys: Mapping[int, str] | None) -> list[str]:
    return [(keys or {}).get(one, f"{task} {one}") for one in range(CLASSES[task])]


def _confused(truth: np.ndarray, best: np.ndarray, names: Sequence[str]) -> tuple[Confusion, ...]:
    """Count mistakes over M seeds: truth (N,), best (M, N)."""
    wrong = Counter(
        pair for one in best for pair in zip(truth.tolist(), one.tolist(), strict=True) if pair[0] != pair[1]
    )
    in_all = np.bincount(truth, minlength=len(names))
    order = sorted(wrong, key=lambda pair: (-wrong[pair], pair))[:NUM_CONFUSED]
    return tuple(
        Confusion(names[a], names[b], wrong[a, b] / len(best), 100 * wrong[a, b] / len(best) / int(in_all[a]))
        for a, b in order
    )


def _matrix(truth: np.ndarray, best: np.ndarray, names: Sequence[str]) -> Matrix:
    counts = np.bincount(truth, minlength=len(names))
    shown = [one for one in np.argsort(-counts, kind="stable")[:NUM_SHOWN].tolist() if counts[one]]
    column = np.full(len(names), len(shown))  # that of all others
    column[shown] = np.arange(len(shown))
    percent = []
    for one in shown:
        taken = np.bincount(column[best[:, truth == one]].ravel(), minlength=len(shown) + 1)
        percent.append(tuple((100 * taken / taken.sum()).tolist()))
    return Matrix(tuple(names[one] for one in shown), tuple(int(counts[one]) for one in shown), tuple(percent))


# ---- confidence


def _reliability(scored: Sequence[Results], task: str) -> tuple[Bin, ...]:
    """Gather the predictions of all seeds in the bins that calibration errors are counted in."""
    confidence = np.concatenate([one.confidence[task] for one in scored])
    hit = np.concatenate([one.hit[task, 1] for one in scored])
    place = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    found = []
    for one in np.unique(place):
        inside = place == one
        mean = 100 * float(confidence[inside].mean())
        found.append(Bin(inside.sum() / len(scored), mean, 100 * float(hit[inside].mean())))
    return tuple(found)
