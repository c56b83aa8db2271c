"""The scores of runs, ensembles and predictions files, and of baselines that learn nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from features.annotations import Annotations, Segments
from features.errors import DataError, first_few
from features.predictions import Predictions
from features.progress import progress
from heads.prediction_files import BY_VALUES, ScoreKinds
from heads.runs import kept_epoch, predictions_of
from heads.scoring.against import ScoredList
from heads.scoring.folds import Member
from heads.scoring.groups import Members, alone, groups_of
from heads.scoring.metrics import TASKS, Results, chance, compare, draw_videos, figures, interval, most_frequent
from heads.scoring.trained_on import num_trained_on


@dataclass(frozen=True)
class ScoreRow:
    """The scores of a run, or the mean scores of the seeds of a run.

    Attributes:
        num_seeds: the number of runs that the scores are the mean of; 0 for a baseline.
        spread: standard deviation of action@1 over them; None for fewer than two.
        num_segments: the number of segments that were scored, of the `num_known` segments of the list.
        figures: name -> percent, as `heads.scoring.metrics.figures` names them.
        intervals: name -> (low, high), the middle 95 % of a bootstrap over videos; empty for a baseline, and where all
            segments are of one video.
        scored_on: name of the list that was scored.
        epochs: the epoch of each run whose weights were kept (--select); None for what is no run.
        num_folds: the number of folds that are joined to predict the list; 0 where none are.
        copies: names of other sources with the same predictions, which are not counted.
        num_trained_on: how many of the scored segments are in a training list of the runs.
    """

    name: str
    num_seeds: int
    spread: float | None
    num_segments: int
    num_known: int
    figures: Mapping[str, float]
    scored_on: str
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    epochs: tuple[int | None, ...] = ()
    num_folds: int = 0
    copies: tuple[str, ...] = ()
    num_trained_on: int = 0

    @property
    def note_on_training(self) -> str:
        """A sentence, without its end, about scored segments that were trained on; nothing if there are none."""
        if not self.num_trained_on:
            return ""
        return (
            f"trained on {self.num_trained_on:,} of the {self.num_segments:,} segments that it is scored on; its "
            "scores do not show how good it is on new segments"
        )


@dataclass(frozen=True)
class Group:
    """A row of scores, the members that it is the mean of, and the scores of each member: name -> percent."""

    row: ScoreRow
    members: Members
    points: tuple[Mapping[str, float], ...]


@dataclass(frozen=True)
class Difference:
    """By how many percentage points one score of B is above that of A, over the same draws of videos.

    Both are scored on the `num_segments` that both predict, of the `num_known` segments of the split.
    """

    figure: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    num_segments: int
    num_known: int
    scored_on: str


def evaluate_lists(lists: Sequence[ScoredList], *, each: bool) -> list[ScoreRow]:
    """Score runs and files on their lists; after those of a list, baselines where its training list is known.

    Args:
        each: a row per seed, instead of one for all seeds of a run.

    Raises:
        DataError: there is no labelled validation split, or predictions are of segments that it does not have.
    """
    groups = groups_of(lists, each=each)
    shown = progress(groups, total=len(groups), unit="rows", label="scoring", delay_s=5)
    scored = [score_group(group) for group in shown]
    rows: list[ScoreRow] = []
    for of_list in lists:
        rows += [group.row for group in scored if group.members.scored is of_list]
        rows += baselines(of_list)
    return rows


def score_alone(name: str, member: Member, annotations: Annotations, *, tta: bool = False) -> ScoreRow:
    """Return the scores of one member on validation.

    Args:
        tta: score the predictions with test-time augmentation.

    Raises:
        DataError: as for `evaluate_lists`.
    """
    return score_group(alone(name, member, annotations, tta=tta)).row


def score_group(group: Members) -> Group:
    """Score the members of a group, and their mean.

    Raises:
        DataError: as for `evaluate_lists`, or they predict different segments.
    """
    annotations = group.scored.annotations
    segments = labelled_validation(annotations)
    return summarised(group, (score(predictions, segments, annotations) for predictions in group.predictions()))


def summarised(group: Members, scored: Iterable[Results]) -> Group:
    """Return the scores of the members of a group, and their mean.

    Args:
        scored: the results of each member. They are taken one at a time, and only figures are kept of them.
    """
    others = iter(scored)
    first = next(others)
    points, intervals = averaged(chain([first], others))
    actions = [member["action@1"] for member in points]
    row = ScoreRow(
        name=group.name,
        num_seeds=len(points),
        spread=float(np.std(actions, ddof=1)) if len(points) > 1 else None,
        num_segments=len(first),
        num_known=len(labelled_validation(group.scored.annotations)),
        figures={figure: float(np.mean([member[figure] for member in points])) for figure in points[0]},
        scored_on=group.scored.name,
        intervals=intervals,
        epochs=tuple(kept_epoch(path) for path in group.paths),
        num_folds=group.num_folds,
        copies=group.copies,
        num_trained_on=num_trained_on(group.members, first.narration_id),
    )
    return Group(row, group, tuple(points))


def averaged(
    scored: Iterable[Results], *, only: Sequence[str] | None = None
) -> tuple[list[dict[str, float]], dict[str, tuple[float, float]]]:
    """Return the scores of several predictions for the same segments, and the intervals of their means.

    Args:
        only: names of the scores; all by default.

    Returns:
        For each, name -> percent, of the scores that all of them have; and name -> (low, high), empty where all
        segments are of one video.
    """
    points: list[dict[str, float]] = []
    totals: dict[str, np.ndarray] = {}  # of the draws of all predictions
    weights = None
    for results in scored:
        points.append({name: float(value[0]) for name, value in figures(results, only=only).items()})
        weights = draw_videos(results) if weights is None else weights
        if weights.shape[1] < 2:  # all draws of a single video are alike
            continue
        for name, drawn in figures(results, weights, only=only).items():
            totals[name] = totals.get(name, 0) + drawn
    shared = set.intersection(*map(set, points))  # not that of an action classifier, where only some have one
    points = [{name: value for name, value in member.items() if name in shared} for member in points]
    return points, {name: interval(total / len(points)) for name, total in totals.items() if name in shared}


def compare_sources(
    sources: tuple[Path, Path], annotations: Annotations, *, scores: ScoreKinds = BY_VALUES
) -> list[Difference]:
    """Compare two run folders or predictions files, score by score, on the segments of validation that both predict.

    Args:
        scores: what the scores in predictions files are.

    Raises:
        DataError: as for `evaluate_lists`, or they have no segment in common.
    """
    both = [predictions_of(source, "validation", kind=scores.of(source)) for source in sources]
    shared = set(both[0].narration_id) & set(both[1].narration_id)
    if not shared:
        raise DataError(f"{sources[0]} and {sources[1]}: predict no segment in common.")
    names = [name for name in both[0].narration_id if name in shared]
    segments = labelled_validation(annotations)
    scored = [score(predictions.aligned(names), segments, annotations) for predictions in both]
    weights = draw_videos(scored[0])
    point_a, point_b = (figures(results) for results in scored)
    drawn_a, drawn_b = (figures(results, weights) for results in scored)
    return [
        Difference(
            name,
            float(point_a[name][0]),
            float(point_b[name][0]),
            float(point_b[name][0] - point_a[name][0]),
            *interval(drawn_b[name] - drawn_a[name]),
            len(names),
            len(segments),
            segments.source,
        )
        for name in point_a
        if name in point_b
    ]


def score(predictions: Predictions, segments: Segments, annotations: Annotations) -> Results:
    """Compare predictions with the labelled segments that they cover, with the challenge's unseen and tail subsets.

    Raises:
        DataError: predictions are of segments that are not among these.
    """
    covered = covered_by(predictions, segments)
    table = covered.table
    parts = {}
    if annotations.unseen_validation is not None:
        unseen = table.participant_id.isin(annotations.unseen_validation).to_numpy()
        parts["unseen"] = dict.fromkeys(TASKS, unseen)
    if annotations.tail_verbs is not None and annotations.tail_nouns is not None:
        verb = table.verb_class.isin(annotations.tail_verbs).to_numpy(dtype=bool)
        noun = table.noun_class.isin(annotations.tail_nouns).to_numpy(dtype=bool)
        parts["tail"] = {"verb": verb, "noun": noun, "action": verb | noun}
    return compare(predictions, covered, parts)


def covered_by(predictions: Predictions, segments: Segments) -> Segments:
    """Return the segments that predictions cover.

    Raises:
        DataError: predictions are of segments that are not among these.
    """
    mask = np.isin(segments.narration_id.astype(str), np.array(predictions.narration_id, dtype=str))
    if mask.sum() < len(predictions):
        strangers = sorted(set(predictions.narration_id) - set(segments.narration_id))
        raise DataError(
            f"{predictions.source}: {len(strangers)} segments are not in {segments.source}: {first_few(strangers)}; "
            "are these predictions for another split?"
        )
    return segments.where(mask)


def labelled_validation(annotations: Annotations) -> Segments:
    """Return the validation segments; DataError where there are none."""
    if annotations.validation is None:
        raise DataError("no validation annotations to score against; give --annotations.")
    return annotations.validation


def baselines(scored: ScoredList) -> Iterator[ScoreRow]:
    """Yield the scores of the most frequent classes and of chance; none where the training list is not known."""
    annotations = scored.annotations
    if annotations.train is None:
        return
    segments = labelled_validation(annotations)
    scores = {"most frequent": most_frequent(annotations.train, segments), "chance": chance(annotations.train)}
    for name, figures_of_baseline in scores.items():
        yield ScoreRow(name, 0, None, len(segments), len(segments), figures_of_baseline, scored.name)
