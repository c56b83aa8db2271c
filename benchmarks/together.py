"""What training several runs in one pass costs, beside each alone: for `make bench`. Both read the features of
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
from training import BATCH_SIZE, LOOK, NUM_SEGMENTS, make_set

from features.annotations import Segments
from heads.config import make_config
from heads.data.layout import open_sources
from heads.data.load import TrainData, load_split
from heads.models.catalogue import get
from heads.registry import options_of
from heads.sweep.together import Member, Together
from heads.training.fit import train_epoch
from heads.training.trainee import Trainee

NUM_RUNS = 8
_ROUNDS, _TURN_S, _LEAST_STEPS, _MOST_STEPS = 3, 1.0, 2, 256


@dataclass(frozen=True)
class TogetherResult:
    """Seconds an epoch of NUM_RUNS runs, one after the other and in one pass: medians over turns.

    Attributes:
        data_s: of the pass, for batches alone: drawn, gathered, laid together.
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
    """Measure heads at their own sizes."""
    root, segments = make_set(folder)
    return [_measured(head, root, segments, device) for head in heads]


def _measured(head: str, root: Path, segments: Segments, device: torch.device) -> TogetherResult:
    """Measure a head over as many steps as take a turn."""
    probe = _data(root, segments, _LEAST_STEPS, device)
    with tempfile.TemporaryDirectory() as runs:
        trainee = _trainee(head, 0, probe, Path(runs), device)
        train_epoch(trainee)
        num_steps = int(_TURN_S / _seconds(lambda: train_epoch(trainee), device) * _LEAST_STEPS)
    num_steps = max(_LEAST_STEPS, min(num_steps, _MOST_STEPS))
    data = _data(root, segments, num_steps, device)
    with tempfile.TemporaryDirectory() as runs:
        alone = _trainee(head, 0, data, Path(runs) / "alone", device)
        members = [Member(_trainee(head, seed, data, Path(runs), device), None) for seed in range(NUM_RUNS)]
        together = Together(members, device)
        ways = {
            "alone_s": lambda: train_epoch(alone),
            "together_s": together.train,
            "data_s": lambda: [together.lay_together(drawn) for drawn in together.draw()],
        }
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(1 + _ROUNDS):
            for name, run in ways.items():
                took[name].append(_seconds(run, device))
    epoch = NUM_SEGMENTS / BATCH_SIZE / num_steps
    seconds = {name: stats.median(each[1:]) * epoch for name, each in took.items()}  # the first warms up
    return TogetherResult(head, device.type, **{**seconds, "alone_s": NUM_RUNS * seconds["alone_s"]})


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _data(root: Path, segments: Segments, num_steps: int, device: torch.device) -> TrainData:
    """Give so many batches of segments, spread over the whole set."""
    places = torch.linspace(0, len(segments) - 1, num_steps * BATCH_SIZE).long().numpy()
    mask = [False] * len(segments)
    for place in places:
        mask[place] = True
    sources = open_sources([root], LOOK)
    split = load_split(sources, segments.where(mask), LOOK, allow_missing=False, device=device, memory_bytes=8e9)
    return TrainData(sources, split, None, None, {})


def _trainee(head: str, seed: int, data: TrainData, runs: Path, device: torch.device) -> Trainee:
    config = make_config(head, options_of(get(head).config()), {"seed": seed, "batch_size": BATCH_SIZE})
    return Trainee(config, data, runs / f"{head}-seed{seed}", device=device)
