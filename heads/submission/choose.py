"""Which predictions are submitted, for which segments, and under which levels of supervision."""

from __future__ import annotations

from pathlib import Path

from features.annotations import (
    TEST_CSV,
    Segments,
    find_splits,
    read_segments,
)
from features.errors import DataError
from features.featureset import FILE_NAME, read_featureset
from features.predictions import Predictions
from heads.data.splits import choose_split
from heads.runs import PREDICTIONS, predictions_of, read_config
from heads.scoring.against import files_of
from heads.submission.files import SupervisionLevels

# Of pretraining, where nobody says: public images and videos.
_USUAL_LEVEL = 2


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


def training_list(run: Path, given: Path | None) -> Segments:
    """Give the list that a run was trained on; of a predictions file, the one beside the list that was given.

    Raises:
        DataError: there is none, or the file is gone.
    """
    files, way = files_of(run)
    if files.train is None and given is not None:
        files, way = find_splits(given if given.is_dir() else given.parent), "official"
    return choose_split(way, files).train


def levels_of(
    run: Path, *, pretraining: int | None, training_labels: int, training_data: int | None
) -> SupervisionLevels:
    """Give a run's levels of supervision; those that are not given are told from its record.

    The pretraining is that of its feature sets' backbones, the highest of them; 2 (public images and videos) where a
    feature set does not say or is gone. Training data are 4 where validation was trained on, else 3.
    """
    config = read_config(run)
    if pretraining is None:
        levels = [_supervision_of(Path(root)) for root in config.get("features", ())]
        pretraining = max(levels, default=_USUAL_LEVEL)
    if training_data is None:
        training_data = 4 if config.get("split") == "all" else 3
    return SupervisionLevels(pretraining, training_labels, training_data)


def _supervision_of(root: Path) -> int:
    known = read_featureset(root).supervision if (root / FILE_NAME).is_file() else None
    return _USUAL_LEVEL if known is None else known
