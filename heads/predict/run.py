"""A trained run's predictions for its own splits, or for any list of segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from features.annotations import Segments, read_segments
from features.errors import DataError
from features.predictions import Predictions, write_predictions
from heads.data.chunks import Split
from heads.data.layout import open_sources, with_first_view
from heads.data.load import load_split
from heads.data.splits import choose_split
from heads.locks import locked
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
    """Write the predictions of a run's best model for its own splits, or for any list; return the files.

    Args:
        splits: of train, validation and test; by default all that the run has. Predictions go into the run's folder,
            and existing ones are kept.
        roots: the feature sets the run was trained on, if they have moved since.
        csv, out: another list of segments, and the file for its predictions; both or neither.
        tta: average over test views and over moved windows (heads/predict/tta.py), into separate files; by default not
            for training.

    Raises:
        DataError: the run has no trained head or not this split, its features are missing or have changed, or another
            process is writing its folder.
    """
    # Predictions for another list go into a file elsewhere.
    with locked(run) if csv is None else nullcontext():
        model, model_config = load_model(run / BEST, device=device)
        record = read_record(run)
        sources = open_sources(list(roots) or [Path(path) for path in record.features], model_config.inputs)
        need_same_streams(run / BEST, model_config, sources)
        predictor: Callable[..., Predictions] = predict
        names = PREDICTIONS
        if tta:
            sources = with_all_views(sources, model_config.inputs.view)
            predictor, names = predict_tta, TTA_PREDICTIONS
        else:
            sources = with_first_view(sources)

        def load(segments: Segments) -> Split:
            return load_split(sources, segments, model_config.inputs, allow_missing=allow_missing, device=device)

        if csv is not None and out is not None:
            write_predictions(out, predictor(model, load(read_segments(csv)), source=str(run), device=device))
            return [out]
        chosen = choose_split(record.split, record.files)
        test = None if record.files.test is None else read_segments(record.files.test)
        lists = {"train": chosen.train, "validation": chosen.validation, "test": test}
        known = {split: segments for split, segments in lists.items() if segments is not None}
        absent = [split for split in splits if split not in known]
        if absent:
            raise DataError(
                f"{run}: was trained without a {absent[0]} list; name one by --annotations, and a file by --out."
            )
        splits = splits or [split for split in known if not (tta and split == "train")]
        loaded = {split: load(known[split]) for split in splits}
        predict_best(run, loaded, device=device, predictor=predictor, names=names)
        return [run / names[split] for split in splits]
