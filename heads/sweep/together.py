"""Train several runs at once, one pass over the features for all. Each ends as it would alone.

Runs that differ in their seed, losses, learning rate, weight decay, average or augmentation alone have models of one
shape. These are stacked (heads/sweep/stack.py), so that forward and backward are those of one larger model, whose
products of matrices are batched. Each run keeps its own shuffling, augmentation, loss, optimiser and folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from features.errors import DataError, OptionError
from features.predictions import Predictions
from features.progress import progress
from heads.config import TrainConfig
from heads.data.augment import Mixture
from heads.data.batches import Batch
from heads.data.load import TrainData
from heads.data.steps import Steps
from heads.models.shape import Logits
from heads.predict.predicting import run_over
from heads.sweep.stack import Stack
from heads.sweep.stacked_modules import Draws
from heads.training.fit import autocast
from heads.training.trainee import Outcome, Trainee

Drawn = tuple[Batch, Mixture | None, float]


def shape_of(config: TrainConfig) -> tuple[object, ...]:
    """Give what runs must have in common to be trained together."""
    plan, objective = config.optimisation, config.objective
    trains = [bool(getattr(objective, f"{task}_weight")) for task in ("verb", "noun", "action")]
    head = config.head, tuple(sorted(config.head_options.items())), config.separate
    return *head, config.split, config.inputs, plan.epochs, plan.batch_size, plan.precision, *trains


def fit_together(
    runs: Sequence[tuple[TrainConfig, Path]],
    data: TrainData,
    *,
    device: torch.device,
    teachers: Sequence[Predictions | None],
    until: int | None = None,
) -> list[Outcome | DataError | OptionError]:
    """Train runs of one shape (`shape_of`), as `fit` trains each; give how each ended, or why it failed.

    On a CPU in float32 the metrics are those of each alone, and weights differ by rounding. Runs that have fewer epochs
    behind them than others catch up first.

    Args:
        runs: configuration and folder of each.
        data: of all, with features in memory.
        teachers: of each.
        until: as for `fit`.
    """
    ended: dict[int, Outcome | DataError | OptionError] = {}
    members: dict[int, Member] = {}
    for place, ((config, folder), teacher) in enumerate(zip(runs, teachers, strict=True)):
        try:
            members[place] = Member(Trainee(config, data, folder, device=device, teacher=teacher), until)
        except (DataError, OptionError) as error:
            ended[place] = error
    stack = None
    total = sum(member.num_to_go for member in members.values())
    with progress(total=total, unit="epochs", label=f"{runs[0][0].head}, {len(runs)} runs together") as bar:
        while going := {place: one for place, one in members.items() if one.num_to_go and place not in ended}:
            behind = min(len(one.trainee.history) for one in going.values())
            group = {place: one for place, one in going.items() if len(one.trainee.history) == behind}
            if stack is None or stack.members != list(group.values()):
                stack = Together(list(group.values()), device)
            stack.train()
            logits = stack.predict()
            for number, (place, member) in enumerate(group.items()):
                try:
                    member.end_epoch(None if logits is None else {task: one[number] for task, one in logits.items()})
                except DataError as error:
                    ended[place] = error
                bar.update()
    return [ended.get(place) or members[place].trainee.outcome() for place in range(len(runs))]


class Member:
    """A run with random numbers of its own."""

    def __init__(self, trainee: Trainee, until: int | None) -> None:
        """Take over the state in which making the trainee left torch's generator."""
        self.trainee, self._until = trainee, until
        self.generator = torch.Generator().set_state(torch.get_rng_state())

    @property
    def num_to_go(self) -> int:
        """How many epochs are left, at the most."""
        trainee = self.trainee
        last = trainee.config.optimisation.epochs
        last = last if self._until is None else min(last, self._until)
        return 0 if trainee.is_over else max(0, last - len(trainee.history))

    def draw(self) -> Iterator[Drawn]:
        """Give the batches of the next epoch."""
        batches = self.trainee.batches()
        while True:
            with _as_default(self.generator):
                drawn = next(batches, None)
            if drawn is None:
                return
            yield drawn

    def end_epoch(self, logits: dict | None) -> None:
        """End an epoch, which keeps the state of the random numbers as well."""
        with _as_default(self.generator):
            self.trainee.end_epoch(logits)


@contextmanager
def _as_default(generator: torch.Generator) -> Iterator[None]:
    """Let what draws from torch's global generator on the CPU draw from another."""
    before = torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(torch.get_rng_state())
        torch.set_rng_state(before)


class Together:
    """Members with their models stacked."""

    def __init__(self, members: Sequence[Member], device: torch.device) -> None:
        self.members, self._device = members, device
        self._trainees = [member.trainee for member in members]
        self._first = self._trainees[0]
        self._draws = Draws([self._for_device(member.generator) for member in members])
        self._stack = Stack(self._first.model_config, [each.model for each in self._trainees], self._draws)
        self._stack.share()
        alike: dict[object, list[int]] = {}
        for place, each in enumerate(self._trainees):
            alike.setdefault((each.config.objective, each.config.augmentation), []).append(place)
        self._alike = list(alike.values())

    def _for_device(self, generator: torch.Generator) -> torch.Generator:
        """Give what draws on the device: on a CPU the member's own generator."""
        return generator if self._device.type == "cpu" else torch.Generator(self._device)

    def draw(self) -> Iterator[tuple[Drawn, ...]]:
        """Give a batch of each member at a time, of the next epoch."""
        return zip(*(member.draw() for member in self.members), strict=True)

    def lay_together(self, drawn: Sequence[Drawn]) -> tuple[Steps, ...]:
        """Give the streams of a batch of each member: (M, B, T, ...)."""
        return self._stack.lay_together([batch.streams for batch, _, _ in drawn])

    def train(self) -> None:
        """Train an epoch."""
        if self._device.type != "cpu":  # so that the state on the CPU is all there is to go on from
            for member, generator in zip(self.members, self._draws.generators, strict=True):
                generator.manual_seed(int(torch.randint(2**62, (), generator=member.generator)))
        for drawn in self.draw():
            streams = self.lay_together(drawn)
            with autocast(self._device, self._first.config.optimisation.precision):
                logits = self._stack(streams)
            losses = self._losses({task: one.float() for task, one in logits.items()}, drawn)
            self._stack.backward(losses.sum())
            for trainee, loss, (batch, _, done) in zip(self._trainees, losses, drawn, strict=True):
                trainee.step(loss, batch.index, done)

    def _losses(self, logits: Logits, drawn: Sequence[Drawn]) -> torch.Tensor:
        """Give the loss of each member, (M,); those with the same objective at once."""
        losses: list[torch.Tensor | None] = [None] * len(drawn)
        for places in self._alike:
            rows = {task: one[places].flatten(0, 1) for task, one in logits.items()}
            index = torch.cat([drawn[place][0].index for place in places])
            mixture = _joined([drawn[place][1] for place in places])
            each = self._trainees[places[0]].target.each(rows, index, mixture, drawn[0][2])
            for place, loss in zip(places, each.view(len(places), -1).mean(dim=1), strict=True):
                losses[place] = loss
        return torch.stack(losses)

    def predict(self) -> dict | None:
        """Give what each member's judged model says of validation, (M, S, K) by task; None without validation."""
        validation = self._first.data.validation
        if validation is None:
            return None
        stack = Stack(self._first.model_config, [each.judged for each in self._trainees])
        return run_over(
            lambda streams: stack(streams, is_common=True),
            validation,
            inputs=self._first.model_config.inputs,
            device=self._device,
            num_models=(len(self._trainees),),
        )


def _joined(mixtures: Sequence[Mixture | None]) -> Mixture | None:
    """Join the mixtures of several batches of one size, which lie one after the other."""
    if mixtures[0] is None:
        return None
    size = len(mixtures[0].partner)
    partner = torch.cat([one.partner + number * size for number, one in enumerate(mixtures)])
    return Mixture(partner, torch.cat([one.own for one in mixtures]))
