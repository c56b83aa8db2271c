"""`heads watch` on video files: predictions are those of segments at the same times, and what is written of them."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import extract
import heads
from extract.decode.probing import probe
from extract.sampling import end_of_video
from features.annotations import read_segments
from features.errors import DataError
from features.featureset import FILE_NAME, FeatureSet, Sampling, Weights
from features.predictions import Predictions, read_predictions
from heads.ensembles.blend import blend
from heads.ensembles.posthoc import Correction, prior_of
from heads.scoring.metrics import log_softmax
from live.backbone import load_backbones
from live.watch import WatchedVideo, watch_video
from live.windows import window_at

CPU = torch.device("cpu")

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
    "shared": ("tiny_cnn-every0.2",),
    "both": ("tiny_cnn-seg8", "tiny_cnn-every0.2"),
}


def predicted(trained, name: str, windows: Path, sets: dict[str, Path], folder: Path) -> Predictions:
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


def test_of_an_ensemble_the_correction_by_what_precedes_is_left_out_and_named(trained, watch):
    """The record is written by hand, as fitting may find that a correction is of no use."""
    folder = copied(trained.run("ensemble"), Path("runs/corrected"))
    correction = {"temperature": [2.0, 1.0], "tau": [0.0, 0.5], "sequence_power": 0.5}
    change(folder / "config.json", correction=correction)
    result = watch(folder, video_of(trained), "--actions", "a.csv", "-o", "a.mp4")
    assert result.exit_code == 0, result.output
    assert "--sequence" in result.stderr
    plain = watched(trained, "ensemble").predictions
    corrected = watch_video(folder, video_of(trained), device="cpu", workers=1).predictions
    prior = prior_of(read_segments(trained.annotations / "EPIC_100_train.csv"))
    expected = Correction((2.0, 1.0), (0.0, 0.5)).apply(plain, prior, source="")
    np.testing.assert_allclose(corrected.verb, expected.verb, atol=1e-5)
    np.testing.assert_allclose(corrected.noun, expected.noun, atol=1e-5)


def copied(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    return to


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_what_is_written_has_the_length_size_and_rate_of_the_video_and_its_actions(trained, watch):
    video = video_of(trained)
    result = watch(trained.run("by_segment"), video, "-o", "a.mp4", "--actions", "a.csv")
    assert result.exit_code == 0, result.output
    source, drawn = probe(video), probe(Path("a.mp4"))
    assert (drawn.width, drawn.height, len(drawn.seconds)) == (source.width, source.height, len(source.seconds))
    assert drawn.fps == pytest.approx(source.fps, rel=1e-6)
    np.testing.assert_allclose(drawn.seconds, source.seconds, atol=1e-3)
    seen = watched(trained, "by_segment")
    rows = list(csv.DictReader(Path("a.csv").read_text().splitlines()))
    assert list(rows[0]) == ["start", "stop", "verb", "noun", "score"]
    assert len(rows) == len(seen.segments)
    assert float(rows[0]["start"]) == 0
    assert float(rows[-1]["stop"]) == pytest.approx(end_of_video(source.seconds), abs=0.002)
    verbs = {"take", "put", "wash", "open", "close", "insert", "turn-on", "cut"}
    assert {row["verb"] for row in rows} <= verbs
    assert all(0 < float(row["score"]) <= 1 for row in rows)
    table = read_segments(trained.annotations / "EPIC_100_validation.csv").table
    assert len(seen.true) == (table.video_id == VIDEO).sum()


def test_actions_go_beside_the_video(trained, watch, tmp_path):
    video = Path(shutil.copy(video_of(trained), tmp_path / "mine.mp4"))
    assert watch(trained.run("by_segment"), video, "-o", "a.mp4").exit_code == 0
    assert (tmp_path / "mine.actions.csv").is_file()
    assert watch_video(trained.run("by_segment"), video, device="cpu", workers=1).true == []


# ---- what is refused, in one line


def refused(result, *words: str) -> None:
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.strip().splitlines()
    assert all(word in line for word in words), line


def test_runs_with_neighbours_are_refused(trained, watch):
    refused(watch(trained.run("neighbours"), video_of(trained), "-o", "a.mp4"), "--neighbours 1", "no neighbouring")


def test_shared_windows_of_a_set_by_segment_are_refused(trained, watch):
    refused(watch(trained.run("shared_by_segment"), video_of(trained), "-o", "a.mp4"), "dense sets", "overlap")


def test_a_video_that_is_not_there_is_refused(trained, watch):
    refused(watch(trained.run("by_segment"), "nowhere.mp4", "-o", "a.mp4"), "nowhere.mp4: no such video file")


def test_a_video_is_not_written_over_itself(trained, watch, tmp_path):
    video = Path(shutil.copy(video_of(trained), tmp_path / "mine.mp4"))
    for options in (("-o", video), ("-o", tmp_path / "a.mp4", "--actions", video)):
        result = watch(trained.run("by_segment"), video, *options)
        assert result.exit_code == 1
        assert "is mine.mp4 itself" in result.stderr
        assert video.read_bytes() == video_of(trained).read_bytes()
    assert list(tmp_path.iterdir()) == [video], "nothing was computed in vain"
    assert watch(trained.run("by_segment"), video, "-o", "a.mp4", "--actions", "a.mp4").exit_code == 2


def test_a_predictions_file_as_a_member_is_refused(trained, watch):
    folder = copied(trained.run("ensemble"), Path("runs/mixed"))
    member = str(trained.run("dense") / "val_predictions.pt")
    change(folder / "config.json", members=[str(trained.run("by_segment")), member])
    refused(watch(folder, video_of(trained), "-o", "a.mp4"), "val_predictions.pt", "cannot predict a new video")


def moved_set(trained, folder: Path, **weights: str) -> Path:
    """Return a folder with the record of a feature set whose weights are elsewhere."""
    folder.mkdir()
    shutil.copy(trained.sets["tiny_cnn-seg8"] / FILE_NAME, folder)
    record = json.loads((folder / FILE_NAME).read_text())
    change(folder / FILE_NAME, weights={**record["weights"], **weights})
    return folder


def moved_run(trained, folder: Path, roots: list[Path]) -> Path:
    """Return a copy of a run whose feature sets are there."""
    change(copied(trained.run("by_segment"), folder) / "config.json", features=[str(root) for root in roots])
    return folder


def test_weights_that_are_no_longer_there_are_named(trained, watch, tmp_path):
    root = moved_set(trained, tmp_path / "set", source="gone/tiny.pth", revision="local file")
    run = moved_run(trained, tmp_path / "run", [root])
    result = watch(run, video_of(trained), "-o", "a.mp4")
    refused(result, str(root), "tiny_cnn", "gone/tiny.pth", "--weights tiny_cnn=FILE")
    right = watch(run, video_of(trained), "-o", "a.mp4", "--weights", "tiny_cnn=random:0", "--actions", "a.csv")
    assert right.exit_code == 0, right.output
    other = watch(run, video_of(trained), "-o", "b.mp4", "--weights", "tiny_cnn=random:1", "--actions", "b.csv")
    refused(other, "other weights of tiny_cnn", "random:1")
    assert not Path("b.mp4").exists()


def test_published_weights_that_were_not_fetched_are_named_in_one_line(tmp_path):
    weights = Weights(source="x.pth", revision="IMAGENET1K_V2", sha256="0" * 64)
    featureset = FeatureSet("resnet50", weights, {}, "float32", Sampling("segment", 1, 1, num_frames=16), 2048)
    with pytest.raises(DataError, match="extract weights resnet50") as caught:
        load_backbones(
            {featureset.digest: (tmp_path / "set", featureset)}, weights={}, weights_dir=tmp_path, device=CPU
        )
    assert "\n" not in str(caught.value)
    imported = replace(featureset, imported={"format": "npz"})
    with pytest.raises(DataError, match="no backbone"):
        load_backbones({"": (tmp_path, imported)}, weights={}, weights_dir=tmp_path, device=CPU)
    with_regions = replace(featureset, regions={"boxes": "hands"})
    with pytest.raises(DataError, match="hold regions"):
        load_backbones({"": (tmp_path, with_regions)}, weights={}, weights_dir=tmp_path, device=CPU)


def test_a_feature_set_that_is_not_there_can_be_named(trained, watch, tmp_path):
    run = moved_run(trained, tmp_path / "run", [tmp_path / "gone"])
    refused(watch(run, video_of(trained), "-o", "a.mp4"), str(tmp_path / "gone"), "--features")
    roots = ("--features", trained.sets["tiny_cnn-seg8"], "--actions", "a.csv")
    assert watch(run, video_of(trained), "-o", "a.mp4", *roots).exit_code == 0


def test_options_that_make_no_sense_are_refused(trained, watch):
    run, video = trained.run("by_segment"), video_of(trained)
    for options in (("--every", 3), ("--weights", "resnet50=a.pth"), ("--weights", "a.pth")):
        assert watch(run, video, "-o", "a.mp4", *options).exit_code == 2
    assert watch(run, "camera:0", "-o", "a.mp4").exit_code == 2


def test_without_a_screen_that_is_said_before_anything_is_computed(trained, watch, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    refused(watch(trained.run("by_segment"), video_of(trained)), "no screen", "-o FILE.mp4")
