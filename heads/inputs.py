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
from features.files import read_json
from features.predictions import Predictions
from features.store import video_ids
from heads.batches import Split, load_split
from heads.runs import CONFIG, predictions_of
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
        config = read_json(source / CONFIG) if (source / CONFIG).is_file() else {}
        if config.get("validation_csv"):
            validation = Path(config["validation_csv"])
            files = SplitFiles(Path(config["train_csv"]), validation, None)
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

    A test list without any features is left out: it may not have been extracted yet, and training does not need it.

    Raises:
        DataError: there is no training list, or features are missing or damaged.
    """
    if files.train is None:
        raise DataError(f"no training annotations: give --annotations (the folder of {TRAIN_CSV}) or --train.")

    def load(path: Path | None) -> Split | None:
        if path is None:
            return None
        return load_split(featureset, read_segments(path), allow_missing=allow_missing, device=device)

    there = set(video_ids(featureset))
    has_test = files.test is not None and not there.isdisjoint(read_segments(files.test).table.video_id)
    origin = {f"{split}_csv": str(path) if path else None for split, path in asdict(files).items()}
    return TrainData(
        featureset=read_featureset(featureset).digest,
        train=load(files.train),
        validation=load(files.validation),
        test=load(files.test) if has_test else None,
        origin={"features": str(featureset), **origin},
    )


def predictions_to_submit(run: Path, given: Path | None) -> tuple[Predictions, Segments]:
    """Give the predictions for a list of segments, and that list.

    Args:
        run: a run folder or a predictions file; of a run, whichever of its predictions are for that list.
        given: CSV of the list; by default the test list the run was trained with.

    Raises:
        DataError: the list is neither given nor known, or the run has no predictions for it.
    """
    if not run.exists():
        raise DataError(f"{run}: no such run or file.")
    config = read_json(run / CONFIG) if (run / CONFIG).is_file() else {}
    path = given or (Path(config["test_csv"]) if config.get("test_csv") else None)
    if path is None:
        raise DataError(f"{run}: does not say which segments to submit; give --annotations (such as {TEST_CSV}).")
    segments = read_segments(path)
    split = "validation" if segments.is_labelled and run.is_dir() else "test"
    return predictions_of(run, split), segments
