"""Videos of one set with different views: training takes all that a video has, evaluation the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import labelled_rows, write_csv, write_features

from features.annotations import Segments, read_segments
from features.errors import DataError
from features.featureset import read_featureset
from features.store import read_video, write_video
from heads.config import Augmentation, InputSettings
from heads.data.batches import TtaView, batches, statistics
from heads.data.chunks import Split
from heads.data.layout import lay_out, open_sources, with_first_view

CPU = torch.device("cpu")
VIEWS = ("centre", "augment1", "augment2")
INPUTS = InputSettings()
# Video -> the views that it has, in the order of its file.
OWN = {"P01_01": VIEWS, "P02_101": ("augment2", "centre"), "P03_01": ("centre",)}


@pytest.fixture(scope="module")
def segments(tmp_path_factory) -> Segments:
    rows = labelled_rows(tuple(OWN), 30, np.random.default_rng(0))
    return read_segments(write_csv(tmp_path_factory.mktemp("annotations") / "train.csv", rows))


@pytest.fixture(scope="module")
def root(segments, tmp_path_factory) -> Path:
    """A set whose steps hold the number of their view."""
    folder = tmp_path_factory.mktemp("sets") / "mixed"
    steps = {name: np.tile(np.arange(3.0)[:, None], (2, 1, 4)) for name in segments.narration_id}
    write_features(folder, segments, steps, views=VIEWS)
    featureset = read_featureset(folder)
    for video_id, views in OWN.items():
        write_video(folder, read_video(folder, video_id, digest=featureset.digest, views=views), featureset)
    return folder


def split_of(root: Path, segments: Segments, *, memory_bytes: float = 1e12, first: bool = False) -> Split:
    sources = open_sources([root], INPUTS)
    sources = with_first_view(sources) if first else sources
    return Split(lay_out(sources, segments, INPUTS, allow_missing=False), CPU, memory_bytes=memory_bytes)


def views_seen(split: Split, **options: object) -> dict[str, set[int]]:
    """Return which views of each video batches hold."""
    seen: dict[str, set[int]] = {video_id: set() for video_id in OWN}
    for chunk, order in split.chunks():
        for batch in batches(chunk, order, 8, inputs=INPUTS, device=CPU, **options):
            (steps,) = batch.streams
            for index, features, mask in zip(batch.index.tolist(), steps.features, steps.mask, strict=True):
                seen[split.segments.table.video_id.iloc[index]] |= {int(view) for view in features[mask].unique()}
    return seen


@pytest.mark.parametrize("memory_bytes", [1, 1e12], ids=["streamed", "in memory"])
def test_training_draws_among_the_views_that_a_video_has(root, segments, memory_bytes):
    split = split_of(root, segments, memory_bytes=memory_bytes)
    torch.manual_seed(0)
    seen = views_seen(split, augmentation=Augmentation())
    assert seen == {"P01_01": {0, 1, 2}, "P02_101": {0, 2}, "P03_01": {0}}
    assert views_seen(split) == {video_id: {0} for video_id in OWN}


def test_a_test_view_that_a_video_lacks_is_its_first(root, segments):
    split = split_of(root, segments)
    assert views_seen(split, tta_view=TtaView((1,), 0)) == {"P01_01": {1}, "P02_101": {0}, "P03_01": {0}}
    assert views_seen(split, tta_view=TtaView((2,), 0)) == {"P01_01": {2}, "P02_101": {2}, "P03_01": {0}}


def test_each_view_of_a_video_is_as_likely(root, segments):
    split = split_of(root, segments)
    torch.manual_seed(0)
    drawn = []
    for chunk, order in split.chunks():
        for batch in batches(chunk, order.repeat(100), 999, inputs=INPUTS, device=CPU, augmentation=Augmentation()):
            is_second = (segments.table.video_id.to_numpy() == "P02_101")[batch.index.numpy()]
            drawn += batch.streams[0].features[torch.from_numpy(is_second), 0, 0].tolist()
    assert np.bincount(np.array(drawn, int), minlength=3) / len(drawn) == pytest.approx([0.5, 0, 0.5], abs=0.05)


def test_evaluation_reads_the_first_view_alone(root, segments):
    split, first = split_of(root, segments), split_of(root, segments, first=True)
    assert views_seen(first) == {video_id: {0} for video_id in OWN}
    assert (first.size_bytes, split.num_without_all_views(0)) == (split.size_bytes / 3, 20)
    [(mean, _)] = statistics(first)
    assert mean.tolist() == [0] * 4


def test_a_video_without_the_first_view_has_no_features_for_a_run(root, segments, tmp_path):
    folder = tmp_path / "lacking"
    steps = {name: np.ones((2, 3, 4)) for name in segments.narration_id}
    featureset = write_features(folder, segments, steps, views=VIEWS)
    write_video(folder, read_video(folder, "P02_101", digest=featureset.digest, views=["augment1"]), featureset)
    with pytest.raises(DataError, match="no features for 10 of 30 segments"):
        split_of(folder, segments)
