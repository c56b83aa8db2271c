"""Runs on sets with regions: what they say before they begin, that they can be cut off, what a regression is told."""

from __future__ import annotations

import pytest
import torch
from run_files import metrics_of, weights_of
from small_heads import small_options
from synthetic import Synthetic, write_synthetic, write_synthetic_dense

from features.annotations import find_splits
from features.predictions import read_predictions
from heads.config import make_config
from heads.data.load import TrainData, load_train_data
from heads.models.saved import load_model
from heads.training.fit import fit

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Synthetic:
    """The synthetic dataset with a dense set of two regions."""
    dataset = write_synthetic(tmp_path_factory.mktemp("regions"))
    write_synthetic_dense(dataset, regions=("hands", "held"))
    return dataset


@pytest.fixture(scope="module")
def data(dataset) -> TrainData:
    config = make_config("mean_pool", {}, {})
    return load_train_data([dataset.dense], find_splits(dataset.annotations), config, allow_missing=False, device=CPU)


def test_a_run_says_which_cells_can_be_absent_and_predicts(heads, dataset) -> None:
    lists = ("--annotations", dataset.annotations, "--features", dataset.dense)
    small = [word for key, value in small_options("attentive").items() for word in ("--set", f"{key}={value}")]
    result = heads("train", "--head", "attentive", *small, "--epochs", 1, "--device", "cpu", *lists, "--runs", "runs")
    assert result.exit_code == 0, result.output
    assert "hands, held; " in result.output
    assert "training segments have none of them and are seen as plain centre crops" in result.output
    result = heads("predict", "runs/attentive-seed0", "--split", "validation", "--tta", "--device", "cpu")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("head", ["attentive", "bilstm", "probe", "transformer"])
def test_a_run_that_was_cut_off_ends_as_an_unbroken_one(head, data, tmp_path) -> None:
    settings = {"epochs": 2, "batch_size": 8, "mixup": 0.4, "cutmix": 0.5}
    config = make_config(head, small_options(head, dropout=0.4), settings)
    fit(config, data, tmp_path / "unbroken", device=CPU)
    fit(config, data, tmp_path / "cut", device=CPU, until=1)
    fit(config, data, tmp_path / "cut", device=CPU)
    assert metrics_of(tmp_path / "cut") == metrics_of(tmp_path / "unbroken")
    ours, theirs = (weights_of(tmp_path / name / "last.pth") for name in ("cut", "unbroken"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    ours, theirs = (read_predictions(tmp_path / name / "val_predictions.pt") for name in ("cut", "unbroken"))
    assert (ours.verb == theirs.verb).all()


def test_a_regression_is_told_the_share_of_steps_with_a_region(data, tmp_path) -> None:
    fit(make_config("logistic", {"c": 1.0}, {}), data, tmp_path / "run", device=CPU)
    model, model_config = load_model(tmp_path / "run/best_model.pth", device=CPU)
    assert [(spec.dim, spec.cells, spec.regions) for spec in model_config.streams] == [(12, 2, True)]
    assert model.heads[0].classifier["verb"].weight.shape == (97, 13)
    assert 0 < float(model.heads[0].mean[-1]) < 1
