"""Regions stay with their steps: through windows, views, fusion, chunks and augmentation."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from synthetic import labelled_rows, write_csv, write_dense, write_features

from features.annotations import Segments, read_segments
from features.errors import DataError
from heads.config import Augmentation, InputSettings
from heads.data.augment import augmented
from heads.data.batches import Batch, TtaView, batches
from heads.data.chunks import Split
from heads.data.layout import lay_out, open_sources

CPU = torch.device("cpu")
RECORD = {"cells": ("hands", "held"), "regions": {"boxes": "drawn"}}
INPUTS = {
    "late": {"fusion": "late", "context": 1.0, "neighbours": 1},
    "early": {"fusion": "early"},
    "thinned": {"fusion": "late", "max_steps": 3},
    "views": {"fusion": "late", "view": ("centre", "flip")},
}


def _drawn(rng: np.random.Generator, length: int, views: int) -> tuple[np.ndarray, np.ndarray]:
    """Return steps (N, V, 2) of two cells, whose values are positive where they have their region, and that, (N, 2)."""
    has_region = rng.random((length, 2)) < 0.5
    return rng.uniform(1, 2, (length, views, 2)) * np.where(has_region, 1, -1)[:, None], has_region


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> tuple[list[Path], Segments]:
    """A dense set and one of two views by segment, both with regions, of 14 segments in four videos."""
    folder, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    rows = labelled_rows(("P01_01", "P02_101", "P03_01", "P04_101"), 14, rng)
    segments = read_segments(write_csv(folder / "train.csv", rows))
    dense = {video_id: _drawn(rng, 60, 1) for video_id in rows.video_id.unique()}
    by_segment = {name: _drawn(rng, int(rng.integers(1, 6)), 2) for name in segments.narration_id}
    steps, regions = ({key: pair[part] for key, pair in dense.items()} for part in (0, 1))
    write_dense(folder / "dense", steps, has_region=regions, **RECORD)
    steps, regions = ({key: pair[part] for key, pair in by_segment.items()} for part in (0, 1))
    write_features(folder / "segment", segments, steps, has_region=regions, views=("centre", "flip"), **RECORD)
    return [folder / "dense", folder / "segment"], segments


def _split(sets: tuple[list[Path], Segments], inputs: InputSettings, memory_bytes: float = 1e12) -> Split:
    roots, segments = sets
    layout = lay_out(open_sources(roots, inputs), segments, inputs, allow_missing=False)
    return Split(layout, CPU, memory_bytes=memory_bytes)


def _batches(split: Split, inputs: InputSettings, **options: object) -> list[Batch]:
    torch.manual_seed(0)
    return [
        batch
        for chunk, order in split.chunks()
        for batch in batches(chunk, order, 5, inputs=inputs, device=CPU, **options)
    ]


def _need_own_regions(batch: Batch) -> None:
    for steps in batch.streams:
        assert steps.has_region.dtype == torch.bool
        assert torch.equal((steps.features > 0)[steps.mask], steps.has_region[steps.mask])


@pytest.mark.parametrize("memory_bytes", [1e12, 500], ids=["in memory", "in chunks"])
@pytest.mark.parametrize("settings", INPUTS.values(), ids=INPUTS)
def test_each_step_has_the_regions_of_its_features(sets, settings, memory_bytes) -> None:
    inputs = InputSettings(**settings)
    split = _split(sets, inputs, memory_bytes)
    changes = Augmentation(jitter=0.5, speed=0.5, step_dropout=0.3, draw_steps=2)
    for options in ({}, {"augmentation": changes}, {"tta_view": TtaView((0, len(split.sources[1].views) - 1), 1)}):
        for batch in _batches(split, inputs, **options):
            _need_own_regions(batch)


def test_cutmix_moves_regions_with_their_steps(sets) -> None:
    inputs = InputSettings(fusion="late", context=1.0)
    for batch in _batches(_split(sets, inputs), inputs):
        mixed, _ = augmented(batch, Augmentation(cutmix=1.0), [torch.ones(2)] * 2)
        _need_own_regions(mixed)


def test_mixup_keeps_the_regions_of_the_larger_share(sets) -> None:
    inputs = InputSettings(fusion="late")
    for batch in _batches(_split(sets, inputs), inputs):
        mixed, _ = augmented(batch, Augmentation(mixup=0.4, noise=0.1), [torch.ones(2)] * 2)
        for steps, before in zip(mixed.streams, batch.streams, strict=True):
            assert torch.equal(steps.has_region, before.has_region)


def test_segments_without_any_region_are_counted(sets) -> None:
    inputs = InputSettings(fusion="late", context=1.0)
    split = _split(sets, inputs)
    for number in range(2):
        own = [batch.streams[number] for batch in _batches(split, inputs)]
        expected = sum(int((~(steps.has_region.any(2) & steps.within).any(1)).sum()) for steps in own)
        assert split.num_without_regions(number) == expected


def test_a_file_without_its_regions_is_refused(tmp_path) -> None:
    rows = labelled_rows(("P01_01",), 2, np.random.default_rng(0))
    segments = read_segments(write_csv(tmp_path / "train.csv", rows))
    ones = {name: np.ones((3, 2)) for name in segments.narration_id}
    regions = {name: np.ones((3, 2), bool) for name in segments.narration_id}
    write_features(tmp_path / "set", segments, ones, has_region=regions, **RECORD)
    with h5py.File(tmp_path / "set/P01_01.h5", "r+") as file:
        del file["has_region"]
    with pytest.raises(DataError, match=r"P01_01\.h5: lacks has_region bool \(N, 2\)"):
        _split(([tmp_path / "set"], segments), InputSettings())
