"""What all of this is for, as a user types it: `make extract BACKBONE=videomae`, and a head on what it wrote."""

from __future__ import annotations

import sys
from functools import partial

import pandas as pd
import pytest
from shell import ROOT, output_of

from features.featureset import read_featureset


@pytest.mark.slow
def test_videomae_features_train_a_head(miniature, tmp_path):
    # A few of the miniature's segments, because each takes a CPU two seconds and more.
    annotations = tmp_path / "annotations"
    annotations.mkdir()
    for file in miniature.annotations.glob("*.csv"):
        rows = pd.read_csv(file)
        selection = rows.head({"EPIC_100_train.csv": 2}.get(file.name, 1)) if "narration_id" in rows else rows
        selection.to_csv(annotations / file.name, index=False)
    variables = {
        "EPIC_ANNOTATIONS": annotations,
        "EPIC_VIDEOS": miniature.videos,
        "EPIC_FEATURES": tmp_path / "features",
        "EPIC_RUNS": tmp_path / "runs",
    }
    run = partial(output_of, folder=tmp_path, timeout_s=600, **variables)
    make = ("make", "-C", ROOT, f"VENV={sys.prefix}", "LOCAL=1")
    run(*make, "extract", "BACKBONE=videomae", "WEIGHTS=random:0", "DEVICE=cpu")
    featureset = read_featureset(tmp_path / "features" / "videomae-seg16")
    assert (featureset.backbone, featureset.sampling.steps_per_clip) == ("videomae_base_k400", 8)
    run("heads", "train", "--head", "multiscale_lstm", "--set", "hidden=16", "--epochs", "2", "--device", "cpu")
    assert (tmp_path / "runs" / "multiscale_lstm-seed0" / "val_predictions.pt").is_file()
