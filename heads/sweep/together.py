"""Train several runs in one pass over the features.

This works for runs that have models of one shape and differ only in seed, losses, learning rate, weight decay, average
or augmentation. Each keeps its own shuffling, augmentation, loss, optimiser and folder, and ends as it would alone.
Where features are in memory, the models are stacked (heads/sweep/stack.py). Where they are read from disk, runs of one
seed see the same chunks in the same order, so each chunk is read once and trains one model after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from features.errors import DataError, OptionError
from features.progress import progress
from heads.config import TrainConfig
from heads.data.chunks import Chunk
from heads.data.load import TrainData
from heads.locks import locked
from heads.predict.predicting import predict_logits
from heads.sweep.stack import Stack, stacked
from heads.training.fit import autocast, train_step, update_weights
from heads.training.state import Outcome, StepResult, TrainingBatch, TrainingRun, start_run

# The heads that torch.func.vmap batches as they are. It has no rule for LSTMs; a `probe`
# is large enough to fill a device by itself, and the windows of a `context` differ from run to run.
STACKABLE = ("attentive", "mean_pool", "mlp", "tcn", "transformer")


def can_train_together(config: TrainConfig) -> bool:
    """Return whether runs of this kind can be stacked; stream dropout draws in a way that vmap cannot batch."""
    return config.head in STACKABLE and not config.inputs.stream_dropout


def shape_of(config: TrainConfig) -> tuple[object, ...]:
    """Return the settings that runs must have in common to be trained together."""
    settings, objective = config.optimisation, config.objective
    trained = [bool(getattr(objective, f"{task}_weight")) for task in ("verb", "noun", "action", "action_head")]
    actions = objective.action_head, objective.actions
    head = config.head, tuple(sorted(config.head_options.items())), config.separate, *actions
    return *head, config.split, config.inputs, settings.epochs, settings.batch_size, settings.precision, *trained


def fit_together(
    runs: Sequence[tuple[TrainConfig, Path]],
    data: TrainData,
    *,
    device: torch.device,
    until: int | None = None,
) -> list[Outcome | DataError | OptionError]:
    """Train runs of one shape (`shape_of`), as `fit` trains each; return how each ended, or why it failed.

    On a CPU in float32 the metrics are those of each run alone, and weights differ by rounding. Runs with fewer epochs
    behind them than others catch up first.

    Args:
        runs: configuration and folder of each; of one seed if features are not in memory.
        data: of all.
        until: as for `fit`.
    """
    with ExitStack() as locks:
        started: list[GroupedRun | DataError | OptionError] = []
        for config, folder in runs:
            try:
                locks.enter_context(locked(folder))
                started.append(GroupedRun(start_run(config, data, folder, device=device), until))
            except (DataError, OptionError) as error:
                started.append(error)
        members = [member for member in started if isinstance(member, GroupedRun)]
        trainer: GroupTrainer | ChunkTrainer | None = None
        new_trainer = GroupTrainer if data.train.is_resident else ChunkTrainer
        total = sum(member.epochs_left for member in members)
        with progress(total=total, unit="epochs", label=f"{runs[0][0].head}, {len(runs)} runs together") as bar:
            while unfinished := [member for member in members if member.epochs_left]:
                fewest = min(len(member.run.history) for member in unfinished)
                group = [member for member in unfinished if len(member.run.history) == fewest]
                if trainer is None or trainer.members != group:
                    trainer = new_trainer(group)
                for member, steps in zip(group, trainer.train_epoch(), strict=True):
                    member.end_epoch(steps)
                    bar.update()
        return [member.result() if isinstance(member, GroupedRun) else member for member in started]


class GroupedRun:
    """A run with a random state of its own, which begins as `start_run` left torch's generator."""

    def __init__(self, run: TrainingRun, until: int | None) -> None:
        self.run, self._until = run, until
        self._error: DataError | None = None
        self.generator = torch.Generator().set_state(torch.get_rng_state())

    @property
    def epochs_left(self) -> int:
        """Largest number of epochs that are left; none after an error."""
        epochs = self.run.config.optimisation.schedule.epochs
        last = epochs if self._until is None else min(epochs, self._until)
        return 0 if self.run.is_over or self._error else max(0, last - len(self.run.history))

    def batches(self, chunks: Iterable[tuple[Chunk, torch.Tensor]] | None = None) -> Iterator[TrainingBatch]:
        """Return the batches of the next epoch, as `TrainingRun.batches`."""
        batches = self.run.batches(chunks)
        while True:
            with self.own_random_state():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def train_step(self, batch: TrainingBatch) -> StepResult:
        """Train the run on a batch by itself."""
        with self.own_random_state():
            return train_step(self.run, batch)

    def end_epoch(self, steps: Sequence[StepResult]) -> None:
        """Score and record an epoch, or keep the error that this ends in; the checkpoint has the own random state."""
        run, validation = self.run, self.run.data.validation
        logits = None if validation is None else predict_logits(run.scored_model, validation, device=run.device)
        try:
            with self.own_random_state():
                run.end_epoch(steps, logits)
        except DataError as error:
            self._error = error

    def result(self) -> Outcome | DataError:
        """Return how the run stands, or why it failed."""
        return self._error or self.run.outcome()

    @contextmanager
    def own_random_state(self) -> Iterator[None]:
        """Let torch's global generator on the CPU go on from this run's random state."""
        before = torch.get_rng_state()
        torch.set_rng_state(self.generator.get_state())
        try:
            yield
        finally:
            self.generator.set_state(torch.get_rng_state())
            torch.set_rng_state(before)


class ChunkTrainer:
    """Trains members of one seed, with the same number of epochs behind them, on chunks that are read once for all."""

    def __init__(self, members: Sequence[GroupedRun]) -> None:
        if len({member.run.config.seed for member in members}) > 1:
            raise ValueError("runs of several seeds do not read in the same order.")
        self.members = members

    def train_epoch(self) -> list[list[StepResult]]:
        """Train all members for an epoch; return the steps of each."""
        for member in self.members:
            member.run.model.train()
        # Features of a chunk are valid until the next one is asked for. All members ask for it in the same turn, when
        # they have done with the one before.
        shared = itertools.tee(self.members[0].run.chunks(), len(self.members))
        by_member = zip(*(member.batches(own) for member, own in zip(self.members, shared, strict=True)), strict=True)
        steps = [
            [member.train_step(batch) for member, batch in zip(self.members, batches, strict=True)]
            for batches in by_member
        ]
        return [list(own) for own in zip(*steps, strict=True)]


class GroupTrainer:
    """Trains members that have the same number of epochs behind them, with their models stacked."""

    def __init__(self, members: Sequence[GroupedRun]) -> None:
        self.members = members
        self._first = members[0].run
        self._device = self._first.device
        is_cpu = self._device.type == "cpu"
        self._generators = [member.generator if is_cpu else torch.Generator(self._device) for member in members]
        models = [member.run.model.train() for member in members]
        self._stack = Stack(self._first.model_config, models, self._generators)

    def train_epoch(self) -> list[list[StepResult]]:
        """Train all members for an epoch; return the steps of each."""
        for member, generator in zip(self.members, self._generators, strict=True):
            member.run.model.train()
            if generator is not member.generator:  # so that the random state on the CPU decides everything
                generator.manual_seed(int(torch.randint(2**62, (), generator=member.generator)))
        by_member = zip(*(member.batches() for member in self.members), strict=True)
        steps = [self._train_step(batches) for batches in by_member]
        return [list(own) for own in zip(*steps, strict=True)]

    def _train_step(self, batches: Sequence[TrainingBatch]) -> list[StepResult]:
        """Train each member on its batch."""
        if len({tuple(steps.mask.shape for steps in batch.streams) for batch in batches}) > 1:
            # Padding a batch to the width of another one would change its dropout.
            return [member.train_step(batch) for member, batch in zip(self.members, batches, strict=True)]
        streams = stacked([batch.streams for batch in batches])
        with autocast(self._device, self._first.config.optimisation.precision):
            by_task = self._stack(streams)
        losses = []
        for number, (member, batch) in enumerate(zip(self.members, batches, strict=True)):
            logits = {task: values[number].float() for task, values in by_task.items()}
            losses.append(member.run.loss(logits, batch.index, batch.mixture, batch.progress))
        self._stack.backward(torch.stack(losses).sum())
        return [
            update_weights(member.run, batch, loss)
            for member, batch, loss in zip(self.members, batches, losses, strict=True)
        ]
