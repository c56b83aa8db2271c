"""A model's logits, scores and predictions for a split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from features.annotations import Segments
from features.errors import DataError
from features.predictions import Predictions, read_predictions, write_predictions
from heads.data.batches import TtaView, batches
from heads.data.chunks import Chunk, Split
from heads.models.model import Model
from heads.models.saved import BEST, load_model, need_same_streams
from heads.runs import PREDICTIONS
from heads.scoring.metrics import CLASSIFIER, KS, compare, figures

_PREDICT_BATCH = 512


def score(
    logits: Mapping[str, np.ndarray], segments: Segments, *, where: str, pairs: Sequence[tuple[int, int]] = ()
) -> dict[str, float]:
    """Return the scores of logits of labelled segments: the columns of metrics.csv, accuracies in percent.

    Args:
        logits: verb (S, 97), noun (S, 300) and, with an action classifier, action (S, A), float32.
        where: the run, for error messages.
        pairs: the A actions of the classifier.

    Raises:
        DataError: logits are not finite; the classes would be ranked by their ids.
    """
    verb, noun = logits["verb"], logits["noun"]
    if not all(np.isfinite(values).all() for values in logits.values()):
        raise DataError(f"{where}: the model's logits are no longer finite; try a lower --lr.")
    loss = F.cross_entropy(torch.from_numpy(verb), torch.tensor(segments.verb_class)) + F.cross_entropy(
        torch.from_numpy(noun), torch.tensor(segments.noun_class)
    )
    scores = figures(compare(_predictions(logits, segments, pairs, where), segments))
    classifier = {f"val_action_head_top{k}": float(scores[f"{CLASSIFIER}@{k}"][0]) for k in KS if pairs}
    return (
        {"val_loss": float(loss)}
        | {f"val_{task}_top{k}": float(scores[f"{task}@{k}"][0]) for task in ("verb", "noun", "action") for k in KS}
        | {f"val_{task}_recall": float(scores[f"{task} mean-class@1"][0]) for task in ("verb", "noun")}
        | classifier
    )


def predict_logits(
    model: Model, split: Split, *, device: torch.device, tta_view: TtaView | None = None
) -> dict[str, np.ndarray]:
    """Return a model's logits for a split by task, (S, K) float32, in the split's order."""
    return logits_of_chunks(model, split.chunks(), len(split), device=device, tta_view=tta_view)


@torch.inference_mode()
def logits_of_chunks(
    model: Model,
    chunks: Iterable[tuple[Chunk, torch.Tensor]],
    num_segments: int,
    *,
    device: torch.device,
    tta_view: TtaView | None = None,
) -> dict[str, np.ndarray]:
    """Return a model's logits for the segments of chunks, which come with an order each, by task: (S, K) float32.

    Logits of a segment that is in several windows are their mean.
    """
    model.eval()
    total = {task: torch.zeros(num_segments, num) for task, num in model.tasks.items()}
    count = torch.zeros(num_segments, 1)
    for chunk, order in chunks:
        for batch in batches(chunk, order, _PREDICT_BATCH, inputs=model.settings, device=device, tta_view=tta_view):
            rows = batch.index.cpu()
            count.index_add_(0, rows, torch.ones(len(rows), 1))
            for task, values in model(batch.streams, batch.queries).items():
                total[task].index_add_(0, rows, values.float().cpu())
    return {task: (logits / count).numpy() for task, logits in total.items()}


def predict(
    model: Model, split: Split, *, source: str, device: torch.device, tta_view: TtaView | None = None
) -> Predictions:
    """Return a model's predictions for a split."""
    logits = predict_logits(model, split, device=device, tta_view=tta_view)
    return _predictions(logits, split.segments, model.pairs, source)


def _predictions(
    logits: Mapping[str, np.ndarray], segments: Segments, pairs: Sequence[tuple[int, int]], source: str
) -> Predictions:
    names, listed = tuple(segments.narration_id), np.array(pairs, dtype=np.int64) if pairs else None
    return Predictions(names, logits["verb"], logits["noun"], source, logits.get("action"), listed)


def predict_best(
    folder: Path,
    splits: Mapping[str, Split | None],
    *,
    device: torch.device,
    predictor: Callable[..., Predictions] = predict,
    names: Mapping[str, str] = PREDICTIONS,
) -> list[Path]:
    """Write the predictions of a run's best model for splits by name, unless they exist; return the files written.

    Args:
        predictor: `predict` or a function like it.
        names: the file by split that its predictions go to.

    Raises:
        DataError: there is no trained head, or it was trained on other features.
    """
    missing = {
        folder / names[name]: split
        for name, split in splits.items()
        if split is not None and not _covers(folder / names[name], split)
    }
    if missing:
        model, model_config = load_model(folder / BEST, device=device)
        for path, split in missing.items():
            need_same_streams(folder / BEST, model_config, split.sources)
            write_predictions(path, predictor(model, split, source=str(folder), device=device))
    return list(missing)


def _covers(path: Path, split: Split) -> bool:
    """Return whether there are predictions for exactly these segments; a list may have grown since."""
    return path.is_file() and read_predictions(path).narration_id == tuple(split.segments.narration_id)
