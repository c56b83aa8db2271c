"""What predictions are scored against: the annotations that a run was trained with, or those that are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from features.annotations import (
    Annotations,
    SplitFiles,
    find_splits,
    read_annotations,
)
from features.errors import DataError, first_few
from heads.data.splits import scored_csv
from heads.runs import read_config


def annotations_for(sources: Sequence[Path], given: Path | None) -> Annotations:
    """Give the annotations to score against.

    Args:
        sources: run folders and predictions files; a run knows the files it was trained with.
        given: a validation CSV or a folder of annotation files, instead of those.

    Raises:
        DataError: neither is given nor known, or a file is wrong.
    """
    absent = [str(source) for source in sources if not source.exists()]
    if absent:
        raise DataError(f"{first_few(absent)}: no such run or file.")
    if given is not None and not given.is_dir():
        files = find_splits(given.parent, validation=given)
        return read_annotations(given.parent, replace(files, test=None))
    if given is not None:
        return read_annotations(given)
    for source in sources:
        files, split = files_of(source)
        validation = scored_csv(split, files)
        if validation is not None:
            if not validation.is_file():
                raise DataError(f"{source}: trained with {validation}, which is not there; give --annotations.")
            train = files.train if files.train and files.train.is_file() else None
            return read_annotations(validation.parent, SplitFiles(train, validation, None))
    raise DataError(f"{sources[0]}: does not say what to score it against; give --annotations.")


def known_annotations(sources: Sequence[Path], given: Path | None) -> Annotations | None:
    """Give the annotations to score against, or None where neither is given nor known.

    Raises:
        DataError: a file is wrong, or one that a run names is no longer there.
    """
    if given is None and not any(scored_csv(*reversed(files_of(source))) for source in sources if source.is_dir()):
        return None
    return annotations_for(sources, given)


def files_of(run: Path) -> tuple[SplitFiles, str]:
    """Give the annotation files that a run was trained with, and its way to split; none of a file of predictions."""
    config = read_config(run)
    files = {split: config.get(f"{split}_csv") for split in ("train", "validation", "test")}
    paths = {split: Path(path) if path else None for split, path in files.items()}
    return SplitFiles(**paths), config.get("split", "official")
