"""Measure the training of several runs in one pass against each run alone, for `make bench`. Both read the features of
benchmarks/training.py through the data path, shuffle, and step as heads/training/fit.py and heads/sweep/together.py do.
"""

from __future__ import annotations

import statistics as stats
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from training import BATCH_SIZE, INPUTS, NUM_SEGMENTS, make_set

from features.annotations import Segments
from heads.config import make_config
from heads.data.layout import open_sources
from heads.data.load import TrainData, load_split
from heads.models.catalogue import get
from heads.registry import options_of
from heads.sweep.together import STACKABLE, GroupedRun, GroupTrainer
from heads.training.fit import train_step
from heads.training.state import TrainingRun, start_run

NUM_RUNS = 8
_ROUNDS, _TURN_S, _LEAST_STEPS, _MOST_STEPS = 3, 1.0, 2, 256


@dataclass(frozen=True)
class TogetherResult:
    """Seconds per epoch of NUM_RUNS runs, one after the other and in one pass: medians over turns.

    Attributes:
        data_s: of the pass, for its batches alone.
    """

    head: str
    device: str
    alone_s: float
    together_s: float
    data_s: float

    @property
    def gain(self) -> float:
        """How many times faster the pass is."""
        return self.alone_s / self.together_s


def measure_together(folder: Path, device: torch.device, heads: Iterable[str]) -> list[TogetherResult]:
    """Measure the heads that can be stacked, at their default sizes."""
    root, segments = make_set(folder)
    return [_measured(head, root, segments, device) for head in heads if head in STACKABLE]


def _measured(head: str, root: Path, segments: Segments, device: torch.device) -> TogetherResult:
    """Measure a head over as many steps as take a turn."""
    probe = _data(root, segments, _LEAST_STEPS, device)
    with tempfile.TemporaryDirectory() as runs:
        run = _run(head, 0, probe, Path(runs), device)
        _train_epoch(run)
        num_steps = int(_TURN_S / _seconds(lambda: _train_epoch(run), device) * _LEAST_STEPS)
    num_steps = max(_LEAST_STEPS, min(num_steps, _MOST_STEPS))
    data = _data(root, segments, num_steps, device)
    with tempfile.TemporaryDirectory() as runs:
        alone = _run(head, 0, data, Path(runs) / "alone", device)
        members = [GroupedRun(_run(head, seed, data, Path(runs), device), None) for seed in range(NUM_RUNS)]
        group = GroupTrainer(members)
        timed = {
            "alone_s": lambda: _train_epoch(alone),
            "together_s": group.train_epoch,
            "data_s": lambda: [list(member.batches()) for member in members],
        }
        took: dict[str, list[float]] = {name: [] for name in timed}
        for _ in range(1 + _ROUNDS):
            for name, call in timed.items():
                took[name].append(_seconds(call, device))
    epoch = NUM_SEGMENTS / BATCH_SIZE / num_steps
    seconds = {name: stats.median(turns[1:]) * epoch for name, turns in took.items()}  # the first warms up
    return TogetherResult(head, device.type, **{**seconds, "alone_s": NUM_RUNS * seconds["alone_s"]})


def _train_epoch(run: TrainingRun) -> None:
    for batch in run.batches():
        train_step(run, batch)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _data(root: Path, segments: Segments, num_steps: int, device: torch.device) -> TrainData:
    """Return this many batches of segments, spread over the whole set."""
    mask = torch.zeros(len(segments), dtype=torch.bool)
    mask[torch.linspace(0, len(segments) - 1, num_steps * BATCH_SIZE).long()] = True
    sources, chosen = open_sources([root], INPUTS), segments.where(mask.numpy())
    split = load_split(sources, chosen, INPUTS, allow_missing=False, device=device, memory_bytes=8e9)
    return TrainData(sources, split, None, None, {})


def _run(head: str, seed: int, data: TrainData, runs: Path, device: torch.device) -> TrainingRun:
    config = make_config(head, options_of(get(head).config()), {"seed": seed, "batch_size": BATCH_SIZE})
    return start_run(config, data, runs / f"{head}-seed{seed}", device=device)
