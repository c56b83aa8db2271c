"""Every backbone runs as a user runs it, and its steps lie where their times say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from annotate import annotate
from click.testing import CliRunner
from encode import write_video
from published_networks import as_tested, available, every_variant, lively_weights, shallow

from extract import backbones
from extract.backbones import Backbone, get
from extract.cli import main
from extract.extraction import extract_videos
from features.annotations import read_segments
from features.featureset import read_featureset
from features.store import read_video

# One of each way in which time is laid out in a network.
LAYOUTS = (
    "resnet50",
    "r3d_18",
    pytest.param("mc3_18", marks=pytest.mark.slow),
    pytest.param("s3d", marks=pytest.mark.slow),
    pytest.param("mvit_v2_s", marks=pytest.mark.slow),
    "swin3d_t",
    pytest.param("slow_r50", marks=pytest.mark.slow),
    "slowfast_r50",
    "tsm_r50_epic",
    "timesformer_base_k400",
    "videomae_base_k400",
    "vjepa2_vitl_256",
    "avion_vitb_ego4d",
    "lavila_tsfb_ego4d",
    "vjepa21_base_384",
    "internvideo2_small",
    "hiera_base_16x224",
    *available(["videoprism_base"]),
)
# By how many steps the largest change may be off: with random weights, steps of S3D, which see seconds each, and of
# MViT, which attend to each other at once, are no sharper.
STEPS_OFF = {"s3d": 1, "mvit_v2_s": 1}
# Where a step sees many frames, random weights need pictures of the whole size to be this sharp.
FULL_SIZE = ("r3d_18", "mc3_18", "s3d")
FPS = 30


def _register(monkeypatch: pytest.MonkeyPatch, entry: Backbone) -> Backbone:
    """Have the registry give this entry by its name."""
    monkeypatch.setitem(backbones.registry._BACKBONES, entry.name, entry)
    return entry


@pytest.fixture(scope="module")
def one_segment(miniature, tmp_path_factory) -> Path:
    """The miniature's first validation segment."""
    path = tmp_path_factory.mktemp("annotations") / "EPIC_100_validation.csv"
    pd.read_csv(miniature.annotations / "EPIC_100_validation.csv").head(1).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", every_variant("mvit_v2_s"))
def test_extract_run_works(name, one_segment, miniature, tmp_path, monkeypatch):
    entry = _register(monkeypatch, as_tested(name))
    options = ["--annotations", one_segment, "--videos", miniature.videos, "--frames", "1", "--workers", "1"]
    weights = lively_weights(entry, tmp_path)
    options += ["--backbone", name, "--weights", weights, "--device", "cpu", "--out", tmp_path / "set"]
    result = CliRunner().invoke(main, ["run", *map(str, options)])
    assert result.exit_code == 0, result.output
    featureset = read_featureset(tmp_path / "set")
    assert (featureset.backbone, featureset.weights.source) == (name, weights)
    assert featureset.dim == entry.dim * len(featureset.cells)
    video_id = pd.read_csv(one_segment).video_id[0]
    video = read_video(tmp_path / "set", video_id, digest=featureset.digest)
    assert video.features.shape == (entry.clip.num_steps, 1, featureset.dim)
    assert np.isfinite(video.features).all()
    assert video.features.astype(np.float32).std() > 0.001
    assert (np.diff(video.seconds) >= 0).all()


@pytest.mark.parametrize(
    ("choice", "num_cells"),
    [(("--tokens", "grid4"), 16), (("--tokens", "mean+cls"), 2), (("--tokens", "grid2+cls", "--layers", "0,last"), 10)],
)
def test_cells_are_extracted_and_recorded(choice, num_cells, one_segment, miniature, tmp_path, monkeypatch):
    entry = _register(monkeypatch, shallow(get("dinov2_base"), num_layers=2))
    options = ["--annotations", one_segment, "--videos", miniature.videos, "--frames", "2", "--workers", "1"]
    options += ["--backbone", "dinov2", "--weights", "random:0", "--device", "cpu", "--out", tmp_path / "set"]
    result = CliRunner().invoke(main, ["run", *map(str, options), *choice])
    assert result.exit_code == 0, result.output
    featureset = read_featureset(tmp_path / "set")
    assert (featureset.tokens, featureset.layers) == (choice[1], (0, 1) if "--layers" in choice else ())
    assert (featureset.dim, len(set(featureset.cells))) == (entry.dim * num_cells, num_cells)
    video = read_video(tmp_path / "set", pd.read_csv(one_segment).video_id[0], digest=featureset.digest)
    assert video.features.shape == (2, 1, entry.dim * num_cells)
    cells = video.features[0].reshape(num_cells, -1).astype(np.float32)
    assert len(np.unique(cells, axis=0)) == num_cells
    plan = CliRunner().invoke(main, ["plan", *map(str, options[:-6]), "--backbone", "dinov2", *choice])
    assert f"2 of {entry.dim * num_cells} values" in plan.output


def _noise_video(path: Path, seconds: float, *, flash: tuple[float, float] | None) -> None:
    """Write a still picture of noise, turned to its negative during the flash (from, to)."""
    noise = np.random.default_rng(0).integers(40, 216, (48, 64, 3), dtype=np.uint8)
    noise = np.repeat(np.repeat(noise[::8, ::8], 8, axis=0), 8, axis=1)
    moments = (np.arange(round(seconds * FPS)) + 0.5) / FPS
    is_lit = np.zeros(len(moments), dtype=bool) if flash is None else (moments >= flash[0]) & (moments < flash[1])
    write_video(path, num_frames=len(is_lit), picture=lambda number: 255 - noise if is_lit[number] else noise, fps=FPS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_flash_changes_the_step_at_its_time_the_most(name, tmp_path, monkeypatch):
    entry = _register(monkeypatch, get(name) if name in FULL_SIZE else as_tested(name))
    clip = entry.clip
    num_clips = 8 if clip.num_frames == 1 else 1
    num_steps = clip.num_steps * num_clips
    span_s = clip.num_frames / clip.fps if clip.fps else 4.0
    step_s = span_s / num_steps
    start_s = 1.0  # of the clip, or of the segment whose parts images stand for
    begins_s = [start_s + int(share * num_steps) * step_s for share in (0.2, 0.7)]
    flashes = [None, *((begin_s, begin_s + max(step_s, 1 / FPS)) for begin_s in begins_s)]
    videos = [f"P01_{number:02}" for number in range(len(flashes))]
    for video_id, flash in zip(videos, flashes, strict=True):
        _noise_video(tmp_path / "videos" / "P01" / f"{video_id}.mp4", span_s + 2, flash=flash)
    segments = {f"{video_id}_0": (start_s, start_s + span_s) for video_id in videos}
    out = tmp_path / "set"
    extract_videos(
        read_segments(annotate(tmp_path / "EPIC_100_test_timestamps.csv", segments)),
        tmp_path / "videos",
        out,
        backbone=name,
        weights=lively_weights(entry, tmp_path),
        num_frames=num_clips,
        workers=1,
    )
    still_video, *flash_videos = (read_video(out, video_id, digest=read_featureset(out).digest) for video_id in videos)
    for begin_s, video in zip(begins_s, flash_videos, strict=True):
        change = video.features[:, 0].astype(np.float32) - still_video.features[:, 0].astype(np.float32)
        brightest_s = video.seconds[np.linalg.norm(change, axis=1).argmax()]
        assert brightest_s == pytest.approx(begin_s + step_s / 2, abs=step_s * (STEPS_OFF.get(name, 0) + 0.5) + 1 / FPS)
