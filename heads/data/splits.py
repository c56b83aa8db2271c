"""The segments that a run trains on and those that it is scored on."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.annotations import TRAIN_CSV, VALIDATION_CSV, Segments, SplitFiles, concatenate, read_segments
from features.dealing import deal
from features.errors import DataError, OptionError

_FOLD = re.compile(r"fold:(\d{1,4})/(\d{1,4})")
_ALL_FOLDS = re.compile(r"fold:\*/(\d{1,4})")


@dataclass(frozen=True, eq=False)
class TrainSplit:
    """The segments that a run trains on, and those that it is scored on."""

    train: Segments
    validation: Segments | None


def choose_split(name: str, files: SplitFiles) -> TrainSplit:
    """Return the segments of a split by name.

    Args:
        name: "official", the published lists; "all", training and validation lists together and no validation, for a
            final submission; or "fold:I/K", which validates on fold I (from 0) of the training list, cut into K by
            participant, so that no participant is in both parts.

    Raises:
        OptionError: the name is none of these, or there is no such fold.
        DataError: a list that the split needs is missing.
    """
    if files.train is None:
        raise DataError(f"no training annotations: give --annotations (the folder of {TRAIN_CSV}) or --train.")
    train = read_segments(files.train)
    if name == "official":
        return TrainSplit(train, None if files.validation is None else read_segments(files.validation))
    if name == "all":
        if files.validation is None:
            raise DataError(f"--split-train-val all: there is no {VALIDATION_CSV} beside {files.train}.")
        return TrainSplit(concatenate([train, read_segments(files.validation)]), None)
    fold = fold_of(name)
    if fold is None:
        raise OptionError("--split-train-val", f"{name!r} is none of official, all, fold:I/K (such as fold:0/5).")
    return _fold(train, *fold)


def num_shared(train: Collection[str], scored: Sequence[str] | np.ndarray) -> int:
    """Return how many of the segments that are scored, by narration_id, are among those that are trained on."""
    trained = set(train)
    return sum(name in trained for name in scored)


def note_on_shared(train: Segments, validation: Segments | None) -> str:
    """Return a warning if validation segments are trained on; nothing if none is."""
    if validation is None or not (number := num_shared(train.narration_id, validation.narration_id)):
        return ""
    return (
        f"{number:,} of the {len(validation):,} segments of {validation.source} are trained on too; their scores "
        "do not show how good a head is on new segments."
    )


def scored_csv(name: str, files: SplitFiles) -> Path | None:
    """Return the file with the segments that a run with this split is scored on; None if it is scored on none."""
    return {"official": files.validation, "all": None}.get(name, files.train)


def fold_of(name: str) -> tuple[int, int] | None:
    """Return the fold of a split by name, and the number of folds; None for a split that is no fold.

    >>> fold_of("fold:0/5"), fold_of("official")
    ((0, 5), None)
    """
    match = _FOLD.fullmatch(name)
    return None if match is None else (int(match[1]), int(match[2]))


def all_folds(num_folds: int) -> str:
    """Return the name of the split of all folds together: each segment is scored by the run that it was held out of.

    >>> all_folds(5)
    'fold:*/5'
    """
    return f"fold:*/{num_folds}"


def is_all_folds(name: str) -> bool:
    """Whether a split is that of all folds together.

    >>> is_all_folds("fold:*/5"), is_all_folds("fold:0/5")
    (True, False)
    """
    return _ALL_FOLDS.fullmatch(name) is not None


def trained_on(name: str, files: SplitFiles) -> Segments:
    """Return the segments that a run with this split was trained on; of all folds together, the whole training list.

    Raises:
        OptionError, DataError: as for `choose_split`.
    """
    return choose_split("official" if is_all_folds(name) else name, files).train


def _fold(segments: Segments, fold: int, num_folds: int) -> TrainSplit:
    participants = segments.table.participant_id.to_numpy(dtype=str)
    num_participants = len(np.unique(participants))
    if not 2 <= num_folds <= num_participants or fold >= num_folds:
        raise OptionError(
            "--split-train-val",
            f"fold:{fold}/{num_folds}: {num_participants} participants allow 2 to {num_participants} folds, numbered "
            "from 0.",
        )
    held_out = folds_of(participants, num_folds) == fold
    return TrainSplit(segments.where(~held_out), segments.where(held_out))


def folds_of(groups: np.ndarray, num_folds: int) -> np.ndarray:
    """Return the fold of each segment, (N,): groups, such as participants, are dealt to folds of about equal size."""
    _, group_of, counts = np.unique(groups, return_inverse=True, return_counts=True)
    fold_of = np.zeros(len(counts), dtype=int)
    for fold, members in enumerate(deal(counts.tolist(), num_folds)):
        fold_of[members] = fold
    return fold_of[group_of]
