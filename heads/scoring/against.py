"""The annotations that predictions are scored against: those that a run was trained with, or those that are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from features.annotations import Annotations, SplitFiles, find_splits, read_annotations
from features.errors import DataError
from heads.data.splits import scored_csv
from heads.runs import need_existing, read_record


def annotations_for(sources: Sequence[Path], given: Path | None) -> Annotations:
    """Return the annotations to score against.

    Args:
        sources: run folders and predictions files; a run records the files that it was trained with.
        given: a validation CSV or a folder of annotation files, instead of those.

    Raises:
        DataError: no annotations are given or recorded, or a file is missing or wrong.
    """
    need_existing(sources)
    if given is not None and not given.is_dir():
        files = find_splits(given.parent, validation=given)
        return read_annotations(given.parent, replace(files, test=None))
    if given is not None:
        return read_annotations(given)
    for source in sources:
        record = read_record(source)
        validation = scored_csv(record.split, record.files)
        if validation is not None:
            if not validation.is_file():
                raise DataError(f"{source}: trained with {validation}, which is missing; give --annotations.")
            train = record.files.train
            return read_annotations(
                validation.parent, SplitFiles(train if train and train.is_file() else None, validation, None)
            )
    raise DataError(f"{sources[0]}: does not say what to score it against; give --annotations.")


def known_annotations(sources: Sequence[Path], given: Path | None) -> Annotations | None:
    """Return the annotations to score against, or None where none are given or recorded.

    Raises:
        DataError: a file is wrong, or a file that a run records is missing.
    """
    if given is None:
        records = [read_record(source) for source in sources if source.is_dir()]
        if not any(scored_csv(record.split, record.files) for record in records):
            return None
    return annotations_for(sources, given)
