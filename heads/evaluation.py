"""Score runs, ensembles and predictions files beside each other, and beside what needs no learning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.annotations import Annotations, Segments
from features.errors import DataError, first_few
from features.predictions import Predictions
from heads.metrics import KS, TASKS, Accuracies, accuracies, chance, most_frequent
from heads.runs import group_of, predictions_of


@dataclass(frozen=True)
class Row:
    """One line of a table: a run, or the mean over the seeds of one.

    Attributes:
        num_seeds: how many runs the line is the mean of; 0 for a baseline.
        spread: standard deviation of action top-1 over them; None for fewer than two.
        num_segments: how many segments were scored, of `num_known` that the split has.
        top: (task, k) -> percent.
        unseen, tail: task -> top-1 in percent; empty where there is no list or no such segment.
    """

    name: str
    num_seeds: int
    spread: float | None
    num_segments: int
    num_known: int
    top: Mapping[tuple[str, int], float]
    unseen: Mapping[str, float]
    tail: Mapping[str, float]


def evaluate_sources(sources: Sequence[Path], annotations: Annotations, *, each: bool) -> list[Row]:
    """Score run folders and predictions files on the validation split, with baselines where training is known.

    Args:
        each: a row for every run, instead of one for all seeds of it.

    Raises:
        DataError: there is no labelled validation split, or predictions are of segments that it does not have.
    """
    segments = annotations.validation
    if segments is None:
        raise DataError("no validation annotations to score against; give --annotations.")
    groups: dict[str, list[Path]] = {}
    for source in (Path(given).resolve() for given in sources):
        together = source.is_dir() and not each
        groups.setdefault(str(source.with_name(group_of(source)) if together else source), []).append(source)
    rows = [
        _mean_row(
            group_of(members[0]) if not each else Path(name).name,
            [_score(predictions_of(member, "validation"), segments, annotations) for member in members],
            len(segments),
        )
        for name, members in groups.items()
    ]
    return rows + _baselines(annotations)


@dataclass(frozen=True)
class _Score:
    overall: Accuracies
    unseen: dict[str, float]
    tail: dict[str, float]


def _score(predictions: Predictions, segments: Segments, annotations: Annotations) -> _Score:
    covered = _covered(predictions, segments)
    table = covered.table
    unseen = tail = {}
    if annotations.unseen_validation is not None:
        mask = table.participant_id.isin(annotations.unseen_validation).to_numpy()
        unseen = _top1(predictions, covered, dict.fromkeys(TASKS, mask))
    if annotations.tail_verbs is not None and annotations.tail_nouns is not None:
        verb = table.verb_class.isin(annotations.tail_verbs).to_numpy(dtype=bool)
        noun = table.noun_class.isin(annotations.tail_nouns).to_numpy(dtype=bool)
        tail = _top1(predictions, covered, {"verb": verb, "noun": noun, "action": verb | noun})
    return _Score(accuracies(predictions, covered), unseen, tail)


def _covered(predictions: Predictions, segments: Segments) -> Segments:
    mask = np.isin(segments.narration_id.astype(str), np.array(predictions.narration_id, dtype=str))
    if mask.sum() < len(predictions):
        strangers = sorted(set(predictions.narration_id) - set(segments.narration_id))
        raise DataError(
            f"{predictions.source}: {len(strangers)} segments are not in {segments.source}: {first_few(strangers)}; "
            "are these predictions for another split?"
        )
    return segments.where(mask)


def _top1(predictions: Predictions, segments: Segments, masks: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {
        task: accuracies(predictions, segments.where(mask)).top[task, 1] for task, mask in masks.items() if mask.any()
    }


def _mean_row(name: str, scores: list[_Score], num_known: int) -> Row:
    counts = {score.overall.num_segments for score in scores}
    if len(counts) > 1:
        raise DataError(f"{name}: its seeds predict different numbers of segments ({sorted(counts)}).")
    actions = [score.overall.top["action", 1] for score in scores]
    return Row(
        name=name,
        num_seeds=len(scores),
        spread=float(np.std(actions, ddof=1)) if len(scores) > 1 else None,
        num_segments=counts.pop(),
        num_known=num_known,
        top=_mean(score.overall.top for score in scores),
        unseen=_mean(score.unseen for score in scores),
        tail=_mean(score.tail for score in scores),
    )


def _mean(values: Iterable[Mapping]) -> dict:
    values = list(values)
    return {key: float(np.mean([value[key] for value in values])) for key in values[0]}


def _baselines(annotations: Annotations) -> list[Row]:
    if annotations.train is None:
        return []
    segments = annotations.validation
    tops = {
        "most frequent": most_frequent(annotations.train, segments),
        "chance": chance(annotations.train),
    }
    return [Row(name, 0, None, len(segments), len(segments), top, {}, {}) for name, top in tops.items()]


def column_names() -> list[str]:
    """Give the headings of the accuracies, in the order of the table."""
    return [f"{task}@{k}" for task in TASKS for k in KS]
