"""What an epoch of a head costs, beside features in place and beside a DataLoader that reads HDF5: for `make bench`.

The set is as large as the training list of EPIC-KITCHENS-100: 67,217 segments of 16 steps of 768 values, drawn at
random, in 495 videos (1.7 GB in benchmarks/data, kept). Times are of some seconds' steps, and stand for an epoch's
1,051 of 64 segments; but what streams is timed from the start of an epoch, to its end where that comes within ten
seconds, since it reads ahead. What is compared takes turns, so that a busy machine slows all of it.
"""

from __future__ import annotations

import itertools
import statistics as stats
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
from features.featureset import FeatureSet, Sampling, Weights, create_featureset
from features.progress import progress
from features.store import VideoFeatures, video_ids, video_path, write_video
from heads.batches import Batch, batches, statistics
from heads.checkpoint import stream_specs
from heads.config import Look, Objective
from heads.inputs import load_split
from heads.models import get, names
from heads.models.model import Model, Recipe
from heads.models.steps import Steps
from heads.objective import Target
from heads.registry import options_of
from heads.sources import open_sources
from heads.streams import Split
from heads.train import autocast

NUM_SEGMENTS, NUM_VIDEOS, NUM_STEPS, DIM, BATCH_SIZE = 67_217, 495, 16, 768, 64
LOOK = Look()
_ROUNDS, _ROUND_S, _LEAST_STEPS = 5, 1.5, 2
_STREAMED_ROUNDS, _STREAMED_S = 3, 10.0
_REST_S = 0.5  # between turns, until what reads ahead for another one is done
_PREPARED = 128  # batches, of 1.5 MB each


@dataclass(frozen=True)
class HeadResult:
    """Seconds an epoch: as trained, and through a DataLoader over HDF5.

    Attributes:
        bfloat16_s: as in_place_s, with `--precision bfloat16`.
        in_place_s: with batches that were made beforehand, more than a processor's caches hold.
        streamed_s: with features read a chunk of videos at a time, as for sets larger than memory; after a first epoch,
            in which they are checked as well.
    """

    head: str
    device: str
    epoch_s: float
    in_place_s: float
    bfloat16_s: float
    streamed_s: float
    dataloader_s: float

    @property
    def data_share(self) -> float:
        """The data path's share of a step."""
        return 1 - self.in_place_s / self.epoch_s


def measure_heads(folder: Path, device: torch.device, chosen: Iterable[str] = ()) -> list[HeadResult]:
    """Measure all heads, or those chosen, at their own sizes."""
    root, segments = make_set(folder)
    sources = open_sources([root], LOOK)
    split = load_split(sources, segments, LOOK, allow_missing=False, device=device, memory_bytes=8e9)
    streamed = load_split(sources, segments, LOOK, allow_missing=False, device=device, memory_bytes=6e8)
    deviations = statistics(split)
    for _ in streamed.chunks():
        pass
    results = []
    for head in chosen or names():
        recipe = Recipe(head, options_of(get(head).config()), False, stream_specs(sources), LOOK)
        step, half = (_step(recipe, segments, deviations, device, one) for one in ("float32", "bfloat16"))
        prepared = list(itertools.islice(_shuffled(split, device), _PREPARED))
        took = _epoch_s(
            {
                "epoch_s": (step, lambda: _shuffled(split, device)),
                "in_place_s": (step, lambda prepared=prepared: iter(prepared)),
                "bfloat16_s": (half, lambda prepared=prepared: iter(prepared)),
                "dataloader_s": (step, lambda: _loaded(root, segments, device)),
            }
        )
        slower = _slower(step, lambda: _shuffled(streamed, device), lambda: _shuffled(split, device))
        results.append(HeadResult(head, device.type, **took, streamed_s=slower * took["epoch_s"]))
    return results


def _step(
    recipe: Recipe, segments: Segments, found: list, device: torch.device, precision: str
) -> Callable[[Batch], None]:
    """Give one training step, as heads.train does it."""
    model = Model(recipe).to(device).train()
    for each, (mean, std) in zip(model.inputs, found, strict=True):
        each.mean, each.std = mean.to(device), std.to(device)
    target = Target(Objective(), segments, None).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(batch: Batch) -> None:
        with autocast(device, precision):
            logits = model(batch.streams)
        loss = target({task: one.float() for task, one in logits.items()}, batch.index, None, 0.0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def _shuffled(split: Split, device: torch.device) -> Iterable[Batch]:
    for chunk, order in split.chunks(torch.Generator().manual_seed(0)):
        yield from batches(chunk, order, BATCH_SIZE, look=LOOK, device=device)


def _epoch_s(turns: dict[str, tuple[Callable[[Batch], None], Callable[[], Iterable[Batch]]]]) -> dict[str, float]:
    """Give the seconds of an epoch for each step and source of batches: medians over rounds in which they take turns.

    The start of an epoch, of worker processes above all, is left out.
    """
    endless = {
        name: (step, itertools.chain.from_iterable(iter(source, None))) for name, (step, source) in turns.items()
    }
    for step, batches_of in endless.values():
        step(next(batches_of))
    took: dict[str, list[float]] = {name: [] for name in endless}
    for _ in range(_ROUNDS):
        for name, (step, batches_of) in endless.items():
            time.sleep(_REST_S)
            began, count = time.perf_counter(), 0
            while count < _LEAST_STEPS or time.perf_counter() - began < _ROUND_S:
                step(next(batches_of))
                count += 1
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            took[name].append((time.perf_counter() - began) / count)
    return {name: stats.median(one) * NUM_SEGMENTS / BATCH_SIZE for name, one in took.items()}


def _slower(
    step: Callable[[Batch], None], one: Callable[[], Iterable[Batch]], other: Callable[[], Iterable[Batch]]
) -> float:
    """Give how many times as long as with batches of `other` an epoch takes with those of `one`, from its start on."""
    found = []
    for _ in range(_STREAMED_ROUNDS):
        time.sleep(_REST_S)
        began, count = time.perf_counter(), 0
        for batch in one():
            step(batch)
            count += 1
            if time.perf_counter() - began > _STREAMED_S:
                break
        took = time.perf_counter() - began
        time.sleep(_REST_S)
        began = time.perf_counter()
        for batch in itertools.islice(other(), count):
            step(batch)
        found.append(took / (time.perf_counter() - began))
    return stats.median(found)


class _Hdf5Dataset(Dataset):
    """What one would write: an item is a segment, read from its video's file, which stays open in its worker."""

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


def _loaded(root: Path, segments: Segments, device: torch.device) -> Iterable[Batch]:
    """Give the same batches by a DataLoader of two workers."""
    loader = DataLoader(_Hdf5Dataset(root), BATCH_SIZE, shuffle=True, num_workers=2, pin_memory=device.type == "cuda")
    for features, index in loader:
        mask = torch.ones(features.shape[:2], dtype=torch.bool, device=device)
        seconds = torch.zeros(features.shape[:2], device=device)
        yield Batch((Steps(features.to(device), mask, seconds, mask),), index.to(device))


def make_set(folder: Path) -> tuple[Path, Segments]:
    """Write the feature set, or find it there; give it with its segments."""
    root = folder / f"random-{NUM_SEGMENTS}x{NUM_STEPS}x{DIM}"
    rng = np.random.default_rng(0)
    video = np.arange(NUM_SEGMENTS) % NUM_VIDEOS
    place = np.arange(NUM_SEGMENTS) // NUM_VIDEOS
    table = pd.DataFrame(
        {
            "narration_id": [f"P01_{v:03}_{p}" for v, p in zip(video, place, strict=True)],
            "participant_id": "P01",
            "video_id": [f"P01_{v:03}" for v in video],
            "start_s": place * 3.0,
            "stop_s": place * 3.0 + 2.0,
            "verb_class": rng.integers(0, NUM_VERBS, NUM_SEGMENTS),
            "noun_class": rng.integers(0, NUM_NOUNS, NUM_SEGMENTS),
        }
    )
    segments = Segments(table, "drawn at random")
    sampling = Sampling(kind="segment", clip_frames=1, steps_per_clip=1, num_frames=NUM_STEPS)
    made_of = FeatureSet("random", Weights("random:0", "none", "0" * 64), {}, "float32", sampling, dim=DIM)
    featureset = create_featureset(root, made_of)
    missing = set(table.video_id) - set(video_ids(root))
    with progress(total=len(missing), unit="videos", label="draw features") as bar:
        for video_id, rows in segments.by_video():
            if video_id not in missing:
                continue
            starts = rows.table.start_s.to_numpy()
            seconds = (starts[:, None] + (np.arange(NUM_STEPS) + 0.5) * 2.0 / NUM_STEPS).ravel()
            features = rng.standard_normal((len(seconds), 1, DIM), dtype=np.float32).astype(np.float16)
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
