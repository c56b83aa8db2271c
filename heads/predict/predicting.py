"""What a model says of a split: logits, scores, predictions. Knows no training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from features.annotations import NUM_CLASSES, Segments
from features.errors import DataError
from features.predictions import Predictions, read_predictions, write_predictions
from heads.config import InputSettings
from heads.data.batches import TtaView, batches
from heads.data.chunks import Split
from heads.data.steps import Steps
from heads.models.model import Model
from heads.models.saved import BEST, load_model, need_same_streams
from heads.models.shape import Logits
from heads.runs import PREDICTIONS
from heads.scoring.metrics import KS, compare, figures

_PREDICT_BATCH = 512


def score(logits: Mapping[str, np.ndarray], segments: Segments, *, where: str) -> dict[str, float]:
    """Score logits of labelled segments: the columns of metrics.csv, accuracies in percent.

    Args:
        logits: verb (S, 97) and noun (S, 300), float32.
        where: what to name in an error.

    Raises:
        DataError: logits are not finite; they would rank the classes by their ids.
    """
    verb, noun = logits["verb"], logits["noun"]
    if not (np.isfinite(verb).all() and np.isfinite(noun).all()):
        raise DataError(f"{where}: the model's logits are no longer finite; try a lower --lr.")
    loss = F.cross_entropy(torch.from_numpy(verb), torch.tensor(segments.verb_class)) + F.cross_entropy(
        torch.from_numpy(noun), torch.tensor(segments.noun_class)
    )
    found = figures(compare(Predictions(tuple(segments.narration_id), verb, noun, where), segments))
    return (
        {"val_loss": float(loss)}
        | {f"val_{task}_top{k}": float(found[f"{task}@{k}"][0]) for task in ("verb", "noun", "action") for k in KS}
        | {f"val_{task}_recall": float(found[f"{task} mean-class@1"][0]) for task in ("verb", "noun")}
    )


def predict_logits(
    model: Model, split: Split, *, device: torch.device, tta_view: TtaView | None = None
) -> dict[str, np.ndarray]:
    """Run a model over a split: verb (S, 97) and noun (S, 300) logits, float32, in the split's order."""
    return run_over(model.eval(), split, inputs=model.settings, device=device, tta_view=tta_view)


@torch.inference_mode()
def run_over(
    forward: Callable[[tuple[Steps, ...]], Logits],
    split: Split,
    *,
    inputs: InputSettings,
    device: torch.device,
    tta_view: TtaView | None = None,
    num_models: tuple[int, ...] = (),
) -> dict[str, np.ndarray]:
    """Give the logits of a split by task, (S, K) float32, in the split's order.

    Args:
        num_models: (M,) where `forward` gives (M, B, K) for a batch; then (M, S, K).
    """
    logits = {task: np.empty((*num_models, len(split), num), dtype=np.float32) for task, num in NUM_CLASSES.items()}
    for chunk, order in split.chunks():
        for batch in batches(chunk, order, _PREDICT_BATCH, inputs=inputs, device=device, tta_view=tta_view):
            places = batch.index.cpu().numpy()
            for task, found in forward(batch.streams).items():
                logits[task][..., places, :] = found.float().cpu().numpy()
    return logits


def predict(model: Model, split: Split, *, source: str, device: torch.device) -> Predictions:
    """Give a model's predictions for a split."""
    logits = predict_logits(model, split, device=device)
    return Predictions(tuple(split.segments.narration_id), logits["verb"], logits["noun"], source)


def predict_best(
    folder: Path,
    splits: Mapping[str, Split | None],
    *,
    device: torch.device,
    how: Callable[..., Predictions] = predict,
    names: Mapping[str, str] = PREDICTIONS,
) -> list[Path]:
    """Write what a run's best model predicts for splits by name, unless it is there already; give what was written.

    Args:
        how, names: `predict` or another way to, and the files by split that its predictions go to.

    Raises:
        DataError: there is no trained head, or it was trained on other features.
    """
    lacking = {
        folder / names[name]: split
        for name, split in splits.items()
        if split is not None and not _covers(folder / names[name], split)
    }
    if lacking:
        model, model_config = load_model(folder / BEST, device=device)
        for path, split in lacking.items():
            need_same_streams(folder / BEST, model_config, split.sources)
            write_predictions(path, how(model, split, source=str(folder), device=device))
    return list(lacking)


def _covers(path: Path, split: Split) -> bool:
    """Whether predictions are there, for just these segments: a list may have grown since."""
    return path.is_file() and read_predictions(path).narration_id == tuple(split.segments.narration_id)
