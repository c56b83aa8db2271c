"""Measure training on windows that segments share against a window for each segment, for `make bench`.

Segments are like those of EPIC-KITCHENS-100, in videos of five minutes with a dense set of random features.
"""

from __future__ import annotations

import statistics as stats
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from epic_like import segments_like_epic
from training import BATCH_SIZE, DIM

from features.annotations import NUM_NOUNS, NUM_VERBS, Segments
from features.featureset import FeatureSet, Sampling, Weights, create_featureset
from features.store import VideoFeatures, video_ids, write_video
from heads.config import make_config
from heads.data.layout import open_sources
from heads.data.load import TrainData, load_split
from heads.models.catalogue import parse_head
from heads.training.fit import train_step
from heads.training.state import TrainingBatch, TrainingRun, start_run

WINDOW_S, EVERY_S = 20.0, 0.2
HEADS = ("context", "transformer:layers=4", "transformer")
_NUM_VIDEOS, _VIDEO_S = 20, 300.0
_ROUNDS, _TURN_STEPS = 5, 1


@dataclass(frozen=True)
class WindowsResult:
    """Segments that a head trains on per second of a CPU, or of another device: the median over turns.

    Attributes:
        steps: D-dimensional steps that it sees per segment, a mean over batches; those of a shared window count once.
    """

    head: str
    device: str
    segments_per_s: float
    steps: float


def measure_windows(folder: Path, device: torch.device) -> list[WindowsResult]:
    """Measure `context` and, with as many seconds of context, `transformer` with as many layers and at its default."""
    root, segments = make_dense_set(folder)
    length_s = float((segments.table.stop_s - segments.table.start_s).mean())
    with tempfile.TemporaryDirectory() as runs:
        started = {head: _run(head, root, segments, length_s, Path(runs), device) for head in HEADS}
        endless = {head: _endless(run) for head, run in started.items()}
        rates: dict[str, list[float]] = {head: [] for head in HEADS}
        steps: dict[str, list[float]] = {head: [] for head in HEADS}
        for turn in range(_ROUNDS + 1):
            for head, run in started.items():
                batches = [next(endless[head]) for _ in range(_TURN_STEPS)]
                num_segments = sum(len(batch.index) for batch in batches)
                seconds = _seconds(run, batches, device)
                if turn:  # the first warms up
                    rates[head].append(num_segments / seconds)
                    steps[head].append(sum(int(batch.streams[0].mask.sum()) for batch in batches) / num_segments)
    return [WindowsResult(head, device.type, stats.median(rates[head]), stats.mean(steps[head])) for head in HEADS]


def _run(head: str, root: Path, segments: Segments, length_s: float, runs: Path, device: torch.device) -> TrainingRun:
    spec = parse_head(head)
    is_shared = spec.name == "context"
    inputs = {"window": WINDOW_S} if is_shared else {"context": (WINDOW_S - length_s) / 2}
    width = {"width": 512, "hidden": 1024}  # those of 50,000 segments and more
    settings = {"batch_size": BATCH_SIZE, "mixup": None if is_shared else 0.0, "precision": "float32", **inputs}
    config = make_config(spec.name, {**spec.options, **width}, settings)
    sources = open_sources([root], config.inputs)
    split = load_split(sources, segments, config.inputs, allow_missing=False, device=device)
    return start_run(config, TrainData(sources, split, None, None, {}), runs / head, device=device)


def _endless(run: TrainingRun) -> Iterator[TrainingBatch]:
    run.model.train()
    while True:
        yield from run.batches()


def _seconds(run: TrainingRun, batches: list[TrainingBatch], device: torch.device) -> float:
    """Return the seconds that training steps take: those of the CPU where it computes, whatever else runs there."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    began = clock()
    for batch in batches:
        train_step(run, batch)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def make_dense_set(folder: Path) -> tuple[Path, Segments]:
    """Write the dense set unless it exists; return it with its segments."""
    root = folder / f"random-dense-{_NUM_VIDEOS}x{_VIDEO_S:.0f}s"
    rng = np.random.default_rng(0)
    rows = []
    for video in range(_NUM_VIDEOS):
        times = segments_like_epic(_VIDEO_S, seed=video)
        for number, (start_s, stop_s) in enumerate(zip(times.start_s, times.stop_s, strict=True)):
            verb, noun = rng.integers(0, NUM_VERBS), rng.integers(0, NUM_NOUNS)
            rows.append((f"P01_{video:03}_{number}", "P01", f"P01_{video:03}", start_s, stop_s, verb, noun))
    columns = ["narration_id", "participant_id", "video_id", "start_s", "stop_s", "verb_class", "noun_class"]
    segments = Segments(pd.DataFrame(rows, columns=columns), "drawn at random")
    sampling = Sampling(kind="dense", clip_frames=1, steps_per_clip=1, every_s=EVERY_S)
    made_of = FeatureSet("random", Weights("random:0", "none", "0" * 64), {}, "float32", sampling, dim=DIM)
    featureset = create_featureset(root, made_of)
    seconds = EVERY_S * (np.arange(round(_VIDEO_S / EVERY_S)) + 0.5)
    for video_id in sorted(set(segments.table.video_id) - set(video_ids(root))):
        features = rng.standard_normal((len(seconds), 1, DIM), dtype=np.float32).astype(np.float16)
        frame = (seconds * 50).astype(np.int32)
        none = np.empty(0)
        video = VideoFeatures(video_id, 50.0, features, seconds, frame, (), np.zeros(1, dtype=np.int64), none, none)
        write_video(root, video, featureset)
    return root, segments
