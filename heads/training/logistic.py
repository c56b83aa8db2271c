"""Fit the head `logistic`: scikit-learn's multinomial logistic regression, with a penalty that is chosen by folds."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from torch import nn

from features.annotations import Segments
from heads.data.batches import batches
from heads.data.splits import folds_of
from heads.models.logistic import Logistic
from heads.training.state import StepResult, TrainingRun

_PENALTIES = tuple(10.0**exponent for exponent in range(-5, 3))  # values of C, the strongest penalty first
_NUM_FOLDS = 5
_MAX_ITERATIONS = 5000
# The bias of a class that training never shows: it gets no probability.
_NEVER = -30.0


def fit_regressions(run: TrainingRun) -> tuple[list[StepResult], dict[str, float]]:
    """Fit the regressions of a run's model; return the loss as that of one step, and the C of each task."""
    model, segments = run.model, run.data.train.segments
    heads = [module for module in model.modules() if isinstance(module, Logistic)]
    losses, chosen = [], {}
    for head in heads:
        scaler = StandardScaler()
        standardised = scaler.fit_transform(_inputs_of(run, head).numpy())
        head.mean.copy_(torch.from_numpy(scaler.mean_))
        head.std.copy_(torch.from_numpy(scaler.scale_))
        for task in head.shape.tasks:
            labels = getattr(segments, f"{task}_class")
            c = run.config.head_options["c"] or choose_c(standardised, labels, segments)
            losses.append(_fit_classifier(head, task, standardised, labels, c))
            chosen[f"{task}_c"] = c
    index = torch.arange(len(segments))
    return [StepResult(torch.tensor(sum(losses)), index, 0.0)], chosen


@torch.no_grad()
def _inputs_of(run: TrainingRun, head: Logistic) -> torch.Tensor:
    """Return the inputs of all training segments as the head computes them, (S, P) float64 on the CPU."""
    gathered = torch.empty(len(run.data.train), len(head.mean), dtype=torch.float64)
    model = run.model.eval()
    captured: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, steps: captured.append(head.inputs(*steps)))
    try:
        for chunk, order in run.data.train.chunks():
            for batch in batches(
                chunk, order, run.config.optimisation.batch_size, inputs=run.config.inputs, device=run.device
            ):
                model(batch.streams)
                gathered[batch.index.cpu()] = captured.pop().cpu().double()
    finally:
        hook.remove()
    return gathered


def choose_c(inputs: np.ndarray, labels: np.ndarray, segments: Segments) -> float:
    """Return the C, a power of ten, of the lowest cross-entropy on held-out segments; 1 where no fold can be scored.

    Folds are cut by participant where there are enough, otherwise by video. C grows until that loss rises; each fit
    begins at the one before.

    Args:
        inputs: (S, P) float64, standardised.
        labels: (S,).
    """
    folds = _held_out(segments)
    models = [_regression(1.0, warm_start=True) for _ in folds]
    best, best_loss = 1.0, float("inf")
    for c in _PENALTIES if folds else ():
        loss = sum(
            _held_out_loss(model.set_params(C=c), inputs, labels, is_held_out)
            for model, is_held_out in zip(models, folds, strict=True)
        )
        if loss > best_loss:
            break
        best, best_loss = c, loss
    return best if best_loss else 1.0


def _held_out(segments: Segments) -> list[np.ndarray]:
    """Return which segments each fold holds out, (S,) bool."""
    participants = segments.table.participant_id.to_numpy(dtype=str)
    videos = segments.table.video_id.to_numpy(dtype=str)
    groups = participants if len(np.unique(participants)) >= _NUM_FOLDS else videos
    num_folds = min(_NUM_FOLDS, len(np.unique(groups)))
    fold_of = folds_of(groups, num_folds)
    return [fold_of == fold for fold in range(num_folds)] if num_folds > 1 else []


def _held_out_loss(model: LogisticRegression, inputs: np.ndarray, labels: np.ndarray, is_held_out: np.ndarray) -> float:
    """Return the sum of the cross-entropies of held-out segments, without classes that the others never show."""
    shown = np.unique(labels[~is_held_out])
    scored = is_held_out & np.isin(labels, shown)
    if len(shown) < 2 or not scored.any():
        return 0.0
    model.fit(inputs[~is_held_out], labels[~is_held_out])
    return float(log_loss(labels[scored], model.predict_proba(inputs[scored]), labels=shown, normalize=False))


def _regression(c: float, *, warm_start: bool = False) -> LogisticRegression:
    return LogisticRegression(C=c, max_iter=_MAX_ITERATIONS, warm_start=warm_start)


@torch.no_grad()
def _fit_classifier(head: Logistic, task: str, inputs: np.ndarray, labels: np.ndarray, c: float) -> float:
    """Set the classifier of a task to the regression of its labels; return the mean cross-entropy."""
    linear = head.classifier[task]
    assert isinstance(linear, nn.Linear)
    classes = np.unique(labels)
    linear.weight.zero_()
    linear.bias.fill_(_NEVER)
    if len(classes) == 1:
        linear.bias[int(classes[0])] = 0
        return 0.0
    model = _regression(c).fit(inputs, labels)
    weight, bias = torch.from_numpy(model.coef_).float(), torch.from_numpy(model.intercept_).float()
    if len(classes) == 2:  # scikit-learn fits the difference of the two
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    linear.weight[classes], linear.bias[classes] = weight.to(linear.weight), bias.to(linear.bias)
    return float(log_loss(labels, model.predict_proba(inputs), labels=classes))
