"""Train one head on the features of one split. One loop, from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from features.errors import DataError, OptionError, first_few
from features.files import sha256_of_json
from features.predictions import Predictions
from features.progress import progress
from features.tensors import load_safely
from heads.augment import Mixture, augmented
from heads.batches import Batch, batches, statistics
from heads.checkpoint import BEST, LAST, load_model, need_same_streams, recipe_of, resume, save_last, save_model
from heads.class_counts import log_prior
from heads.config import TrainConfig
from heads.models.model import Model, Recipe
from heads.models.steps import TASKS
from heads.objective import Target
from heads.predicting import evaluate, predict_best
from heads.runs import METRICS, claim, write_metrics
from heads.streams import Source, Split


@dataclass(frozen=True, eq=False)
class TrainData:
    """What a run trains and is scored on.

    Attributes:
        sources: the feature sets that all splits come from.
        train, validation: labelled; without validation the last epoch counts as the best.
        test: its predictions are written at the end.
        origin: where it all came from, for config.json.
    """

    sources: tuple[Source, ...]
    train: Split
    validation: Split | None
    test: Split | None
    origin: dict[str, object]

    @property
    def predicted(self) -> dict[str, Split | None]:
        """The splits that a run predicts at its end."""
        return {"validation": self.validation, "test": self.test}


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its folder, its best epoch (from 1) and the row of metrics.csv of that epoch."""

    folder: Path
    best_epoch: int
    metrics: dict[str, float]
    was_there: bool


def fit(
    config: TrainConfig,
    data: TrainData,
    folder: Path,
    *,
    device: torch.device,
    teacher: Predictions | None = None,
    show: Callable[[dict[str, float]], object] = lambda row: None,
) -> Outcome:
    """Train a head and write its run folder; a run that was cut off goes on after its last whole epoch.

    On a CPU, a run that was cut off and went on ends bit-identical to one that was not.

    Args:
        teacher: predictions for the training segments, where the objective has one.
        show: called with each epoch's row of metrics.csv, and the seconds it took.

    Raises:
        OptionError: the configuration does not fit the data.
        DataError: the folder holds another run, or the loss is no longer finite.
    """
    recipe, plan = recipe_of(config, data.sources), config.optimisation
    torch.manual_seed(config.seed)
    model = _new_model(recipe, config, data).to(device)
    target = Target(config.objective, data.train.segments, teacher).to(device)
    optimizer = torch.optim.AdamW(_parameter_groups(model, config), lr=plan.lr, weight_decay=plan.weight_decay)
    average = AveragedModel(model, avg_fn=_warmed_up_average(plan.ema)) if plan.ema else None
    judged = model if average is None else average.module
    claim(folder, _record(config, data), data.origin)  # once it is known that the head fits into memory

    history: list[dict[str, float]] = []
    if (folder / LAST).is_file():
        history = resume(folder / LAST, model, average, optimizer, device)
    was_there = _is_over(history, config)

    label = f"{config.head} seed {config.seed}"
    with progress(total=plan.epochs, unit="epochs", label=label, done_before=len(history)) as bar:
        while not _is_over(history, config):
            began, epoch = time.monotonic(), len(history)
            model.train()
            losses, asked = [], []
            for batch, mixture, done in _training_batches(config, data.train, epoch, model, device):
                lr = lr_at(done * plan.epochs, peak=plan.lr, warmup=plan.warmup_epochs, total=plan.epochs)
                for group in optimizer.param_groups:
                    group["lr"] = lr * group["factor"]
                with _autocast(device, plan.precision):
                    logits = model(batch.streams)
                loss = target({task: one.float() for task, one in logits.items()}, batch.index, mixture, done)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if plan.clip:
                    nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
                optimizer.step()
                if average is not None:
                    average.update_parameters(model)
                losses.append(loss.detach())
                asked.append(batch.index)
            row = {"epoch": epoch + 1, "lr": lr, "train_loss": _mean_loss(losses, asked, data.train, folder, epoch)}
            if data.validation is not None:
                row |= evaluate(judged, data.validation, where=f"{folder}, epoch {epoch + 1}", device=device)
            history.append(row)
            if best_of(history) == epoch + 1:
                save_model(folder / BEST, recipe, judged)
            write_metrics(folder / METRICS, history)
            save_last(folder / LAST, model, average, optimizer, history)
            show(row | {"seconds": time.monotonic() - began})
            bar.set_postfix_str(_postfix(row), refresh=False)
            bar.update()

    predict_best(folder, data.predicted, device=device)
    epoch = best_of(history)
    return Outcome(folder, epoch, history[epoch - 1], was_there)


def _training_batches(
    config: TrainConfig, split: Split, epoch: int, model: Model, device: torch.device
) -> Iterator[tuple[Batch, Mixture | None, float]]:
    """Give the batches of an epoch, what they are mixed with, and the share of the training that is over at each."""
    how = {"look": config.look, "device": device, "augmentation": config.augmentation}
    deviations, seen = [each.std for each in model.inputs], 0
    for chunk, order in split.chunks(_generator(config.seed, epoch)):
        for batch in batches(chunk, order, config.optimisation.batch_size, **how):
            done = (epoch + (seen + len(batch.index) / 2) / len(split)) / config.optimisation.epochs
            seen += len(batch.index)
            yield *augmented(batch, config.augmentation, deviations), done


def _new_model(recipe: Recipe, config: TrainConfig, data: TrainData) -> Model:
    """Build a model with random weights, and with what it takes from the training segments."""
    model = Model(recipe)
    for each, (mean, std) in zip(model.inputs, statistics(data.train), strict=True):
        each.mean, each.std = mean, std
    if config.objective.adjust:  # Menon et al., ICLR 2021, eq. 9
        for task, num_classes in TASKS.items():
            labels = torch.tensor(getattr(data.train.segments, f"{task}_class"))
            prior = log_prior(torch.bincount(labels, minlength=num_classes))
            getattr(model, f"adjust_{task}").copy_(config.objective.adjust * prior)
    return model


def lr_at(epochs: float, *, peak: float, warmup: float, total: float) -> float:
    """Give the learning rate after so many epochs: linear to `peak` over `warmup`, then a cosine to 0 at `total`.

    >>> [round(lr_at(epochs, peak=1.0, warmup=2, total=6), 2) for epochs in (0.5, 1.5, 2, 3, 4, 6)]
    [0.25, 0.75, 1.0, 0.85, 0.5, 0.0]
    """
    if epochs < warmup:
        return peak * epochs / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (epochs - warmup) / max(total - warmup, 1e-9)))


def best_of(history: list[dict[str, float]]) -> int:
    """Give the epoch (from 1) of the highest action accuracy, the earliest of equals; the last one without any."""
    if "val_action_top1" not in history[-1]:
        return len(history)
    return 1 + int(np.argmax([row["val_action_top1"] for row in history]))


def _is_over(history: list[dict[str, float]], config: TrainConfig) -> bool:
    """Whether a run has all of its epochs, or went without a better one for too many."""
    plan = config.optimisation
    return len(history) >= plan.epochs or bool(
        history and plan.patience and len(history) - best_of(history) >= plan.patience
    )


def score_again(data: TrainData, folder: Path, *, device: torch.device) -> Outcome:
    """Score the best model of a run that is there on validation, without training; renew its predictions.

    Raises:
        DataError: there is no trained head, it was trained on other features, or there is nothing to score it on.
    """
    model, recipe = load_model(folder / BEST, device=device)
    need_same_streams(folder / BEST, recipe, data.sources)
    if data.validation is None:
        raise DataError(f"{folder}: no validation segments to evaluate it on.")
    row = evaluate(model, data.validation, where=str(folder), device=device)
    predict_best(folder, data.predicted, device=device)
    history = load_safely(folder / LAST)["history"]
    return Outcome(folder, best_of(history), row, was_there=True)


def _parameter_groups(model: Model, config: TrainConfig) -> list[dict]:
    """Give the parameters by the factor on their learning rate.

    Raises:
        OptionError: no parameter has a name that --lr-scale gives.
    """
    factors = config.optimisation.lr_factors
    groups: dict[float, list[nn.Parameter]] = {}
    unused = set(factors)
    for name, parameter in model.named_parameters():
        fitting = [prefix for prefix in factors if f".{prefix}" in f".{name}"]
        unused -= set(fitting)
        factor = factors[max(fitting, key=len)] if fitting else 1.0
        groups.setdefault(factor, []).append(parameter)
    if unused:
        known = sorted({name.rsplit(".", 1)[0] for name, _ in model.named_parameters()})
        raise OptionError(f"--lr-scale: no parameter's name has {first_few(sorted(unused))} in it: {first_few(known)}.")
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


def _warmed_up_average(decay: float) -> Callable[..., torch.Tensor]:
    """Average weights over time, at first over few steps, so that the random weights of the start are soon forgotten.

    The warm-up is that of TensorFlow's ExponentialMovingAverage, which timm and others took over.
    """

    def average(averaged: torch.Tensor, current: torch.Tensor, num_averaged: torch.Tensor) -> torch.Tensor:
        kept = ((1 + num_averaged) / (10 + num_averaged)).clamp(max=decay)
        return torch.lerp(averaged, current, (1 - kept).to(averaged.dtype))

    return average


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    """Half precision where it is faster: on CUDA. On CPUs and Apple's GPUs heads of these sizes gain nothing by it."""
    half = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type if half else "cpu", torch.bfloat16, enabled=half)


def _record(config: TrainConfig, data: TrainData) -> dict[str, object]:
    """Give what makes this run this one, for its config.json."""
    return {
        **config.as_json(),
        "featureset_digests": [source.featureset.digest for source in data.sources],
        "labels_digest": _labels_digest(data),
        "train_segments": len(data.train),
        "train_missing": data.train.num_missing,
        "validation_segments": len(data.validation) if data.validation else 0,
        "validation_missing": data.validation.num_missing if data.validation else 0,
    }


def _labels_digest(data: TrainData) -> str:
    """Tell one set of annotations from another; refuse those without labels before anything is written."""
    splits = [split.segments for split in (data.train, data.validation) if split is not None]
    content = [[list(part.narration_id), part.verb_class.tolist(), part.noun_class.tolist()] for part in splits]
    return sha256_of_json(content)[:12]


def _generator(seed: int, epoch: int) -> torch.Generator:
    """The order of an epoch depends on seed and epoch alone, so that a resumed run draws the same."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)


def _mean_loss(losses: list[torch.Tensor], asked: list[torch.Tensor], split: Split, folder: Path, epoch: int) -> float:
    """Average the losses of an epoch's steps; looked at once an epoch, as each look waits for the device."""
    values = torch.stack(losses)
    bad = torch.nonzero(~torch.isfinite(values))
    if len(bad):
        step = int(bad[0])
        names = first_few(split.segments.narration_id[asked[step].cpu().numpy()], limit=3)
        raise DataError(
            f"{folder}: the loss is {float(values[step])} in epoch {epoch + 1}, step {step + 1} (segments {names}); "
            "try a lower --lr, or --clip 1. What was written after the epochs before is kept."
        )
    return float(values.mean())


def _postfix(row: dict[str, float]) -> str:
    action = f", action {row['val_action_top1']:.1f} %" if "val_action_top1" in row else ""
    return f"loss {row['train_loss']:.3f}{action}"
