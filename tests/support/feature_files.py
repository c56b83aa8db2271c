"""Small annotation files and feature sets, written out in full, for the tests of the features package."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from features.featureset import FeatureSet, Sampling, Weights, create_featureset
from features.store import VideoFeatures, write_video

# The columns as published; the test timestamps have the first eight.
COLUMNS = ["narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp", "stop_timestamp"]
COLUMNS += ["start_frame", "stop_frame"]
LABEL_COLUMNS = ["narration", "verb", "verb_class", "noun", "noun_class", "all_nouns", "all_noun_classes"]

VIEWS = ("centre", "flip", "left", "right")
SEGMENT_16 = Sampling(kind="segment", clip_frames=1, steps_per_clip=1, num_frames=16)
# A set of two cells, hands and a held object, each of which a frame may lack.
REGIONS = {"cells": ("hands:mean", "held:mean"), "regions": {"boxes": "drawn", "size": 32}}
DENSE = Sampling(kind="dense", clip_frames=16, steps_per_clip=8, every_s=0.2, clip_fps=15.0)


def row(index: int, *, video_id: str = "P01_01", **cells: str) -> dict[str, str]:
    """Return a row as published: segment `index` of a video, from second 2 * index on, one second long."""
    start, stop = 2 * index, 2 * index + 1
    defaults = {
        "narration_id": f"{video_id}_{index}",
        "participant_id": video_id.split("_", maxsplit=1)[0],
        "video_id": video_id,
        "narration_timestamp": f"00:00:{start:02}.300",
        "start_timestamp": f"00:00:{start:02}.00",
        "stop_timestamp": f"00:00:{stop:02}.00",
        "start_frame": str(max(1, 60 * start)),
        "stop_frame": str(60 * stop),
        "narration": "take the tap, and the spoon",
        "verb": "take",
        "verb_class": "0",
        "noun": "tap",
        "noun_class": "0",
        "all_nouns": "['tap', 'spoon']",
        "all_noun_classes": "[0, 1]",
    }
    return {**defaults, **cells}


def write_rows(
    path: Path, rows: Iterable[Mapping[str, str]], *, columns: Sequence[str] = (*COLUMNS, *LABEL_COLUMNS)
) -> Path:
    """Write a CSV file of these columns; other cells of the rows are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def make_featureset(**changes: object) -> FeatureSet:
    """Return the record of a small feature set, with these fields changed."""
    defaults = {
        "backbone": "drawn",
        "weights": Weights("random:0", "none", "0" * 64),
        "preprocess": {"crop": 32, "mean": [0.5, 0.5, 0.5]},
        "precision": "float32",
        "sampling": SEGMENT_16,
        "dim": 8,
    }
    return FeatureSet(**{**defaults, **changes})


def video(
    video_id: str = "P01_01",
    *,
    lengths: Sequence[int] = (3, 1, 4),
    views: int = 1,
    dim: int = 8,
    seed: int = 0,
    **changes: object,
) -> VideoFeatures:
    """Return drawn features of the segments `video_id`_0, _1, ..., with the times of `row` and `lengths` steps each.

    With no lengths: twelve steps of a dense set.
    """
    num_steps = sum(lengths) or 12
    start_s = 2.0 * np.arange(len(lengths))
    seconds = np.arange(num_steps) * 0.2
    if lengths:
        seconds = np.concatenate(
            [np.linspace(start, start + 1, length) for start, length in zip(start_s, lengths, strict=True)]
        )
    values = np.random.default_rng(seed).normal(size=(num_steps, views, dim))
    defaults = {
        "video_id": video_id,
        "fps": 60000 / 1001,
        "features": values.astype(np.float16),
        "seconds": seconds,
        "frame": (seconds * 60000 / 1001).astype(np.int32),
        "narration_id": tuple(f"{video_id}_{index}" for index in range(len(lengths))),
        "offset": np.cumsum([0, *lengths], dtype=np.int64),
        "start_s": start_s,
        "stop_s": start_s + 1,
        "views": VIEWS[:views],
    }
    return VideoFeatures(**{**defaults, **changes})


def with_regions(features: VideoFeatures, *, seed: int = 7) -> VideoFeatures:
    """Return a video of a set of `REGIONS`, with drawn regions: the first step has none, the last has both."""
    has_region = np.random.default_rng(seed).random((len(features.seconds), 2)) < 0.5
    has_region[[0, -1]] = [[False], [True]]
    return replace(features, has_region=has_region)


def write_set(root: Path, *videos: VideoFeatures, **changes: object) -> FeatureSet:
    """Write a feature set of these videos; give its record."""
    featureset = create_featureset(root, make_featureset(**changes))
    for features in videos:
        write_video(root, features, featureset)
    return featureset


def python(code: str, *arguments: object, **popen: object) -> subprocess.Popen[str]:
    """Start Python code in a process of its own, which can import this module."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=Path(__file__).parent, **pipes, **popen)


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a process; give its exit code, stdout and stderr."""
    out, err = process.communicate(timeout=1800)
    return process.returncode, out, err


def kill_when_stopped(process: subprocess.Popen[str]) -> None:
    """Kill a process once it has printed "stopped"."""
    assert process.stdout.readline() == "stopped\n", finished(process)
    process.kill()
    code, _, _ = finished(process)
    assert code == -signal.SIGKILL


def names_in(folder: Path) -> list[str]:
    """Return the names of all files and folders in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())
