"""The lists of annotations that predictions are scored against: those that runs were trained with, or a given one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from features.annotations import VALIDATION_CSV, Annotations, SplitFiles, find_splits, read_annotations
from features.console import short_names
from features.errors import DataError
from features.files import sha256_of_file
from features.prediction_formats import read_predictions_file
from heads.data.splits import scored_csv
from heads.prediction_files import BY_VALUES, ScoreKinds
from heads.runs import RunRecord, need_existing, read_record


@dataclass(frozen=True, eq=False)
class ScoredList:
    """A list of labelled segments, and the run folders and predictions files that are scored on it.

    Attributes:
        name: tells the list apart from others.
        annotations: has the list as its validation split; of folds, that is the training list.
        scores: what the scores in predictions files are.
    """

    name: str
    annotations: Annotations
    sources: tuple[Path, ...]
    scores: ScoreKinds = BY_VALUES


def lists_for(sources: Sequence[Path], given: Path | None, scores: ScoreKinds = BY_VALUES) -> list[ScoredList]:
    """Return the lists to score against, each with its sources; first that of the runs with the official split.

    A predictions file is scored on the first list, or on the one that has its first segment. Where two runs recorded
    lists in different folders, these are one list if the files are the same.

    Args:
        sources: run folders and predictions files; a run records the files that it was trained with.
        given: a validation CSV, or a folder of annotation files, instead of those.
        scores: what the scores in predictions files are.

    Raises:
        DataError: no annotations are given or recorded, or a file is missing or wrong.
    """
    need_existing(sources)
    if given is not None and not given.is_dir():
        files = find_splits(given.parent, validation=given)
        annotations = read_annotations(given.parent, replace(files, test=None))
        return [ScoredList(given.name, annotations, tuple(sources), scores)]
    records = {source: read_record(source) for source in sources if source.is_dir()}
    if given is not None:
        records = {source: replace(record, files=find_splits(given)) for source, record in records.items()}
    by_list = _by_list(records)
    if not by_list:
        if given is None:
            raise DataError(f"{sources[0]}: does not say what to score it against; give --annotations.")
        return [ScoredList(VALIDATION_CSV, read_annotations(given), tuple(sources), scores)]
    read = {csv: _read(csv, records[runs[0]].files.train) for csv, runs in by_list.items()}
    listed = {run: csv for csv, runs in by_list.items() for run in runs}
    listed |= {source: _list_of(source, read) for source in sources if source not in listed}
    return [
        ScoredList(name, read[csv], tuple(source for source in sources if listed[source] == csv), scores)
        for csv, name in zip(by_list, short_names(by_list), strict=True)
    ]


def _by_list(records: Mapping[Path, RunRecord]) -> dict[Path, list[Path]]:
    """Return the CSV of each list with the runs that are scored on it; runs without a list are left out."""
    recorded: dict[Path, list[Path]] = {}
    for run, record in sorted(records.items(), key=lambda item: item[1].split != "official"):
        csv = scored_csv(record.split, record.files)
        if csv is not None:
            recorded.setdefault(csv, []).append(run)
    by_content: dict[str, Path] = {}
    by_list: dict[Path, list[Path]] = {}
    for csv, runs in recorded.items():
        if csv.is_file():
            by_list.setdefault(by_content.setdefault(sha256_of_file(csv), csv), []).extend(runs)
    for csv, runs in recorded.items():
        if not csv.is_file():  # as of a run that was copied from elsewhere
            same = next((known for known in by_list if known.name == csv.name), None)
            if same is None:
                raise DataError(f"{runs[0]}: trained with {csv}, which is missing; give --annotations.")
            by_list[same].extend(runs)
    return by_list


def _read(validation: Path, train: Path | None) -> Annotations:
    train = train if train and train.is_file() else None
    if train != validation:
        return read_annotations(validation.parent, SplitFiles(train, validation, None))
    annotations = read_annotations(validation.parent, SplitFiles(train, None, None))
    return replace(annotations, validation=annotations.train)


def _list_of(source: Path, annotations: Mapping[Path, Annotations]) -> Path:
    """Return the CSV of the list that a source without a record is scored on."""
    if len(annotations) > 1 and not source.is_dir():
        first = read_predictions_file(source).predictions.narration_id[0]
        for csv, candidate in annotations.items():
            if candidate.validation is not None and first in candidate.validation.narration_id:
                return csv
    return next(iter(annotations))


def annotations_for(sources: Sequence[Path], given: Path | None) -> Annotations:
    """Return the annotations to score sources against that are scored on one list.

    Raises:
        DataError: as for `lists_for`.
    """
    return lists_for(sources, given)[0].annotations


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
