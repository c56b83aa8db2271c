"""Score runs, ensembles and predictions files beside each other, and beside what needs no learning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from features.annotations import Annotations, Segments
from features.errors import DataError, first_few
from features.predictions import Predictions
from heads.runs import TTA_PREDICTIONS, group_of, predictions_of
from heads.scoring.metrics import TASKS, Results, chance, compare, draw_videos, figures, interval, most_frequent


@dataclass(frozen=True)
class ScoreRow:
    """One line of a table: a run, or the mean over the seeds of one.

    Attributes:
        num_seeds: how many runs the line is the mean of; 0 for a baseline.
        spread: standard deviation of action@1 over them; None for fewer than two.
        num_segments: how many segments were scored, of `num_known` that the split has.
        figures: name -> percent, as `heads.scoring.metrics.figures` names them.
        intervals: name -> (low, high), where 95 % of a bootstrap over videos lie; empty for a baseline, and where all
            segments are of one video.
    """

    name: str
    num_seeds: int
    spread: float | None
    num_segments: int
    num_known: int
    figures: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Members:
    """What is scored as one: run folders or predictions files, which are seeds of each other.

    Attributes:
        tta: of runs, what they predict with test-time augmentation.
    """

    name: str
    paths: tuple[Path, ...]
    tta: bool = False

    def predictions(self) -> list[Predictions]:
        """Read what each predicts for validation.

        Raises:
            DataError: one has no predictions, or they predict different segments.
        """
        predicted = [predictions_of(path, "validation", tta=self.tta) for path in self.paths]
        names = [set(one.narration_id) for one in predicted]
        if any(one != names[0] for one in names):
            numbers = ", ".join(str(len(one)) for one in names)
            raise DataError(f"{self.name}: its seeds predict different segments ({numbers}).")
        return predicted


@dataclass(frozen=True)
class Group:
    """A scored row, what it is the mean of, and the figures of each of these: name -> percent."""

    row: ScoreRow
    members: Members
    points: tuple[Mapping[str, float], ...]


@dataclass(frozen=True)
class Difference:
    """How much one figure of B is above that of A, in percentage points, over the same draws of videos.

    Both are scored on the `num_segments` that both predict, of `num_known` that the split has.
    """

    figure: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    num_segments: int
    num_known: int


def evaluate_sources(sources: Sequence[Path], annotations: Annotations, *, each: bool) -> list[ScoreRow]:
    """Score run folders and predictions files on the validation split, with baselines where training is known.

    Args:
        each: a row for every run, instead of one for all seeds of it.

    Raises:
        DataError: there is no labelled validation split, or predictions are of segments that it does not have.
    """
    groups = [score_group(group, annotations) for group in groups_of(sources, each=each)]
    return [group.row for group in groups] + list(baselines(annotations))


def groups_of(sources: Sequence[Path], *, each: bool) -> list[Members]:
    """Put together what is scored as one: the seeds of a run.

    Where all seeds of a run have predictions with test-time augmentation, these are a group of their own below.

    Args:
        each: every run by itself.
    """
    groups: dict[Path, list[Path]] = {}
    for source in (Path(given).resolve() for given in sources):
        together = source.is_dir() and not each
        groups.setdefault(source.with_name(group_of(source)) if together else source, []).append(source)
    found = []
    for group, members in groups.items():
        found.append(Members(group.name, tuple(members)))
        if all((member / TTA_PREDICTIONS["validation"]).is_file() for member in members):
            found.append(Members(f"{group.name} +tta", tuple(members), tta=True))
    return found


def score_as_one(name: str, members: Sequence[Path], annotations: Annotations, *, tta: bool = False) -> ScoreRow:
    """Give the mean of the scores that run folders or predictions files have on validation, which are seeds of one.

    Args:
        tta: score the predictions with test-time augmentation.

    Raises:
        DataError: as for `evaluate_sources`, or they predict different segments.
    """
    return score_group(Members(name, tuple(members), tta=tta), annotations).row


def score_group(group: Members, annotations: Annotations) -> Group:
    """Score run folders or predictions files which are seeds of one, each and together.

    Raises:
        DataError: as for `score_as_one`.
    """
    predicted = group.predictions()
    segments = _validation(annotations)
    scored = [score(one, segments, annotations) for one in predicted]
    points, intervals = averaged(scored)
    actions = [one["action@1"] for one in points]
    row = ScoreRow(
        name=group.name,
        num_seeds=len(scored),
        spread=float(np.std(actions, ddof=1)) if len(scored) > 1 else None,
        num_segments=len(scored[0]),
        num_known=len(segments),
        figures={figure: float(np.mean([one[figure] for one in points])) for figure in points[0]},
        intervals=intervals,
    )
    return Group(row, group, tuple(points))


def averaged(
    scored: Sequence[Results], *, only: Sequence[str] | None = None
) -> tuple[list[dict[str, float]], dict[str, tuple[float, float]]]:
    """Give the figures of each of several predictions for the same segments, and the intervals of their means.

    Args:
        only: names of the figures that are wanted; all by default.

    Returns:
        A dictionary of figures in percent for each, and name -> (low, high), empty where all segments are of one video.
    """
    points = [{name: float(value[0]) for name, value in figures(one, only=only).items()} for one in scored]
    weights = draw_videos(scored[0])
    if weights.shape[1] < 2:  # one video drawn again and again would promise certainty
        return points, {}
    drawn = [figures(one, weights, only=only) for one in scored]
    return points, {name: interval(np.mean([one[name] for one in drawn], axis=0)) for name in points[0]}


def compare_sources(a: Path, b: Path, annotations: Annotations) -> list[Difference]:
    """Compare two run folders or predictions files, figure by figure, on the segments of validation that both predict.

    Raises:
        DataError: as for `evaluate_sources`, or they have no segment in common.
    """
    both = [predictions_of(Path(source), "validation") for source in (a, b)]
    shared = set(both[0].narration_id) & set(both[1].narration_id)
    if not shared:
        raise DataError(f"{a} and {b}: predict no segment in common.")
    names = [name for name in both[0].narration_id if name in shared]
    segments = _validation(annotations)
    scored = [score(predictions.aligned(names), segments, annotations) for predictions in both]
    weights = draw_videos(scored[0])
    (point_a, point_b), (drawn_a, drawn_b) = ([figures(one, how) for one in scored] for how in (None, weights))
    return [
        Difference(
            name,
            float(point_a[name][0]),
            float(point_b[name][0]),
            float(point_b[name][0] - point_a[name][0]),
            *interval(drawn_b[name] - drawn_a[name]),
            len(names),
            len(segments),
        )
        for name in point_a
    ]


def score(predictions: Predictions, segments: Segments, annotations: Annotations) -> Results:
    """Hold predictions against those of the labelled segments that they cover, with the challenge's parts.

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
    """Give the segments that predictions cover.

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


def _validation(annotations: Annotations) -> Segments:
    if annotations.validation is None:
        raise DataError("no validation annotations to score against; give --annotations.")
    return annotations.validation


def baselines(annotations: Annotations) -> Iterator[ScoreRow]:
    """Score what needs no learning: the most frequent classes, and chance; nothing where training is not known."""
    if annotations.train is None:
        return
    segments = annotations.validation
    yield ScoreRow("most frequent", 0, None, len(segments), len(segments), most_frequent(annotations.train, segments))
    yield ScoreRow("chance", 0, None, len(segments), len(segments), chance(annotations.train))
