"""From predictions of windows to actions: the best ones of each window, and those of the whole video in segments."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.annotations import (
    NUM_NOUNS,
    Segments,
    SplitFiles,
    find_csv,
    read_annotations,
    read_noun_keys,
    read_segments,
    read_verb_keys,
)
from features.files import write_text
from features.intervals import SegmentTimes
from features.predictions import Predictions
from heads.scoring.metrics import log_softmax, ranked_actions

NUM_SHOWN = 5


@dataclass(frozen=True)
class ActionNames:
    """What verbs and nouns are called; a class without a name has its number."""

    verbs: Mapping[int, str]
    nouns: Mapping[int, str]

    def verb(self, verb_class: int) -> str:
        """Return the name of a verb."""
        return self.verbs.get(verb_class, f"verb {verb_class}")

    def noun(self, noun_class: int) -> str:
        """Return the name of a noun."""
        return self.nouns.get(noun_class, f"noun {noun_class}")

    def action(self, verb_class: int, noun_class: int) -> str:
        """Return the name of an action."""
        return f"{self.verb(verb_class)} {self.noun(noun_class)}"


@dataclass(frozen=True)
class Action:
    """An action and its probability."""

    verb_class: int
    noun_class: int
    score: float


@dataclass(frozen=True)
class ActionSegment:
    """An action from one moment of a video to another; a true one has the score 1."""

    start_s: float
    stop_s: float
    action: Action


def best_actions(predictions: Predictions) -> list[list[Action]]:
    """Return the most probable actions of each window, best first.

    The probability of an action is that of its verb times that of its noun, which is also what runs are scored by.
    """
    verb_p, noun_p = (np.exp(log_softmax(logits)) for logits in (predictions.verb, predictions.noun))
    rows = []
    for row, codes in enumerate(ranked_actions(predictions.verb, predictions.noun, NUM_SHOWN)):
        pairs = [divmod(int(code), NUM_NOUNS) for code in codes]
        rows.append([Action(verb, noun, float(verb_p[row, verb] * noun_p[row, noun])) for verb, noun in pairs])
    return rows


def smoothed_segments(predictions: Predictions, windows: SegmentTimes, *, every_s: float) -> list[ActionSegment]:
    """Return the actions of a video, one after the other, from the predictions of windows that slide over it.

    The video is cut into parts of `every_s` seconds. A part has the mean probabilities of all windows that cover its
    middle, and so changes slowly: windows of 2 s smooth over 2 s before and after. Parts with the same best action in a
    row are one segment; its score is their mean.
    """
    end_s = float(windows.stop_s.max())
    borders = np.append(np.arange(0, end_s - 1e-6, every_s), end_s)
    middle_s = (borders[:-1] + borders[1:]) / 2
    first, stop = (np.searchsorted(middle_s, times) for times in (windows.start_s, windows.stop_s))
    num_windows = _covering(np.ones((len(first), 1)), first, stop, len(middle_s))
    covered = np.flatnonzero(num_windows[:, 0] > 0.5)
    verb, noun = (
        (_covering(np.exp(log_softmax(logits)), first, stop, len(middle_s)) / num_windows.clip(min=1))[covered]
        for logits in (predictions.verb, predictions.noun)
    )
    best = np.stack([verb.argmax(axis=1), noun.argmax(axis=1)], axis=1)
    score = verb.max(axis=1) * noun.max(axis=1)
    begins = np.append(True, (np.diff(covered) > 1) | (np.diff(best, axis=0) != 0).any(axis=1))
    return [
        ActionSegment(
            float(borders[covered[rows[0]]]),
            float(borders[covered[rows[-1]] + 1]),
            Action(int(best[rows[0], 0]), int(best[rows[0], 1]), float(score[rows].mean())),
        )
        for rows in np.split(np.arange(len(covered)), np.flatnonzero(begins)[1:])
    ]


def _covering(values: np.ndarray, first: np.ndarray, stop: np.ndarray, num_parts: int) -> np.ndarray:
    """Return for each part the sum of the values of the windows first:stop that it lies in, (num_parts, K)."""
    changes = np.zeros((num_parts + 1, values.shape[1]))
    np.add.at(changes, first, values)
    np.subtract.at(changes, stop, values)
    return changes[:-1].cumsum(axis=0)


def write_actions(path: Path, segments: Sequence[ActionSegment], names: ActionNames) -> None:
    """Write actions as CSV: start, stop (seconds), verb, noun, score."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["start", "stop", "verb", "noun", "score"])
    for segment in segments:
        action = segment.action
        verb, noun = names.verb(action.verb_class), names.noun(action.noun_class)
        writer.writerow([f"{segment.start_s:.3f}", f"{segment.stop_s:.3f}", verb, noun, f"{action.score:.4f}"])
    write_text(path, text.getvalue())


# ---- what people annotated


def read_names(folders: Sequence[Path]) -> ActionNames:
    """Return the names of verbs and nouns, from the first folder that holds the published lists of classes."""
    for folder in folders:
        verbs, nouns = (find_csv(folder, f"EPIC_100_{task}_classes.csv") for task in ("verb", "noun"))
        if verbs is not None and nouns is not None:
            return ActionNames(read_verb_keys(verbs), read_noun_keys(nouns))
    return ActionNames({}, {})


def read_true_segments(annotations: Path | None, files: SplitFiles, video_id: str) -> list[ActionSegment]:
    """Return the annotated actions of a video, by their start; none if it is in no list with labels.

    Args:
        annotations: a CSV, or the folder of the published lists; None for the lists that a run was trained with.

    Raises:
        DataError: `annotations` cannot be read.
    """
    lists: list[Segments | None]
    if annotations is None:
        lists = [read_segments(path) for path in (files.train, files.validation) if path is not None and path.is_file()]
    elif annotations.is_dir():
        published = read_annotations(annotations)
        lists = [published.train, published.validation, published.test]
    else:
        lists = [read_segments(annotations)]
    rows: list[tuple[float, float, int, int]] = []
    for segments in lists:
        if segments is not None and segments.is_labelled:
            table = segments.table[segments.table.video_id == video_id]
            rows += zip(table.start_s, table.stop_s, table.verb_class, table.noun_class, strict=True)
    return [
        ActionSegment(float(start_s), float(stop_s), Action(int(verb), int(noun), 1.0))
        for start_s, stop_s, verb, noun in sorted(rows)
    ]


def folders_of_names(annotations: Path | None, files: SplitFiles) -> list[Path]:
    """Return the folders in which the lists of classes may lie: beside the annotations."""
    if annotations is not None:
        return [annotations if annotations.is_dir() else annotations.parent]
    return [path.parent for path in (files.validation, files.train) if path is not None]
