"""`heads watch` on video files: predictions are those of segments at the same times, and what is written of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import extract
import heads
from features.annotations import read_segments
from features.predictions import read_predictions
from heads.ensembles.blend import blend
from heads.scoring.metrics import log_softmax
from live.watch import WatchedVideo, watch_video
from live.windows import window_at

VIDEO = "P04_01"


def video_of(trained) -> Path:
    return next(trained.videos.rglob(f"{VIDEO}.mp4"))


def watched(trained, name: str) -> WatchedVideo:
    return watch_video(trained.run(name), video_of(trained), device="cpu", workers=1)


@pytest.fixture(scope="module")
def windows(trained, tmp_path_factory) -> tuple[Path, list[int]]:
    """A list of segments that are the windows at the middles of annotated ones, and the numbers of these windows."""
    seen = watched(trained, "by_segment")
    table = read_segments(trained.annotations / "EPIC_100_validation.csv").table
    annotated = table[table.video_id == VIDEO]
    middles = (annotated.start_s + annotated.stop_s) / 2
    numbers = sorted({window_at(seen.windows, middle) for middle in middles})
    assert len(numbers) > 3
    path = tmp_path_factory.mktemp("windows") / "windows.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp"])
        for number in numbers:
            times = (f"00:00:{second[number]:06.3f}" for second in (seen.windows.start_s, seen.windows.stop_s))
            rows.writerow([f"{VIDEO}_{number}", "P04", VIDEO, *times])
    return path, numbers


@pytest.fixture(scope="module")
def sets_of_windows(trained, windows, tmp_path_factory) -> dict[str, Path]:
    """The feature sets of these windows, as `extract run` makes them of segments."""
    folder = tmp_path_factory.mktemp("sets")
    options = {"backbone": "tiny_cnn", "weights": "random:0", "device": "cpu", "workers": 1}
    for name, sampling in (("tiny_cnn-seg8", {"frames": 8}), ("tiny_cnn-every0.2", {"every": 0.2})):
        extract.run(annotations=windows[0], videos=trained.videos, out=folder / name, **sampling, **options)
    return {name: folder / name for name in trained.sets}


_SETS = {
    "by_segment": ("tiny_cnn-seg8",),
    "dense": ("tiny_cnn-every0.2",),
    "both": ("tiny_cnn-seg8", "tiny_cnn-every0.2"),
}


def predicted(trained, name: str, windows: Path, sets: dict[str, Path], folder: Path):
    out = folder / f"{name}.pt"
    roots = [sets[of] for of in _SETS[name]]
    heads.predict_run(trained.run(name), annotations=windows, out=out, features=roots, device="cpu")
    return read_predictions(out)


@pytest.mark.parametrize("name", _SETS)
def test_windows_are_predicted_as_segments_at_their_times(trained, windows, sets_of_windows, tmp_path, name):
    csv_path, numbers = windows
    expected = predicted(trained, name, csv_path, sets_of_windows, tmp_path)
    seen = watched(trained, name).predictions
    for task in ("verb", "noun"):
        assert np.ptp(getattr(expected, task), axis=0).max() > 0.05, "windows differ"
        np.testing.assert_allclose(getattr(seen, task)[numbers], getattr(expected, task), atol=1e-4, rtol=0)


def test_an_ensemble_is_the_weighted_mean_of_its_members(trained, windows, sets_of_windows, tmp_path):
    csv_path, numbers = windows
    members = [predicted(trained, name, csv_path, sets_of_windows, tmp_path) for name in ("by_segment", "dense")]
    weights = dict.fromkeys(("verb", "noun"), np.array([0.75, 0.25]))
    expected = blend(members, weights, "probabilities", source="")
    seen = watched(trained, "ensemble").predictions
    for task in ("verb", "noun"):
        np.testing.assert_allclose(
            np.exp(log_softmax(getattr(seen, task)))[numbers], np.exp(getattr(expected, task)), atol=1e-4, rtol=0
        )


def test_of_an_ensemble_the_correction_by_neighbours_is_left_out_and_named(trained, watch):
    result = watch(trained.run("ensemble_corrected"), video_of(trained), "--actions", "a.csv")
    assert result.exit_code == 0, result.output
    assert ("--sequence" in result.stderr) == (_sequence_power(trained) > 0)


def _sequence_power(trained) -> float:
    import json

    record = json.loads((trained.run("ensemble_corrected") / "config.json").read_text())
    return record["correction"]["sequence_power"]
