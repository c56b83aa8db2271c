"""Where a command finds what it reads when it is not told: annotation files and feature sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from features.annotations import (
    TEST_CSV,
    TRAIN_CSV,
    Annotations,
    Segments,
    SplitFiles,
    find_splits,
    read_annotations,
    read_segments,
)
from features.errors import DataError, OptionError, first_few
from features.featureset import FILE_NAME, read_featureset
from features.predictions import Predictions
from features.store import video_ids
from heads.batches import Split, load_split
from heads.runs import PREDICTIONS, predictions_of, read_config
from heads.train import TrainData


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
        config = read_config(source)
        if config.get("validation_csv"):
            train, validation = Path(config["train_csv"]), Path(config["validation_csv"])
            if not validation.is_file():
                raise DataError(f"{source}: trained with {validation}, which is not there; give --annotations.")
            files = SplitFiles(train if train.is_file() else None, validation, None)
            return read_annotations(validation.parent, files)
    raise DataError(f"{sources[0]}: does not say what to score it against; give --annotations.")


def find_featureset(path: Path) -> Path:
    """Give the feature set at `path`, or the only one in it.

    Raises:
        OptionError: there are several in it.
        DataError: there is none.
    """
    path = Path(path)
    if (path / FILE_NAME).is_file():
        return path
    found = sorted(inner.parent for inner in path.glob(f"*/{FILE_NAME}"))
    if not found:
        raise DataError(f"{path}: no feature set in it; extract one first (make extract BACKBONE=...).")
    if len(found) > 1:
        names = first_few(folder.name for folder in found)
        raise OptionError(f"--features: {path} holds several feature sets ({names}); name one.")
    return found[0]


def load_train_data(featureset: Path, files: SplitFiles, *, allow_missing: bool, device: torch.device) -> TrainData:
    """Load the features of all splits that there are.

    Of the test list, what has features is taken: it may not have been extracted yet, and training does not need it.

    Raises:
        DataError: there is no training list, or features are missing or damaged.
    """
    if files.train is None:
        raise DataError(f"no training annotations: give --annotations (the folder of {TRAIN_CSV}) or --train.")

    def load(path: Path | None, *, allow_missing: bool = allow_missing) -> Split | None:
        if path is None:
            return None
        return load_split(featureset, read_segments(path), allow_missing=allow_missing, device=device)

    there = set(video_ids(featureset))
    has_test = files.test is not None and not there.isdisjoint(read_segments(files.test).table.video_id)
    origin = {f"{split}_csv": str(path.resolve()) if path else None for split, path in asdict(files).items()}
    return TrainData(
        featureset=read_featureset(featureset).digest,
        train=load(files.train),
        validation=load(files.validation),
        test=load(files.test, allow_missing=True) if has_test else None,
        origin={"features": str(featureset.resolve()), **origin},
    )


def predictions_to_submit(run: Path, given: Path | None) -> tuple[Predictions, Segments]:
    """Give the predictions for a list of segments, and that list.

    Args:
        run: a run folder or a predictions file; of a run, whichever of its predictions are for that list.
        given: CSV of the list, or the folder of the published one; by default the test list the run was trained with.

    Raises:
        DataError: the list is neither given nor known, or the run has no predictions for it.
    """
    if not run.exists():
        raise DataError(f"{run}: no such run or file.")
    config = read_config(run)
    path = given or (Path(config["test_csv"]) if config.get("test_csv") else None)
    if path is not None and path.is_dir():
        path = find_splits(path).test
    if path is None:
        raise DataError(f"{run}: does not say which segments to submit; give --annotations (such as {TEST_CSV}).")
    segments = read_segments(path)
    asked = set(segments.narration_id)
    for split in PREDICTIONS:
        if (run / PREDICTIONS[split]).is_file():
            predictions = predictions_of(run, split)
            if asked & set(predictions.narration_id):
                return predictions, segments
    return predictions_of(run, "test"), segments
