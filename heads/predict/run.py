"""A trained run's predictions for splits of its own, or for any list of segments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from features.annotations import (
    Segments,
    read_segments,
)
from features.errors import DataError
from features.predictions import write_predictions
from heads.data.chunks import Split
from heads.data.layout import open_sources
from heads.data.load import load_split
from heads.data.splits import choose_split
from heads.models.saved import BEST, load_model, need_same_streams
from heads.predict.predicting import predict, predict_best
from heads.predict.tta import predict_tta, with_all_views
from heads.runs import PREDICTIONS, TTA_PREDICTIONS, read_record


def predict_run(
    run: Path,
    splits: Sequence[str],
    *,
    roots: Sequence[Path] = (),
    csv: Path | None = None,
    out: Path | None = None,
    tta: bool = False,
    allow_missing: bool = False,
    device: torch.device,
) -> list[Path]:
    """Write what a run's best model predicts for splits of its own, or for any list; give the files.

    Args:
        splits: of train, validation and test; each goes into the run's folder, and is kept where it is there already.
            By default all that it has.
        roots: the feature sets it was trained on, where they have moved since.
        csv, out: another list of segments, and the file for its predictions.
        tta: average over all views of the feature sets, and over windows that are moved (heads/predict/tta.py), into
            files of its own; by default not for training.

    Raises:
        DataError: the run has no trained head or not this split, or its features are missing or other ones.
    """
    model, model_config = load_model(run / BEST, device=device)
    sources = open_sources(list(roots) or [Path(path) for path in read_record(run).features], model_config.inputs)
    need_same_streams(run / BEST, model_config, sources)
    how, names = predict, PREDICTIONS
    if tta:
        sources, how, names = with_all_views(sources), predict_tta, TTA_PREDICTIONS

    def load(segments: Segments) -> Split:
        return load_split(sources, segments, model_config.inputs, allow_missing=allow_missing, device=device)

    if csv is not None:
        write_predictions(out, how(model, load(read_segments(csv)), source=str(run), device=device))
        return [out]
    files = read_record(run).files
    chosen = choose_split(read_record(run).split, files)
    lists = {"train": chosen.train, "validation": chosen.validation, "test": files.test and read_segments(files.test)}
    absent = [split for split in splits if lists[split] is None]
    if absent:
        raise DataError(
            f"{run}: was trained without a {absent[0]} list; name one by --annotations, and a file by --out."
        )
    splits = splits or [split for split in lists if lists[split] is not None and not (tta and split == "train")]
    predict_best(run, {split: load(lists[split]) for split in splits}, device=device, how=how, names=names)
    return [run / names[split] for split in splits]
