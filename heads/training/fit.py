"""Train one head on the features of one split. One loop, from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from features.errors import DataError
from features.predictions import Predictions
from features.progress import progress
from features.tensors import load_safely
from heads.config import TrainConfig
from heads.data.augment import Mixture
from heads.data.batches import Batch
from heads.data.load import TrainData
from heads.models.saved import BEST, load_model, need_same_streams
from heads.predict.predicting import predict_best, predict_logits, score
from heads.training.resume import LAST
from heads.training.trainee import Outcome, Trainee, best_of


def fit(
    config: TrainConfig,
    data: TrainData,
    folder: Path,
    *,
    device: torch.device,
    teacher: Predictions | None = None,
    until: int | None = None,
    show: Callable[[dict[str, float]], object] = lambda row: None,
) -> Outcome:
    """Train a head and write its run folder; a run that was cut off goes on after its last whole epoch.

    On a CPU, a run that was cut off and went on ends bit-identical to one that was not.

    Args:
        teacher: predictions for the training segments, where the objective has one.
        until: stop once the run has this many of its epochs, 1 or more, as if it had been cut off there.
        show: called with each epoch's row of metrics.csv, and the seconds it took.

    Raises:
        OptionError: the configuration does not fit the data.
        DataError: the folder holds another run, or the loss is no longer finite.
    """
    trainee = Trainee(config, data, folder, device=device, teacher=teacher)
    history = trainee.history
    label = f"{config.head} seed {config.seed}"
    with progress(total=config.optimisation.epochs, unit="epochs", label=label, done_before=len(history)) as bar:
        while not trainee.is_over and (until is None or len(history) < until):
            began = time.monotonic()
            train_epoch(trainee)
            validation = data.validation
            scored = None if validation is None else predict_logits(trainee.judged, validation, device=device)
            row = trainee.end_epoch(scored)
            show(row | {"seconds": time.monotonic() - began})
            bar.set_postfix_str(_postfix(row), refresh=False)
            bar.update()
    return trainee.outcome()


def train_epoch(trainee: Trainee) -> None:
    """Train a run for an epoch."""
    trainee.model.train()
    for batch, mixture, done in trainee.batches():
        train_step(trainee, batch, mixture, done)


def train_step(trainee: Trainee, batch: Batch, mixture: Mixture | None, done: float) -> None:
    """Train a run on a batch, as it comes from its `batches`."""
    with autocast(trainee.device, trainee.config.optimisation.precision):
        logits = trainee.model(batch.streams)
    loss = trainee.target({task: one.float() for task, one in logits.items()}, batch.index, mixture, done)
    loss.backward()
    trainee.step(loss, batch.index, done)


def score_again(data: TrainData, folder: Path, *, device: torch.device) -> Outcome:
    """Score the best model of a run that is there on validation, without training; renew its predictions.

    Raises:
        DataError: there is no trained head, it was trained on other features, or there is nothing to score it on.
    """
    model, model_config = load_model(folder / BEST, device=device)
    need_same_streams(folder / BEST, model_config, data.sources)
    if data.validation is None:
        raise DataError(f"{folder}: no validation segments to evaluate it on.")
    logits = predict_logits(model, data.validation, device=device)
    row = score(logits, data.validation.segments, where=str(folder))
    predict_best(folder, data.predicted, device=device)
    history = load_safely(folder / LAST)["history"]
    return Outcome(folder, best_of(history), row, was_there=True)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Half precision where every head is faster by it: on CUDA.

    On a CPU with such arithmetic some heads are (`make bench`), and a run would no longer be the same on another one.
    """
    half = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type if half else "cpu", torch.bfloat16, enabled=half)


def _postfix(row: dict[str, float]) -> str:
    action = f", action {row['val_action_top1']:.1f} %" if "val_action_top1" in row else ""
    return f"loss {row['train_loss']:.3f}{action}"
