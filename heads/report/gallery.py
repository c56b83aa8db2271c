"""The gallery of a report: segments with what was predicted of them, and strips of frames that live/ decodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from features.annotations import NUM_CLASSES, Segments
from heads.ensembles.blend import blend, uniform
from heads.report.breakdown import class_names
from heads.report.compute import Report
from heads.report.examples import ByTask, choose_examples
from heads.report.ranking import RankedRow
from heads.scoring.evaluation import covered_by, labelled_validation
from heads.scoring.metrics import ranked

FRAMES_PER_STRIP = 5


@dataclass(frozen=True)
class Guess:
    """The classes of a segment in one task: names, and the probabilities that the best row gives them.

    Attributes:
        other: what the other row predicts; None if there is no other row.
    """

    truth: str
    truth_score: float
    predicted: str
    predicted_score: float
    is_right: bool
    other: str | None


@dataclass(frozen=True)
class Example:
    """A segment of validation with its predictions.

    Attributes:
        start_s, stop_s: in seconds of its video.
        narration: in the words of the participant; empty where the annotations have none.
        reasons: why it is shown, keys of `heads.report.examples.REASONS`.
    """

    narration_id: str
    participant_id: str
    video_id: str
    start_s: float
    stop_s: float
    narration: str
    verb: Guess
    noun: Guess
    reasons: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Whether verb and noun are right."""
        return self.verb.is_right and self.noun.is_right


@dataclass(frozen=True)
class Examples:
    """The segments of a gallery in the order in which they were chosen, and the rows that predicted them.

    Attributes:
        other: name of the row that the best one is compared with; None if no other row predicts the same segments.
    """

    examples: tuple[Example, ...]
    best: str
    other: str | None


@dataclass(frozen=True)
class Box:
    """A box on a picture, in shares of its width and height; `name` is left or right (a hand), or held (an object)."""

    name: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Picture:
    """A frame of a strip.

    Attributes:
        jpeg: the content of a JPEG file of `width` x `height` pixels.
        second: when the video shows it.
    """

    jpeg: bytes
    width: int
    height: int
    second: float
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Strip:
    """A segment and its frames in the order of time; where there are none, the reason for people."""

    example: Example
    pictures: tuple[Picture, ...]
    missing: str = ""


@dataclass(frozen=True)
class Gallery:
    """The strips of a report, in the order in which their segments were chosen.

    Attributes:
        num_left_out: how many more were chosen, but would have made the page too large.
        has_boxes: whether boxes are drawn where they are known.
        without_boxes: of each video of which they are not known, the reason.
    """

    strips: tuple[Strip, ...]
    examples: Examples
    num_left_out: int = 0
    has_boxes: bool = False
    without_boxes: tuple[str, ...] = ()


def examples_of(report: Report, num: int) -> Examples:
    """Choose `num` segments of the first list, and return them with what the best row and another one predict.

    Several seeds of a row predict the mean of their probabilities.

    Raises:
        DataError: predictions cannot be read.
    """
    annotations = report.best.group.members.scored.annotations
    first = next(report.best.group.members.predictions())
    segments = covered_by(first, labelled_validation(annotations))
    truth = {"verb": segments.verb_class, "noun": segments.noun_class}
    best = _probability(report.best, segments)
    name, other = next(_others(report, segments), (None, None))
    keys = {"verb": annotations.verb_keys, "noun": annotations.noun_keys}
    names = {task: class_names(task, keys[task]) for task in NUM_CLASSES}
    chosen = choose_examples(truth, best, other, num)
    rows = list(chosen)
    guesses = {
        task: _guesses(truth[task][rows], best[task][rows], None if other is None else other[task][rows], names[task])
        for task in NUM_CLASSES
    }
    table = segments.table.iloc[rows]
    examples = tuple(
        Example(
            narration_id=str(row.narration_id),
            participant_id=str(row.participant_id),
            video_id=str(row.video_id),
            start_s=float(row.start_s),
            stop_s=float(row.stop_s),
            narration=str(row.narration),
            verb=verb,
            noun=noun,
            reasons=reasons,
        )
        for row, verb, noun, reasons in zip(
            table.itertuples(), guesses["verb"], guesses["noun"], chosen.values(), strict=True
        )
    )
    return Examples(examples, report.best.label, name)


def _others(report: Report, segments: Segments) -> Iterator[tuple[str, ByTask]]:
    """Yield the other rows that predict the same segments, best first, with their probabilities."""
    wanted = set(segments.narration_id)
    for row in report.rows:
        is_same = row.paths == report.best.paths  # the best row itself, or its runs with test-time augmentation
        if not is_same and set(next(row.group.members.predictions()).narration_id) == wanted:
            yield row.label, _probability(row, segments)


def _probability(row: RankedRow, segments: Segments) -> ByTask:
    """Return the mean probabilities of a row's seeds for segments: (N, 97) and (N, 300)."""
    members = row.group.members
    predicted = (member.without_actions().aligned(segments.narration_id) for member in members.predictions())
    mean = blend(predicted, uniform(len(members.members)), "probabilities", source=row.label)
    return {task: np.exp(getattr(mean, task)) for task in NUM_CLASSES}


def _guesses(truth: np.ndarray, probability: np.ndarray, other: np.ndarray | None, names: Sequence[str]) -> list[Guess]:
    best = ranked(probability, 1)[:, 0].tolist()
    best_of_other = [None] * len(best) if other is None else ranked(other, 1)[:, 0].tolist()
    return [
        Guess(
            truth=names[true_class],
            truth_score=float(scores[true_class]),
            predicted=names[predicted_class],
            predicted_score=float(scores[predicted_class]),
            is_right=true_class == predicted_class,
            other=None if other_class is None else names[other_class],
        )
        for true_class, predicted_class, other_class, scores in zip(
            truth.tolist(), best, best_of_other, probability, strict=True
        )
    ]
