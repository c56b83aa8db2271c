"""Which segments that a run is scored on it was trained on: its scores on these say little about new segments."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from features.annotations import SplitFiles
from heads.data.splits import choose_split, num_shared
from heads.runs import read_record


def num_trained_on(paths: Sequence[Path], narration_id: np.ndarray) -> int:
    """Return how many of some segments a run, an ensemble, or any of several runs was trained on.

    Args:
        paths: run folders and predictions files. Those that record no training list, or one that is missing, count as
            trained on none.
        narration_id: (N,) ids of the segments.

    Raises:
        DataError: a training list is wrong.
    """
    trained: set[str] = set()
    for split, files in dict.fromkeys(key for path in paths for key in _lists_of(path)):
        named = (files.train, files.validation) if split == "all" else (files.train,)
        if all(file is not None and file.is_file() for file in named):
            trained |= _training_ids(split, files, tuple(file.stat().st_mtime_ns for file in named if file))
    return num_shared(trained, narration_id)


def _lists_of(path: Path) -> list[tuple[str, SplitFiles]]:
    """Return the split and the annotation files of a run, and of an ensemble those of its members as well."""
    record = read_record(path)
    members = [read_record(Path(member)) for member in record.members or ()]
    return [(one.split, one.files) for one in (record, *members)]


@functools.lru_cache(maxsize=4)
def _training_ids(split: str, files: SplitFiles, changed: tuple[int, ...]) -> frozenset[str]:
    """Return the ids of a training list; `changed` is when its files were written, so that a new list is read anew."""
    return frozenset(choose_split(split, files).train.narration_id)
