"""Which predictions are submitted, for which segments, and under which levels of supervision."""

from __future__ import annotations

from pathlib import Path

from features.annotations import TEST_CSV, Segments, find_splits, read_segments
from features.errors import DataError
from features.featureset import FILE_NAME, read_featureset
from features.predictions import Predictions
from heads.data.splits import trained_on
from heads.runs import PREDICTIONS, has_predictions, need_existing, predictions_of, read_record
from heads.submission.files import SupervisionLevels

# The level of pretraining where feature sets do not record it: public images and videos.
_USUAL_LEVEL = 2


def predictions_to_submit(run: Path, given: Path | None, kind: str | None = None) -> tuple[Predictions, Segments]:
    """Return the predictions for a list of segments, and that list.

    Args:
        run: a run folder or a predictions file; of a run, the first of its predictions that are for that list.
        given: CSV of the list, or the folder of the published one; by default the test list that the run was trained
            with.
        kind: of a file, what its scores are, "logits" or "probabilities"; None where they tell themselves.

    Raises:
        DataError: the list is neither given nor recorded, or the run has no predictions for it.
    """
    need_existing([run])
    path = given or read_record(run).files.test
    if path is not None and path.is_dir():
        path = find_splits(path).test
    if path is None:
        raise DataError(f"{run}: does not say which segments to submit; give --annotations (such as {TEST_CSV}).")
    segments = read_segments(path)
    listed = set(segments.narration_id)
    if run.is_dir():
        for split in PREDICTIONS:
            if has_predictions(run, split):
                predictions = predictions_of(run, split)
                if listed & set(predictions.narration_id):
                    return predictions, segments
    return predictions_of(run, "test", kind=kind), segments


def training_list(run: Path, given: Path | None) -> Segments:
    """Return the list that a run was trained on; for a predictions file, the one beside the list that is given.

    Raises:
        DataError: there is none, or the file is missing.
    """
    record = read_record(run)
    if record.files.train is None and given is not None:
        return trained_on("official", find_splits(given if given.is_dir() else given.parent))
    return trained_on(record.split, record.files)


def levels_of(
    run: Path, *, pretraining: int | None, training_labels: int, training_data: int | None
) -> SupervisionLevels:
    """Return a run's levels of supervision; levels that are None are read from its record.

    The level of pretraining is the highest of its feature sets' backbones; 2 (public images and videos) where a feature
    set does not record it or is missing. Training data are 4 where validation was trained on, else 3.
    """
    record = read_record(run)
    if pretraining is None:
        pretraining = max((_pretraining_level(Path(root)) for root in record.features), default=_USUAL_LEVEL)
    if training_data is None:
        training_data = 4 if record.split == "all" else 3
    return SupervisionLevels(pretraining, training_labels, training_data)


def _pretraining_level(root: Path) -> int:
    recorded = read_featureset(root).supervision if (root / FILE_NAME).is_file() else None
    return _USUAL_LEVEL if recorded is None else recorded
