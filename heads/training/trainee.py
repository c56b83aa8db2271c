"""One run in training: its model, what moves it, its epochs so far, and its folder. Where gradients come from, it does
not know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from features.annotations import NUM_CLASSES
from features.errors import DataError, OptionError, first_few
from features.files import sha256_of_json
from features.predictions import Predictions
from heads.config import TrainConfig
from heads.data.augment import Mixture, augmented
from heads.data.batches import Batch, batches
from heads.data.load import TrainData
from heads.losses.class_counts import log_prior
from heads.losses.objective import Target
from heads.models.model import Model, ModelConfig
from heads.models.pooling import has_bfloat16_lstms
from heads.models.saved import BEST, model_config_of, save_model
from heads.predict.predicting import predict_best, score
from heads.runs import METRICS, claim, write_metrics
from heads.training.resume import LAST, resume, save_last


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its folder, its best epoch (from 1) and the row of metrics.csv of that epoch."""

    folder: Path
    best_epoch: int
    metrics: dict[str, float]
    was_there: bool


class Trainee:
    """A run in training, from its random weights or from its last whole epoch on.

    Attributes:
        model: what is trained.
        target: what is made small.
        history: the rows of metrics.csv.
        was_there: whether there was nothing left to train from the start.

    Args:
        teacher: predictions for the training segments, where the objective has one.

    Raises:
        OptionError: the configuration does not fit the data.
        DataError: the folder holds another run.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainData,
        folder: Path,
        *,
        device: torch.device,
        teacher: Predictions | None = None,
    ) -> None:
        self.config, self.data, self.folder, self.device = config, data, folder, device
        self.model_config, plan = model_config_of(config, data.sources), config.optimisation
        torch.manual_seed(config.seed)
        self.model = _new_model(self.model_config, config, data).to(device)
        _need_arithmetic(self.model, config, device)
        self.target = Target(config.objective, data.train.segments, teacher).to(device)
        groups = _parameter_groups(self.model, config)
        self._optimizer = torch.optim.AdamW(groups, lr=plan.lr, weight_decay=plan.weight_decay)
        self._average = AveragedModel(self.model, avg_fn=_warmed_up_average(plan.ema)) if plan.ema else None
        claim(folder, _record(config, data), data.origin)  # once it is known that the head fits into memory
        self.history: list[dict[str, float]] = []
        if (folder / LAST).is_file():
            self.history = resume(folder / LAST, self.model, self._average, self._optimizer, device)
        self.was_there = self.is_over
        self._losses: list[torch.Tensor] = []
        self._asked: list[torch.Tensor] = []

    @property
    def judged(self) -> Model:
        """What is scored and kept: the average of the weights, where there is one."""
        return self.model if self._average is None else self._average.module

    @property
    def is_over(self) -> bool:
        """Whether a run has all of its epochs, or went without a better one for too many."""
        plan, history = self.config.optimisation, self.history
        return len(history) >= plan.epochs or bool(
            history and plan.patience and len(history) - best_of(history) >= plan.patience
        )

    def batches(self) -> Iterator[tuple[Batch, Mixture | None, float]]:
        """Give the batches of the next epoch, what each is mixed with, and the share of the training behind it."""
        config, epoch, split = self.config, len(self.history), self.data.train
        how = {"inputs": config.inputs, "device": self.device, "augmentation": config.augmentation}
        deviations, seen = [each.std for each in self.model.inputs], 0
        for chunk, order in split.chunks(_generator(config.seed, epoch)):
            for batch in batches(chunk, order, config.optimisation.batch_size, **how):
                done = (epoch + (seen + len(batch.index) / 2) / len(split)) / config.optimisation.epochs
                seen += len(batch.index)
                yield *augmented(batch, config.augmentation, deviations), done

    def step(self, loss: torch.Tensor, index: torch.Tensor, done: float) -> None:
        """Move the weights by the gradients that are there, and forget these.

        Args:
            loss: the batch's, a scalar, for the record.
            index: (B,) int64, which of the training segments it is of.
            done: share of the training that is over.
        """
        plan = self.config.optimisation
        lr = lr_at(done * plan.epochs, peak=plan.lr, warmup=plan.warmup_epochs, total=plan.epochs)
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        if plan.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), plan.clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update_parameters(self.model)
        self._lr = lr
        self._losses.append(loss.detach())
        self._asked.append(index)

    def end_epoch(self, logits: Mapping[str, np.ndarray] | None) -> dict[str, float]:
        """Record an epoch and write what a run goes on from; give its row of metrics.csv.

        Args:
            logits: by task, what `judged` says of validation, where there is one.

        Raises:
            DataError: a loss of the epoch, or a logit, is not finite.
        """
        epoch = len(self.history) + 1
        row = {"epoch": epoch, "lr": self._lr, "train_loss": self._mean_loss(epoch)}
        if logits is not None:
            row |= score(logits, self.data.validation.segments, where=f"{self.folder}, epoch {epoch}")
        self.history.append(row)
        if best_of(self.history) == epoch:
            save_model(self.folder / BEST, self.model_config, self.judged)
        write_metrics(self.folder / METRICS, self.history)
        save_last(self.folder / LAST, self.model, self._average, self._optimizer, self.history)
        return row

    def _mean_loss(self, epoch: int) -> float:
        """Average the losses of an epoch's steps; looked at once an epoch, as each look waits for the device."""
        values, asked = torch.stack(self._losses), self._asked
        self._losses, self._asked = [], []
        bad = torch.nonzero(~torch.isfinite(values))
        if len(bad):
            step = int(bad[0])
            names = first_few(self.data.train.segments.narration_id[asked[step].cpu().numpy()], limit=3)
            raise DataError(
                f"{self.folder}: the loss is {float(values[step])} in epoch {epoch}, step {step + 1} (segments "
                f"{names}); try a lower --lr, or --clip 1. What was written after the epochs before is kept."
            )
        return float(values.mean())

    def outcome(self) -> Outcome:
        """Say how the run stands; if it is over, write what its best model predicts."""
        if self.is_over:
            predict_best(self.folder, self.data.predicted, device=self.device)
        epoch = best_of(self.history)
        return Outcome(self.folder, epoch, self.history[epoch - 1], self.was_there)


def _new_model(model_config: ModelConfig, config: TrainConfig, data: TrainData) -> Model:
    """Build a model with random weights, and with what it takes from the training segments."""
    model = Model(model_config)
    for each, (mean, std) in zip(model.inputs, data.statistics, strict=True):
        each.mean, each.std = mean.clone(), std.clone()
    if config.objective.adjust:  # Menon et al., ICLR 2021, eq. 9
        for task, num_classes in NUM_CLASSES.items():
            labels = torch.tensor(getattr(data.train.segments, f"{task}_class"))
            prior = log_prior(torch.bincount(labels, minlength=num_classes))
            getattr(model, f"adjust_{task}").copy_(config.objective.adjust * prior)
    return model


def _need_arithmetic(model: Model, config: TrainConfig, device: torch.device) -> None:
    """Check that the device has what is asked for.

    Raises:
        OptionError: it has not.
    """
    if config.optimisation.precision != "bfloat16" or device.type != "cpu" or has_bfloat16_lstms():
        return
    if any(isinstance(module, nn.LSTM) for module in model.modules()):
        raise OptionError("--precision", f"this CPU has no LSTMs in bfloat16, as {config.head} wants; leave it out.")


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
        raise OptionError(
            "--lr-scale", f"no parameter's name has {first_few(sorted(unused))} in it: {first_few(known)}."
        )
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


def _warmed_up_average(decay: float) -> Callable[..., torch.Tensor]:
    """Average weights over time, at first over few steps, so that the random weights of the start are soon forgotten.

    The warm-up is that of TensorFlow's ExponentialMovingAverage, which timm and others took over.
    """

    def average(averaged: torch.Tensor, current: torch.Tensor, num_averaged: torch.Tensor) -> torch.Tensor:
        kept = ((1 + num_averaged) / (10 + num_averaged)).clamp(max=decay)
        return torch.lerp(averaged, current, (1 - kept).to(averaged.dtype))

    return average


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
