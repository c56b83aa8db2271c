"""Train one head on the features of one split. One loop, from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from features.errors import DataError
from features.progress import progress
from features.tensors import load_safely
from heads.config import TrainConfig
from heads.data.load import TrainData
from heads.locks import locked
from heads.models.catalogue import is_fitted
from heads.models.saved import BEST, load_model, need_same_streams
from heads.predict.predicting import predict_best, predict_logits, score
from heads.runs import read_record, selected_epoch
from heads.training.resume import LAST
from heads.training.state import Outcome, StepResult, TrainingBatch, TrainingRun, start_run


def fit(
    config: TrainConfig,
    data: TrainData,
    folder: Path,
    *,
    device: torch.device,
    until: int | None = None,
    show: Callable[[dict[str, float]], object] = lambda row: None,
) -> Outcome:
    """Train a head and write its run folder; a run that was cut off resumes after its last whole epoch.

    On a CPU, a run that was cut off and resumed ends bit-identical to an unbroken one.

    Args:
        until: stop once the run has this many of its epochs, 1 or more, as if it had been cut off there.
        show: called after each epoch with its row of metrics.csv and the seconds it took.

    Raises:
        OptionError: the configuration does not fit the data.
        DataError: the folder holds another run or is in use by another process, or the loss is no longer finite.
    """
    with locked(folder):
        run = start_run(config, data, folder, device=device)
        num_epochs, num_done = run.config.optimisation.schedule.epochs, len(run.history)
        with progress(total=num_epochs, unit="epochs", label=folder.name, done_before=num_done) as bar:
            while not run.is_over and (until is None or len(run.history) < until):
                began = time.monotonic()
                steps, figures = _fit(run) if is_fitted(config.head) else (train_epoch(run), {})
                logits = None
                if data.validation is not None:
                    logits = predict_logits(run.scored_model, data.validation, device=device)
                row = run.end_epoch(steps, logits, **figures)
                show(row | {"seconds": time.monotonic() - began})
                bar.set_postfix_str(_postfix(row), refresh=False)
                bar.update()
        return run.outcome()


def _fit(run: TrainingRun) -> tuple[list[StepResult], dict[str, float]]:
    # Not at the top: scikit-learn takes a second to load, and no other head needs it.
    from heads.training.logistic import fit_regressions

    return fit_regressions(run)


def train_epoch(run: TrainingRun) -> list[StepResult]:
    """Train a run on all batches of its next epoch."""
    run.model.train()
    return [train_step(run, batch) for batch in run.batches()]


def train_step(run: TrainingRun, batch: TrainingBatch) -> StepResult:
    """Train a run on one batch."""
    with autocast(run.device, run.config.optimisation.precision):
        logits = run.model(batch.streams, batch.queries)
    logits = {task: values.float() for task, values in logits.items()}
    loss = run.loss(logits, batch.index, batch.mixture, batch.progress)
    loss.backward()
    return update_weights(run, batch, loss)


def update_weights(run: TrainingRun, batch: TrainingBatch, loss: torch.Tensor) -> StepResult:
    """Clip the gradients that the loss of a batch left, set the learning rate, step, and average the weights."""
    settings = run.config.optimisation
    if settings.clip_grad:
        nn.utils.clip_grad_norm_(run.model.parameters(), settings.clip_grad)
    lr = settings.schedule.lr_at(batch.progress)
    for group in run.optimizer.param_groups:
        group["lr"] = lr * group["factor"]
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    if run.average is not None:
        run.average.update(run.model)
    return StepResult(loss.detach(), batch.index, lr)


def score_again(data: TrainData, folder: Path, *, device: torch.device) -> Outcome:
    """Score the best model of an existing run on validation, without training, and renew its predictions.

    Raises:
        DataError: there is no trained head, it was trained on other features, there is nothing to score it on, or
            another process is writing the folder.
    """
    with locked(folder):
        model, model_config = load_model(folder / BEST, device=device)
        need_same_streams(folder / BEST, model_config, data.sources)
        if data.validation is None:
            raise DataError(f"{folder}: no validation segments to evaluate it on.")
        logits = predict_logits(model, data.validation, device=device)
        row = score(logits, data.validation.segments, where=str(folder), pairs=model.pairs)
        predict_best(folder, data.predicted, device=device)
        epoch = selected_epoch(load_safely(folder / LAST)["history"], read_record(folder).select)
        return Outcome(folder, epoch, row, was_there=True)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of the forward pass: half precision where every head is faster with it, which is on CUDA.

    On a CPU with such arithmetic some heads are faster too (`make bench`), but a run would no longer be the same on
    another CPU.
    """
    half = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type if half else "cpu", torch.bfloat16, enabled=half)


def _postfix(row: dict[str, float]) -> str:
    action = f", action {row['val_action_top1']:.1f} %" if "val_action_top1" in row else ""
    return f"loss {row['train_loss']:.3f}{action}"
