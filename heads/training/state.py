"""The state of one run in training: its model, loss, optimiser, epochs so far, and folder.

The loop that trains it is in heads/training/fit.py; heads/sweep/together.py trains several at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from features.device import need_half_precision
from features.errors import DataError, OptionError, first_few
from features.files import sha256_of_file, write_json
from features.prediction_formats import PredictionsFile
from features.predictions import write_predictions
from heads.config import TrainConfig
from heads.data.augment import Mixture, augmented
from heads.data.batches import batches
from heads.data.chunks import Chunk
from heads.data.load import TrainData
from heads.data.steps import Queries, Steps
from heads.losses.class_counts import class_counts, log_prior
from heads.losses.objective import TrainingLoss
from heads.models.model import Model, ModelConfig
from heads.models.pooling import has_bfloat16_lstms
from heads.models.saved import BEST, model_config_of, save_model
from heads.predict.predicting import predict, predict_best, score
from heads.prediction_files import read_named
from heads.runs import CONFIG, METRICS, PREDICTIONS, claim, read_record, selected_epoch, write_metrics
from heads.training.average import WeightAverage
from heads.training.defaults import complete
from heads.training.resume import LAST, resume, save_last


@dataclass(frozen=True)
class Outcome:
    """The end of a run.

    Attributes:
        best_epoch: the epoch whose weights are kept, as --select chooses it, from 1.
        metrics: the row of metrics.csv of that epoch.
        was_there: whether the run was finished before, so that nothing was trained.
    """

    folder: Path
    best_epoch: int
    metrics: dict[str, float]
    was_there: bool


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """B segments to train on.

    Attributes:
        streams: the steps of each feature set.
        index: (B,) int64, positions of these segments in the training split.
        mixture: the segments that they are mixed with; None without mixup and CutMix.
        progress: share of the training that is over in the middle of this batch.
        queries: where the segments lie, if they share windows.
    """

    streams: tuple[Steps, ...]
    index: torch.Tensor
    mixture: Mixture | None
    progress: float
    queries: Queries | None = None


@dataclass(frozen=True, eq=False)
class StepResult:
    """What is kept of a training step until the end of its epoch: a scalar loss, the batch's segments, the rate."""

    loss: torch.Tensor
    index: torch.Tensor
    lr: float


@dataclass(eq=False)
class TrainingRun:
    """A run in training.

    Attributes:
        average: a moving average of the weights, where the configuration asks for it.
        history: the rows of metrics.csv.
        was_over: whether the run had all of its epochs when it was started.
    """

    config: TrainConfig
    data: TrainData
    folder: Path
    device: torch.device
    model_config: ModelConfig
    model: Model
    loss: TrainingLoss
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    history: list[dict[str, float]]
    was_over: bool = False

    @property
    def scored_model(self) -> Model:
        """The model that is scored and kept: the average of the weights, where there is one."""
        if self.average is None:
            return self.model
        return self.average.model

    @property
    def is_over(self) -> bool:
        """Whether the run has all of its epochs, or too many epochs in a row were no better than one before."""
        settings, history = self.config.optimisation, self.history
        return len(history) >= settings.schedule.epochs or bool(
            history and settings.patience and len(history) - self.best_epoch >= settings.patience
        )

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept, from 1."""
        return selected_epoch(self.history, self.config.optimisation.selection)

    def chunks(self) -> Iterator[tuple[Chunk, torch.Tensor]]:
        """Return the training features of the next epoch, in an order that seed and epoch decide (`Split.chunks`)."""
        return self.data.train.chunks(_generator(self.config.seed, len(self.history)))

    def batches(self, chunks: Iterable[tuple[Chunk, torch.Tensor]] | None = None) -> Iterator[TrainingBatch]:
        """Return the batches of the next epoch, augmented; random numbers come from torch's global generator.

        Args:
            chunks: what `chunks` returns, of this run or of another one with its seed.
        """
        config, epoch, split = self.config, len(self.history), self.data.train
        deviations = [stream_input.std for stream_input in self.model.stream_inputs()]
        num_seen = 0
        for chunk, order in self.chunks() if chunks is None else chunks:
            for batch in batches(
                chunk,
                order,
                config.optimisation.batch_size,
                inputs=config.inputs,
                device=self.device,
                augmentation=config.augmentation,
            ):
                epochs_done = epoch + (num_seen + len(batch.index) / 2) / len(split)
                progress = epochs_done / config.optimisation.schedule.epochs
                num_seen += len(batch.index)
                mixed, mixture = augmented(batch, config.augmentation, deviations)
                yield TrainingBatch(mixed.streams, mixed.index, mixture, progress, mixed.queries)

    def end_epoch(
        self, steps: Sequence[StepResult], logits: Mapping[str, np.ndarray] | None, **figures: float
    ) -> dict[str, float]:
        """Record an epoch, and write its checkpoints and its row of metrics.csv; return the row.

        Args:
            steps: all steps of the epoch.
            logits: of `scored_model` on validation, by task; None without validation.
            figures: more columns of the row.

        Raises:
            DataError: a loss of the epoch, or a logit, is not finite.
        """
        epoch = len(self.history) + 1
        row = {"epoch": epoch, "lr": steps[-1].lr, "train_loss": self._mean_loss(steps, epoch), **figures}
        if logits is not None and self.data.validation is not None:
            segments, pairs = self.data.validation.segments, self.model_config.pairs
            row |= score(logits, segments, where=f"{self.folder}, epoch {epoch}", pairs=pairs)
        self.history.append(row)
        if self.best_epoch == epoch:
            save_model(self.folder / BEST, self.model_config, self.scored_model)
        if epoch in self.config.optimisation.kept_epochs:
            self._keep_predictions(epoch)
        write_metrics(self.folder / METRICS, self.history)
        save_last(self.folder / LAST, self.model, self.average, self.optimizer, self.history)
        return row

    def _keep_predictions(self, epoch: int) -> None:
        """Write the predictions of this epoch into a folder of their own, which can be named wherever a run can."""
        folder = self.folder / f"epoch{epoch}"
        write_json(folder / CONFIG, {**read_record(self.folder).values, "epoch": epoch})
        for name, split in self.data.predicted.items():
            if split is not None:
                predictions = predict(self.scored_model, split, source=str(folder), device=self.device)
                write_predictions(folder / PREDICTIONS[name], predictions)

    def _mean_loss(self, steps: Sequence[StepResult], epoch: int) -> float:
        """Return the mean of an epoch's losses. They are read once per epoch, because reading waits for the device."""
        losses = torch.stack([step.loss for step in steps])
        bad = torch.nonzero(~torch.isfinite(losses))
        if len(bad):
            number = int(bad[0])
            names = first_few(self.data.train.segments.narration_id[steps[number].index.cpu().numpy()], limit=3)
            raise DataError(
                f"{self.folder}: the loss is {float(losses[number])} in epoch {epoch}, step {number + 1} (segments "
                f"{names}); try a lower --lr, or --clip-grad 1. Files of the epochs before are kept."
            )
        return float(losses.mean())

    def outcome(self) -> Outcome:
        """Return how the run stands; if it is over, write the predictions of its best model first."""
        if self.is_over:
            predict_best(self.folder, self.data.predicted, device=self.device)
        return Outcome(self.folder, self.best_epoch, self.history[self.best_epoch - 1], self.was_over)


def start_run(
    config: TrainConfig,
    data: TrainData,
    folder: Path,
    *,
    device: torch.device,
) -> TrainingRun:
    """Return a run with random weights, or as it was after its last whole epoch, and write its config.json.

    Settings that the configuration leaves open are chosen for the numbers of segments.

    Raises:
        OptionError: the configuration does not fit the data.
        DataError: the folder holds another run, or the teacher's predictions are not for these segments.
    """
    config = complete(config, len(data.train), data.num_validation)
    settings, model_config = config.optimisation, model_config_of(config, data)
    torch.manual_seed(config.seed)
    model = _new_model(model_config, config, data).to(device)
    _need_arithmetic(model, config, device)
    teacher = config.objective.teacher
    taught = None if teacher is None else read_named(Path(teacher), config.objective.scores)
    pairs = data.pairs(config)
    loss = TrainingLoss(config.objective, data.train.segments, taught.predictions if taught else None, pairs)
    if settings.bias == "prior":
        model.set_biases(loss.initial_logits())
    loss = loss.to(device)
    groups = _parameter_groups(model, config)
    optimizer = torch.optim.AdamW(groups, lr=settings.schedule.lr, weight_decay=settings.weight_decay)
    average = WeightAverage(model, settings.ema) if settings.ema else None
    # Only now, when the model is known to fit into memory, so that a smaller model may have the folder's name.
    claim(folder, _record(config, data, taught), data.origin)
    history: list[dict[str, float]] = []
    if (folder / LAST).is_file():
        history = resume(folder / LAST, model, average, optimizer, device)
    run = TrainingRun(config, data, folder, device, model_config, model, loss, optimizer, average, history)
    run.was_over = run.is_over
    return run


def _new_model(model_config: ModelConfig, config: TrainConfig, data: TrainData) -> Model:
    """Return a model with random weights and the statistics of the training segments."""
    model = Model(model_config)
    for stream_input, (mean, std) in zip(model.stream_inputs(), data.statistics, strict=True):
        stream_input.mean, stream_input.std = mean.clone(), std.clone()
    if config.objective.adjust:  # Menon et al., ICLR 2021, eq. 9
        for task in model.tasks:
            prior = torch.from_numpy(log_prior(class_counts(data.train.segments, task, data.pairs(config))))
            getattr(model, f"adjust_{task}").copy_(config.objective.adjust * prior)
    return model


def _need_arithmetic(model: Model, config: TrainConfig, device: torch.device) -> None:
    """Check that the device can compute in the precision of the configuration.

    Raises:
        OptionError: it cannot.
    """
    if config.optimisation.precision != "bfloat16":
        return
    need_half_precision(device)
    if device.type != "cpu" or has_bfloat16_lstms():
        return
    if any(isinstance(module, nn.LSTM) for module in model.modules()):
        raise OptionError(
            "--precision", f"this CPU cannot run LSTMs in bfloat16, which {config.head} needs; leave the option out."
        )


def _parameter_groups(model: Model, config: TrainConfig) -> list[dict[str, Any]]:
    """Return the parameters grouped by the factor on their learning rate; the longest matching name decides.

    Raises:
        OptionError: a name in --lr-scale is part of no parameter's name.
    """
    factors = config.optimisation.lr_factors
    groups: dict[float, list[nn.Parameter]] = {}
    unused = set(factors)
    for name, parameter in model.named_parameters():
        matching = [part for part in factors if f".{part}" in f".{name}"]
        unused -= set(matching)
        factor = factors[max(matching, key=len)] if matching else 1.0
        groups.setdefault(factor, []).append(parameter)
    if unused:
        known = sorted({name.rsplit(".", 1)[0] for name, _ in model.named_parameters()})
        raise OptionError(
            "--lr-scale", f"no parameter's name has {first_few(sorted(unused))} in it: {first_few(known)}."
        )
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


def _record(config: TrainConfig, data: TrainData, taught: PredictionsFile | None) -> dict[str, object]:
    """Return what identifies a run, for its config.json. A list without labels is refused, before that is written."""
    teacher = config.objective.teacher
    # Of probabilities only: versions that took every file for logits recorded nothing.
    kind = {"teacher_scores": taught.kind} if taught and taught.kind != "logits" else {}
    return {
        **config.as_json(),
        "featureset_digests": [source.featureset.digest for source in data.sources],
        "featureset_views": [list(source.views) for source in data.sources],
        "labels_digest": data.labels_digest,
        "times_digest": data.times_digest,
        "train_segments": len(data.train),
        "train_missing": data.train.num_missing,
        "validation_segments": data.num_validation,
        "validation_missing": data.validation.num_missing if data.validation else 0,
        **({"num_actions": num_actions} if (num_actions := len(data.pairs(config))) else {}),
        **({} if teacher is None else {"teacher_sha256": sha256_of_file(Path(teacher))}),
        **kind,
    }


def _generator(seed: int, epoch: int) -> torch.Generator:
    """Return the generator of an epoch's order. It depends on seed and epoch only, so a resumed run draws the same."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
