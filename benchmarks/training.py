"""Measure an epoch of a head against batches made beforehand and against a DataLoader over HDF5, for `make bench`.

The set is as large as the training list of EPIC-KITCHENS-100: 67,217 segments of 16 steps of 768 values, drawn at
random, in 495 videos (1.7 GB in benchmarks/data, kept). Some seconds of steps are timed and scaled to an epoch of 1,051
steps of 64 segments. Streaming reads ahead, so it is timed from the start of an epoch, up to its end if that comes
within ten seconds. The candidates take turns, so that a busy machine slows all of them, and are compared within each
round. Figures are medians of these ratios.
"""

from __future__ import annotations

import itertools
import statistics as stats
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from features.annotations import NUM_NOUNS, NUM_VERBS, Segments
from features.errors import OptionError
from features.featureset import FeatureSet, Sampling, Weights, create_featureset
from features.progress import progress
from features.store import VideoFeatures, video_ids, video_path, write_video
from heads.config import InputSettings, make_config
from heads.data.layout import open_sources
from heads.data.load import TrainData, load_split
from heads.data.steps import Steps
from heads.models.catalogue import get
from heads.registry import options_of
from heads.training.fit import train_step
from heads.training.state import TrainingBatch, TrainingRun, start_run

NUM_SEGMENTS, NUM_VIDEOS, NUM_STEPS, DIM, BATCH_SIZE = 67_217, 495, 16, 768, 64
INPUTS = InputSettings()
_MEASURED_S, _TURN_S, _LEAST_ROUNDS = 15.0, 0.2, 7
_STREAMED_ROUNDS, _STREAMED_S = 3, 10.0
_REST_S = 0.5  # between turns, until reading ahead has ended
_PREPARED = 128  # batches, of 1.5 MB each


@dataclass(frozen=True)
class HeadResult:
    """Seconds per epoch: as trained, and through a DataLoader over HDF5.

    Attributes:
        bfloat16_s: as in_place_s, with `--precision bfloat16`; None where the device cannot.
        in_place_s: with batches that were made beforehand, more than a processor's caches hold.
        streamed_s: with features read a chunk of videos at a time, as for sets larger than memory; after a first epoch,
            in which they are checked as well.
    """

    head: str
    device: str
    epoch_s: float
    in_place_s: float
    bfloat16_s: float | None
    streamed_s: float
    dataloader_s: float

    @property
    def data_share(self) -> float:
        """The data path's share of a step."""
        return 1 - self.in_place_s / self.epoch_s


def measure_heads(folder: Path, device: torch.device, heads: Iterable[str]) -> list[HeadResult]:
    """Measure heads at their default sizes."""
    root, segments = make_set(folder)
    sources = open_sources([root], INPUTS)

    def load(memory_bytes: float) -> TrainData:
        how = {"allow_missing": False, "device": device, "memory_bytes": memory_bytes}
        return TrainData(sources, load_split(sources, segments, INPUTS, **how), None, None, {})

    resident, streamed = load(8e9), load(6e8)
    results = []
    for head in heads:
        with tempfile.TemporaryDirectory() as runs:

            def start(name: str, data: TrainData, head: str = head, runs: str = runs) -> TrainingRun:
                settings = {"batch_size": BATCH_SIZE, "precision": name if name == "bfloat16" else "float32"}
                config = make_config(head, options_of(get(head).config()), settings)
                return start_run(config, data, Path(runs) / name, device=device)

            try:
                half = start("bfloat16", resident)
            except OptionError:  # this CPU cannot
                half = None
            results.append(_measured(start("float32", resident), half, start("streamed", streamed), root))
    return results


def _measured(ours: TrainingRun, half: TrainingRun | None, streamed: TrainingRun, root: Path) -> HeadResult:
    def step(drawn: TrainingBatch) -> None:
        train_step(ours, drawn)

    prepared = list(itertools.islice(ours.batches(), _PREPARED))
    turns = {"epoch_s": (step, ours.batches), "in_place_s": (step, lambda: prepared)}
    if half is not None:
        turns["bfloat16_s"] = lambda drawn: train_step(half, drawn), lambda: prepared
    took = _epoch_s(turns)
    by_loader = _epoch_s(
        {"ours": (step, ours.batches), "loader": (step, lambda: _loaded(root, ours.device))}, rest_s=_REST_S
    )
    return HeadResult(
        ours.config.head,
        ours.device.type,
        **{"bfloat16_s": None, **took},
        streamed_s=_slower(step, streamed.batches, ours.batches) * took["epoch_s"],
        dataloader_s=by_loader["loader"] / by_loader["ours"] * took["epoch_s"],
    )


def _epoch_s(
    turns: dict[str, tuple[Callable[[TrainingBatch], None], Callable[[], Iterable[TrainingBatch]]]],
    *,
    rest_s: float = 0.0,
) -> dict[str, float]:
    """Return the seconds of an epoch for each step and source of batches, which take turns.

    The first one's are the median over rounds, those of others as many times that as they take in the median round. The
    start of an epoch, of worker processes above all, is left out.

    Args:
        rest_s: before each turn, which is longer then.
    """
    endless = {
        name: (step, itertools.chain.from_iterable(iter(source, None))) for name, (step, source) in turns.items()
    }
    for step, batches_of in endless.values():
        step(next(batches_of))
    took: dict[str, list[float]] = {name: [] for name in endless}
    started = time.perf_counter()
    while time.perf_counter() - started < _MEASURED_S or len(took[next(iter(took))]) < _LEAST_ROUNDS:
        for name, (step, batches_of) in endless.items():
            time.sleep(rest_s)
            began, count = time.perf_counter(), 0
            while not count or time.perf_counter() - began < max(_TURN_S, 2 * rest_s):
                step(next(batches_of))
                count += 1
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            took[name].append((time.perf_counter() - began) / count)
    first = next(iter(took.values()))
    epoch_s = stats.median(first) * NUM_SEGMENTS / BATCH_SIZE
    return {
        name: epoch_s * stats.median(one / base for one, base in zip(each, first, strict=True))
        for name, each in took.items()
    }


def _slower(
    step: Callable[[TrainingBatch], None],
    one: Callable[[], Iterable[TrainingBatch]],
    other: Callable[[], Iterable[TrainingBatch]],
) -> float:
    """Return the time of an epoch with the batches of `one`, divided by its time with those of `other`."""
    found = []
    for _ in range(_STREAMED_ROUNDS):
        time.sleep(_REST_S)
        began, count = time.perf_counter(), 0
        for drawn in one():
            step(drawn)
            count += 1
            if time.perf_counter() - began > _STREAMED_S:
                break
        took = time.perf_counter() - began
        time.sleep(_REST_S)
        began = time.perf_counter()
        for drawn in itertools.islice(other(), count):
            step(drawn)
        found.append(took / (time.perf_counter() - began))
    return stats.median(found)


class _Hdf5Dataset(Dataset):
    """The usual alternative: an item is a segment, read from its video's file, which stays open in the worker."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._items = []
        for video_id in video_ids(root):
            with h5py.File(video_path(root, video_id)) as file:
                offset = file["segments/offset"][:]
            self._items += [(video_id, offset[index], offset[index + 1]) for index in range(len(offset) - 1)]
        self._files: dict[str, h5py.File] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        video_id, first, stop = self._items[index]
        if video_id not in self._files:
            self._files[video_id] = h5py.File(video_path(self._root, video_id))
        return torch.from_numpy(self._files[video_id]["features"][first:stop, 0].astype(np.float32)), index


def _loaded(root: Path, device: torch.device) -> Iterable[TrainingBatch]:
    """Return the same batches, read by a DataLoader with two workers."""
    loader = DataLoader(_Hdf5Dataset(root), BATCH_SIZE, shuffle=True, num_workers=2, pin_memory=device.type == "cuda")
    for features, index in loader:
        mask = torch.ones(features.shape[:2], dtype=torch.bool, device=device)
        seconds = torch.zeros(features.shape[:2], device=device)
        yield TrainingBatch((Steps(features.to(device), mask, seconds, mask),), index.to(device), None, 0.5)


def make_set(
    folder: Path, *, num_segments: int = NUM_SEGMENTS, num_videos: int = NUM_VIDEOS, dim: int = DIM
) -> tuple[Path, Segments]:
    """Write the feature set unless it exists; return it with its segments."""
    root = folder / f"random-{num_segments}x{NUM_STEPS}x{dim}"
    rng = np.random.default_rng(0)
    video = np.arange(num_segments) % num_videos
    place = np.arange(num_segments) // num_videos
    table = pd.DataFrame(
        {
            "narration_id": [f"P01_{v:03}_{p}" for v, p in zip(video, place, strict=True)],
            "participant_id": "P01",
            "video_id": [f"P01_{v:03}" for v in video],
            "start_s": place * 3.0,
            "stop_s": place * 3.0 + 2.0,
            "verb_class": rng.integers(0, NUM_VERBS, num_segments),
            "noun_class": rng.integers(0, NUM_NOUNS, num_segments),
        }
    )
    segments = Segments(table, "drawn at random")
    sampling = Sampling(kind="segment", clip_frames=1, steps_per_clip=1, num_frames=NUM_STEPS)
    made_of = FeatureSet("random", Weights("random:0", "none", "0" * 64), {}, "float32", sampling, dim=dim)
    featureset = create_featureset(root, made_of)
    missing = set(table.video_id) - set(video_ids(root))
    with progress(total=len(missing), unit="videos", label="draw features") as bar:
        for video_id, rows in segments.by_video():
            if video_id not in missing:
                continue
            starts = rows.table.start_s.to_numpy()
            seconds = (starts[:, None] + (np.arange(NUM_STEPS) + 0.5) * 2.0 / NUM_STEPS).ravel()
            features = rng.standard_normal((len(seconds), 1, dim), dtype=np.float32).astype(np.float16)
            write_video(
                root,
                VideoFeatures(
                    video_id=video_id,
                    fps=50.0,
                    features=features,
                    seconds=seconds,
                    frame=(seconds * 50).astype(np.int32),
                    narration_id=tuple(rows.narration_id),
                    offset=np.arange(len(rows) + 1) * NUM_STEPS,
                    start_s=starts,
                    stop_s=rows.table.stop_s.to_numpy(),
                ),
                featureset,
            )
            bar.update()
    return root, segments
