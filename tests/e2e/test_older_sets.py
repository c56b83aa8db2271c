"""A feature set that version 0.1.0 wrote is read, trained on and added to."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from annotate import annotate
from encode import write_video
from feature_files import make_featureset
from shell import ROOT, output_here

import features
from extract.cli import main as extract_main
from features.cli import main as features_main
from features.featureset import read_featureset
from features.store import read_video
from heads.cli import main as heads_main
from heads.runs import METRICS, read_metrics

STORED = ROOT / "tests" / "golden" / "features-0.1.0"
# What 0.1.0 gave for `make_featureset(tokens=..., dim=16)`.
DIGESTS = {
    "mean": "5c16f34e9aed042435d96fe8271b20555fe9a2e03ae238199dba79ac26dc37c0",
    "grid2": "c06e73147c13add559be909c08344716f862b1dae987fffe295a6c867ef53630",
    "grid4": "fb89f37f72bead4505616f4724ca461742fcb8016ccf6e4eed0f2b48827b8b1c",
}


@pytest.fixture
def older(tmp_path) -> Path:
    """The set, its annotations and its weights, in a folder that may be written."""
    return shutil.copytree(STORED, tmp_path / "older")


@pytest.mark.parametrize("tokens", DIGESTS)
def test_sets_like_those_of_0_1_0_have_its_digest(tokens):
    assert make_featureset(tokens=tokens, dim=16).digest == DIGESTS[tokens]


def test_an_older_set_is_read():
    older = features.open(STORED / "features")
    assert older.video_ids == ["P01_01", "P01_02"]
    assert (older.featureset.tokens, older.featureset.cells, older.featureset.layers) == ("mean", ("mean",), ())
    assert older["P01_01"].features.shape == (16, 1, 384)
    output_here(features_main, "verify", STORED / "features")


@pytest.mark.parametrize("head", ["mean_pool", "attentive"])
def test_an_older_set_is_trained_on(head, tmp_path):
    data = ("--features", STORED / "features", "--annotations", STORED / "annotations")
    run = ("--head", head, "--epochs", 2, "--device", "cpu", "--runs", tmp_path, "--name", "older")
    output_here(heads_main, "train", *data, *run)
    assert len(read_metrics(tmp_path / "older-seed0" / METRICS)) == 2


def test_an_older_set_is_added_to(older, tmp_path):
    before = {path.name: path.read_bytes() for path in (older / "features").iterdir()}
    added = annotate(tmp_path / "EPIC_100_test_timestamps.csv", {"P02_101_0": (0.2, 0.8), "P02_101_1": (0.5, 1.5)})
    write_video(tmp_path / "videos" / "P02" / "P02_101.mp4", num_frames=60)
    what = ("--annotations", older / "annotations", added, "--videos", tmp_path / "videos", "--frames", 2)
    backbone = ("--backbone", "tiny_cnn", "--weights", older / "weights.pth", "--device", "cpu", "--workers", 1)
    printed = output_here(extract_main, "run", *what, *backbone, "--out", older / "features")
    assert "2 done, 16 there before, 0 failed" in printed
    assert {name: (older / "features" / name).read_bytes() for name in before} == before
    digest = read_featureset(older / "features").digest
    assert np.isfinite(read_video(older / "features", "P02_101", digest=digest).features).all()
    what = ("--annotations", added, *what[3:])
    output_here(extract_main, "run", *what, *backbone, "--views", "centre,flip", "--out", older / "features")
    names = ("P01_01", "P01_02", "P02_101")
    views = [read_video(older / "features", name, digest=digest).views for name in names]
    assert views == [("centre",), ("centre",), ("centre", "flip")]
    assert read_featureset(older / "features").digest == digest
