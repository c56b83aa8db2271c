"""A small feature set and its annotations without a single video: what stage 2 needs, and no more.

Every verb and every noun has a direction of its own in feature space. A segment's steps all lie along its noun's; they
swing along its verb's, from one side to the other. So a head that averages steps sees the nouns, one that reads their
order the verbs as well. Segments have from one step to five.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.annotations import NUM_NOUNS, NUM_VERBS, Segments, read_segments
from features.featureset import FeatureSet, Sampling, Weights, create_featureset
from features.intervals import NO_SEGMENTS, SegmentTimes
from features.predictions import Predictions
from features.store import VideoFeatures, write_video

NUM_STEPS = 5
VERBS = {0: "take", 1: "put", 2: "wash", 3: "open"}
NOUNS = {0: "tap", 1: "spoon", 2: "plate", 3: "cupboard", 299: "wire"}
TAIL_VERBS = [2, 3]
TAIL_NOUNS = [3, 299]
# As published: train has videos of both kinds, and validation and test show a participant each whom train does not.
VIDEOS = {
    "train": ("P01_01", "P02_101", "P03_01"),
    "validation": ("P01_02", "P04_01"),
    "test": ("P02_102", "P05_101"),
}
CSV = {
    "train": "EPIC_100_train.csv",
    "validation": "EPIC_100_validation.csv",
    "test": "EPIC_100_test_timestamps.csv",
}


@dataclass(frozen=True)
class Synthetic:
    """Where a synthetic dataset lies: annotation files, and a folder with one feature set in it."""

    annotations: Path
    features: Path

    @property
    def featureset(self) -> Path:
        return self.features / "synthetic-seg5"

    @property
    def dense(self) -> Path:
        """Where `write_synthetic_dense` writes; in a folder of its own, so that `features` holds one set."""
        return self.features.with_name("features-dense") / "synthetic-every0.2"

    def csv(self, split: str) -> Path:
        return self.annotations / CSV[split]

    def segments(self, split: str) -> Segments:
        return read_segments(self.csv(split))

    @property
    def options(self) -> tuple[object, ...]:
        """The options of `heads ...` that say where the dataset lies."""
        return "--annotations", self.annotations, "--features", self.features


def write_synthetic(out: Path, *, train: int = 24, validation: int = 12, test: int = 10, seed: int = 0) -> Synthetic:
    """Write annotation files for this many segments a split, and the features of all of them."""
    dataset = Synthetic(annotations=out / "annotations", features=out / "features")
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        write_csv(dataset.csv(split), labelled_rows(VIDEOS[split], count, rng), labels=split != "test")
    write_lists(dataset.annotations)
    directions = _directions(seed)
    for split in CSV:
        segments = dataset.segments(split)
        write_features(dataset.featureset, segments, _steps_of(segments, directions, rng))
    return dataset


def labelled_rows(videos: tuple[str, ...], count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return the rows of a split in the published columns and order: lexicographic by narration_id."""
    rows = [_row(videos[index % len(videos)], index // len(videos), rng) for index in range(count)]
    return pd.DataFrame(rows).sort_values("narration_id", ignore_index=True)


def _row(video_id: str, index: int, rng: np.random.Generator) -> dict[str, object]:
    start_cs = 137 + 310 * index
    stop_cs = start_cs + int(rng.integers(30, 400))
    rate = 50 if len(video_id) == len("P01_101") else 60
    verb, noun = (int(rng.choice(list(classes))) for classes in (VERBS, NOUNS))
    return {
        "narration_id": f"{video_id}_{index}",
        "participant_id": video_id.split("_", maxsplit=1)[0],
        "video_id": video_id,
        "narration_timestamp": f"{_timestamp(start_cs)}0",
        "start_timestamp": _timestamp(start_cs),
        "stop_timestamp": _timestamp(stop_cs),
        "start_frame": start_cs * rate // 100,
        "stop_frame": stop_cs * rate // 100,
        "narration": f"{VERBS[verb]} {NOUNS[noun]}",
        "verb": VERBS[verb],
        "verb_class": verb,
        "noun": NOUNS[noun],
        "noun_class": noun,
        "all_nouns": str([NOUNS[noun]]),
        "all_noun_classes": str([noun]),
    }


def _timestamp(centiseconds: int) -> str:
    seconds, rest = divmod(centiseconds, 100)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:02}"


def write_csv(path: Path, rows: pd.DataFrame, *, labels: bool = True) -> Path:
    """Write annotation rows; without `labels`, only the eight columns of the published test list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = rows if labels else rows.loc[:, :"stop_frame"]
    rows.to_csv(path, index=False, lineterminator="\n")
    return path


def write_lists(folder: Path) -> None:
    """Write the lists of tail classes and of participants that train does not show."""
    lists = {
        "tail_verbs": {"verb": TAIL_VERBS},
        "tail_nouns": {"noun": TAIL_NOUNS},
        "unseen_participant_ids_validation": {"participant_id": ["P04"]},
        "unseen_participant_ids_test": {"participant_id": ["P05"]},
    }
    for name, columns in lists.items():
        pd.DataFrame(columns).to_csv(folder / f"EPIC_100_{name}.csv", index=False)


def _steps_of(segments: Segments, directions: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    # Test segments have no labels to draw by; noise is all that their predictions need.
    steps = {}
    for row in segments.table.itertuples():
        num_steps = int(rng.integers(1, NUM_STEPS + 1))
        x = rng.normal(0, 0.3, (num_steps, directions.shape[1]))
        if segments.is_labelled:
            x += _path(row, num_steps, directions)
        steps[row.narration_id] = x
    return steps


def _directions(seed: int) -> np.ndarray:
    return np.random.default_rng(seed + 1).normal(size=(len(VERBS) + len(NOUNS), 12))


def _path(row: Any, num_steps: int, directions: np.ndarray) -> np.ndarray:
    """Return where the steps of a labelled segment lie but for noise, (T, D)."""
    verb, noun = list(VERBS).index(row.verb_class), list(NOUNS).index(row.noun_class)
    swing = np.linspace(-1, 1, num_steps)[:, None] if num_steps > 1 else np.ones((1, 1))
    return swing * directions[verb] + directions[len(VERBS) + noun]


def write_features(
    root: Path,
    segments: Segments,
    steps: Mapping[str, np.ndarray],
    *,
    has_region: Mapping[str, np.ndarray] | None = None,
    **changes: object,
) -> FeatureSet:
    """Write a feature set sampled by segment, or add videos to it.

    Args:
        steps: narration_id -> (T, D), or (T, V, D) of several views; segments that are not in it get no features.
        has_region: narration_id -> (T, cells) bool, of a set with `regions`.
        changes: fields of the set's record, such as views, tokens or backbone.
    """
    sampling = Sampling(kind="segment", clip_frames=1, steps_per_clip=1, num_frames=NUM_STEPS)
    featureset = create_featureset(root, _record(sampling, next(iter(steps.values())), changes))
    for video_id, rows in segments.by_video():
        table = rows.table[rows.table.narration_id.isin(list(steps))]
        if table.empty:
            continue
        lengths = [len(steps[name]) for name in table.narration_id]
        seconds = np.concatenate(
            [
                np.linspace(row.start_s, row.stop_s, length)
                for row, length in zip(table.itertuples(), lengths, strict=True)
            ]
        )
        features = np.concatenate([_with_views(steps[name]) for name in table.narration_id])
        times = SegmentTimes(tuple(table.narration_id), table.start_s.to_numpy(), table.stop_s.to_numpy())
        regions = None if has_region is None else np.concatenate([has_region[name] for name in table.narration_id])
        video = _video(video_id, features, seconds, times, np.cumsum([0, *lengths]), featureset.views, regions)
        write_video(root, video, featureset)
    return featureset


def write_dense(
    root: Path,
    steps: Mapping[str, np.ndarray],
    *,
    every_s: float = 0.2,
    has_region: Mapping[str, np.ndarray] | None = None,
    **changes: object,
) -> FeatureSet:
    """Write a dense feature set, or add videos to it; a video's first step stands for its first `every_s` seconds.

    Args:
        steps: video_id -> (N, D), or (N, V, D) of several views.
        has_region: video_id -> (N, cells) bool, of a set with `regions`.
        changes: fields of the set's record, such as views, tokens or backbone.
    """
    sampling = Sampling(kind="dense", clip_frames=1, steps_per_clip=1, every_s=every_s)
    featureset = create_featureset(root, _record(sampling, next(iter(steps.values())), changes))
    for video_id, features in steps.items():
        seconds = every_s * (np.arange(len(features)) + 0.5)
        offset = np.zeros(1, int)
        regions = None if has_region is None else has_region[video_id]
        video = _video(video_id, _with_views(features), seconds, NO_SEGMENTS, offset, featureset.views, regions)
        write_video(root, video, featureset)
    return featureset


def _record(sampling: Sampling, steps: np.ndarray, changes: Mapping[str, object]) -> FeatureSet:
    defaults = {
        "backbone": "synthetic",
        "weights": Weights("random:0", "none", "0" * 64),
        "preprocess": {},
        "precision": "float32",
        "sampling": sampling,
        "dim": steps.shape[-1],
    }
    return FeatureSet(**{**defaults, **changes})


def _with_views(steps: np.ndarray) -> np.ndarray:
    """Return steps (T, D) or (T, V, D) as (T, V, D) float16."""
    return (steps if steps.ndim == 3 else steps[:, None]).astype(np.float16)


def _video(
    video_id: str,
    features: np.ndarray,
    seconds: np.ndarray,
    segments: SegmentTimes,
    offset: np.ndarray,
    views: tuple[str, ...],
    has_region: np.ndarray | None,
) -> VideoFeatures:
    """Return a video of the first views of a set, as many as the features have."""
    return VideoFeatures(
        video_id=video_id,
        fps=50.0,
        features=features,
        seconds=seconds,
        frame=(seconds * 50).astype(np.int32),
        narration_id=segments.narration_id,
        offset=offset,
        start_s=segments.start_s,
        stop_s=segments.stop_s,
        views=views[: features.shape[1]],
        has_region=has_region,
    )


def write_synthetic_dense(
    dataset: Synthetic, *, every_s: float = 0.2, seed: int = 0, regions: tuple[str, ...] = ()
) -> FeatureSet:
    """Write the dense set of a synthetic dataset: steps over whole videos, with the same directions as its segments'.

    Where segments overlap, the later one is seen.

    Args:
        regions: names of cells, each of which half of the steps have, drawn at random.
    """
    directions, rng = _directions(seed), np.random.default_rng(seed + 2)
    steps = {}
    for split in CSV:
        for video_id, rows in dataset.segments(split).by_video():
            seconds = every_s * (np.arange(int(rows.table.stop_s.max() / every_s) + 3) + 0.5)
            x = rng.normal(0, 0.3, (len(seconds), directions.shape[1]))
            for row in rows.table.itertuples():
                indices = np.flatnonzero((row.start_s <= seconds) & (seconds <= row.stop_s))
                if rows.is_labelled and len(indices):
                    x[indices] = rng.normal(0, 0.3, (len(indices), x.shape[1])) + _path(row, len(indices), directions)
            steps[video_id] = x
    if not regions:
        return write_dense(dataset.dense, steps, every_s=every_s)
    has_region = {video_id: rng.random((len(x), len(regions))) < 0.5 for video_id, x in steps.items()}
    record = {"cells": regions, "regions": {"boxes": "drawn"}}
    return write_dense(dataset.dense, steps, every_s=every_s, has_region=has_region, **record)


def labelled_segments(*pairs: tuple[int, int]) -> Segments:
    """Return segments of one video with these verbs and nouns, (verb_class, noun_class) each."""
    verb_class, noun_class = zip(*pairs, strict=True)
    names = [f"P01_01_{index}" for index in range(len(pairs))]
    table = pd.DataFrame({"narration_id": names, "verb_class": verb_class, "noun_class": noun_class})
    table["video_id"], table["start_s"] = "P01_01", np.arange(len(pairs), dtype=float)
    return Segments(table, "by hand")


def drawn_predictions(segments: Segments, *, seed: int = 0, scale: float = 3.0) -> Predictions:
    """Return logits drawn at random for all segments, in their order."""
    rng = np.random.default_rng(seed)
    verb, noun = (rng.normal(0, scale, (len(segments), width)).astype(np.float32) for width in (NUM_VERBS, NUM_NOUNS))
    return Predictions(tuple(segments.narration_id), verb, noun, f"drawn with seed {seed}")
