"""Which segments that a run is scored on it was trained on: its scores on these say little about new segments."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from features.annotations import SplitFiles
from heads.data.splits import choose_split, is_all_folds, num_shared
from heads.runs import read_record
from heads.scoring.folds import Member, join_folds


def num_trained_on(members: Sequence[Member], narration_id: np.ndarray) -> int:
    """Return how many of some segments any of several members was trained on.

    Args:
        members: those that record no training list, or one that is missing, count as trained on none. So do the joined
            folds of a list: each segment is predicted by the run that it was held out of.
        narration_id: (N,) ids of the segments.

    Raises:
        DataError: a training list is wrong.
    """
    trained: set[str] = set()
    for split, files in dict.fromkeys(key for member in members for key in _lists_of(member)):
        named = (files.train, files.validation) if split == "all" else (files.train,)
        if all(file is not None and file.is_file() for file in named):
            trained |= _training_ids(split, files, tuple(file.stat().st_mtime_ns for file in named if file))
    return num_shared(trained, narration_id)


def _lists_of(member: Member) -> list[tuple[str, SplitFiles]]:
    """Return the split and the annotation files of a run, and of an ensemble those of its members as well."""
    if member.is_joined:
        return []
    record = read_record(member.paths[0])
    of_members = [of for path in join_folds(list(map(Path, record.members or ()))) for of in _lists_of(path)]
    return of_members if is_all_folds(record.split) else [(record.split, record.files), *of_members]


@functools.lru_cache(maxsize=4)
def _training_ids(split: str, files: SplitFiles, changed: tuple[int, ...]) -> frozenset[str]:
    """Return the ids of a training list; `changed` is when its files were written, so that a new list is read anew."""
    return frozenset(choose_split(split, files).train.narration_id)
