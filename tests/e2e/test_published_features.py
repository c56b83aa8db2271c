"""Published features from their files to an accuracy, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from published_features import SEGMENTS, VIDEOS, drawn, video_of, write_annotations, write_mtcn

import features.cli
import heads.cli


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command line within this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    programs = {"features": features.cli.main, "heads": heads.cli.main}

    def invoke(*words: object) -> Result:
        return CliRunner().invoke(programs[str(words[0])], list(map(str, words[1:])))

    return invoke


def write_tim(folder: Path) -> None:
    """Write the smallest files of TIM: four views of the training videos, one of the others, and their intervals."""
    frames = []
    for video_id, (length, _) in VIDEOS.items():
        start = np.arange(0, length - 1, 0.2).round(2)
        split, views = ("val", 1) if video_id == "P02_101" else ("train", 4)
        (folder / split).mkdir(parents=True, exist_ok=True)
        np.save(folder / split / f"{video_id}.npy", drawn(len(start), views, 1024))
        times = {"video_id": video_id, "start_sec": start, "stop_sec": start + 1}
        frames.append(pd.DataFrame(times, index=[f"{video_id}_{number}" for number in range(len(start))]))
    pd.concat(frames).to_pickle(folder / "intervals.pkl")


def test_import_train_with_context_evaluate(run, tmp_path) -> None:
    annotations = write_annotations(tmp_path / "annotations")
    for split, names in (
        ("train", [name for name in SEGMENTS if video_of(name) != "P02_101"]),
        ("val", [name for name in SEGMENTS if video_of(name) == "P02_101"]),
    ):
        write_mtcn(tmp_path / f"mtcn/audiovisual_slowfast_features_{split}.hdf5", names, dim=16)
    write_tim(tmp_path / "tim")
    to = ("--annotations", annotations)
    result = run("features", "import", "mtcn", "mtcn", "--part", "visual", "--out", "sets/mtcn", *to)
    assert (result.exit_code, result.stdout) == (
        0,
        "sets/mtcn: 6 segments in 3 videos of mtcn: 6 done, 0 there before, 0 failed.\n",
    )
    times = ("--intervals", "tim/intervals.pkl")
    result = run("features", "import", "tim", "tim", "--part", "omnivore", *times, "--out", "sets/tim", *to)
    assert result.exit_code == 0, result.output
    assert run("features", "verify", "sets/tim").exit_code == 0
    settings = ("--context", 2, "--neighbours", 1, "--fusion", "late", "--draw-steps", 1, "--epochs", 2)
    sets = ("--features", "sets/mtcn", "--features", "sets/tim")
    result = run("heads", "train", "--head", "attentive", "--set", "width=16", *sets, *to, *settings, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "sets/mtcn: mtcn:visual, 640 frames per segment, D 16" in result.output
    assert "one of centre, augment1, augment2, augment3 at random in training; validation" in result.output
    result = run("heads", "evaluate", "runs/attentive-seed0", *to, "--json")
    assert result.exit_code == 0, result.output
    assert 0 <= json.loads(result.stdout)[0]["figures"]["action@1"] <= 100
