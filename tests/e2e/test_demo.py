"""The demo, at its full size, says what it is meant to show: the golden run of the whole path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from features.annotations import TEST_CSV, read_segments
from features.check import verify
from features.featureset import read_featureset
from features.predictions import read_predictions
from features.store import read_video, video_ids

ROOT = Path(__file__).resolve().parents[2]
# Written by `make demo` on a CPU, torch 2.15; other versions and processors round otherwise, hence the tolerances.
GOLDEN_FEATURE_MEAN = 0.04266
GOLDEN_ACTION_TOP1 = {"mean_pool": 9.3, "bilstm": 34.0, "multiscale_lstm": 54.0}


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """The demo's folder, and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = subprocess.run(
        ["bash", "jobs/demo.sh", str(out)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return out, ran.stdout


@pytest.fixture(scope="module")
def rows(demo) -> dict[str, dict]:
    """The last table's rows, as `heads evaluate --json` gives them."""
    program = Path(sys.executable).with_name("heads")
    ran = subprocess.run(
        [program, "evaluate", "--runs", demo[0] / "runs", "--json"], capture_output=True, text=True, check=True
    )
    return {row["name"]: row for row in json.loads(ran.stdout)}


def _top(rows: dict[str, dict], name: str, column: str) -> float:
    return rows[name]["top"][column]


def test_features_are_complete_and_sound(demo):
    assert list(verify(demo[0] / "features" / "tiny_cnn-seg16")) == []


def test_features_are_the_golden_ones(demo):
    root = demo[0] / "features" / "tiny_cnn-seg16"
    digest = read_featureset(root).digest
    means = [read_video(root, video, digest=digest).features.astype(np.float64).mean() for video in video_ids(root)]
    assert np.mean(means) == pytest.approx(GOLDEN_FEATURE_MEAN, rel=0.01)


@pytest.mark.parametrize("head", GOLDEN_ACTION_TOP1)
def test_action_accuracy_is_the_golden_one(rows, head):
    assert _top(rows, head, "action@1") == pytest.approx(GOLDEN_ACTION_TOP1[head], abs=10)


@pytest.mark.parametrize("head", ["bilstm", "multiscale_lstm"])
def test_temporal_heads_tell_verbs_that_mean_pooling_cannot(rows, head):
    assert _top(rows, head, "verb@1") > _top(rows, "mean_pool", "verb@1") + 10


def test_mean_pooling_tells_no_verbs(rows):
    assert _top(rows, "mean_pool", "verb@1") < _top(rows, "most frequent", "verb@1")


def test_mean_pooling_tells_nouns(rows):
    assert _top(rows, "mean_pool", "noun@1") > _top(rows, "most frequent", "noun@1") + 10


def test_ensemble_of_seeds_beats_them_on_average(rows):
    assert _top(rows, "multiscale_ensemble", "action@1") > _top(rows, "multiscale_lstm", "action@1")


def test_every_head_beats_chance(rows):
    assert all(_top(rows, head, "action@1") > _top(rows, "chance", "action@1") for head in GOLDEN_ACTION_TOP1)


def test_submission_covers_the_test_list(demo):
    folder = demo[0] / "runs" / "multiscale_ensemble" / "submission"
    predicted = read_predictions(folder / "submission.pt")
    assert list(predicted.narration_id) == list(read_segments(demo[0] / "annotations" / TEST_CSV).narration_id)


def test_what_was_written_is_named(demo):
    folder, printed = demo
    named = [word for word in printed.split() if word.startswith(str(folder)) and "submission" in word]
    assert {Path(word).name for word in named} >= {"submission.pt", "ensemble_submission.zip", "epic_submission.zip"}
    assert all(Path(word).exists() for word in named)


def test_repeating_it_trains_nothing_again(demo):
    out, _ = demo
    before = {path: path.stat().st_mtime_ns for path in out.rglob("last.pth")}
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "jobs/demo.sh", str(out)], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("last.pth")} == before
