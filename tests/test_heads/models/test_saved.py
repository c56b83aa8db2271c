"""Trained heads on disk: what is loaded is what was saved, and nothing else passes for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from shared_windows import as_windows
from small_heads import small_options

from features.errors import DataError
from heads.config import InputSettings
from heads.data.steps import Steps
from heads.models.catalogue import names, reads_windows
from heads.models.model import Model, ModelConfig, StreamSpec
from heads.models.saved import load_model, need_same_streams, save_model, stream_specs

CPU = torch.device("cpu")
DIM = 6
CONFIGS = {
    "one set": ModelConfig("mean_pool", {}, False, (StreamSpec("a" * 64, DIM),), InputSettings()),
    "two heads": ModelConfig("mean_pool", {}, True, (StreamSpec("a" * 64, DIM),), InputSettings()),
    "actions": ModelConfig(
        "mean_pool", {}, False, (StreamSpec("a" * 64, DIM),), InputSettings(), ((0, 299), (3, 4), (3, 5))
    ),
    "context": ModelConfig(
        "mean_pool", {}, False, (StreamSpec("a" * 64, DIM),), InputSettings(context=2.0, view=("flip", "centre"))
    ),
    "late": ModelConfig(
        "mean_pool",
        {},
        False,
        (StreamSpec("a" * 64, DIM, 2), StreamSpec("b" * 64, 4)),
        InputSettings(fusion="late", project=3),
    ),
}


def _steps(dim: int) -> Steps:
    mask = torch.arange(5) < torch.tensor([3, 5])[:, None]
    within = mask & (torch.arange(5) >= 1)
    return Steps(torch.randn(2, 5, dim), mask, torch.randn(2, 5), within)


def _save_random_model(model_config: ModelConfig, path: Path) -> Model:
    torch.manual_seed(0)
    model = Model(model_config).eval()
    for stream_input in model.stream_inputs():
        stream_input.mean = torch.randn_like(stream_input.mean)
        stream_input.std = torch.rand_like(stream_input.std) + 0.5
    model.adjust_noun = torch.randn(300)
    save_model(path, model_config, model)
    return model


def _config_of(name: str) -> ModelConfig:
    inputs = InputSettings(window=5.0, window_hop=1.0) if reads_windows(name) else InputSettings()
    return replace(CONFIGS["one set"], head=name, options=small_options(name), inputs=inputs)


def _given(name: str, steps: Steps) -> tuple[object, ...]:
    return as_windows(steps) if reads_windows(name) else ((steps,),)


@pytest.mark.parametrize("name", names())
def test_a_saved_head_gives_the_same_logits_when_loaded(name, tmp_path):
    model_config = _config_of(name)
    model = _save_random_model(model_config, tmp_path / "best_model.pth")
    loaded_model, loaded_config = load_model(tmp_path / "best_model.pth", device=CPU)
    given = _given(name, _steps(DIM))
    torch.testing.assert_close(loaded_model(*given), model(*given), rtol=0, atol=0)
    assert loaded_config == model_config


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_model_of_any_kind_comes_back_with_its_configuration(kind, tmp_path):
    model_config = CONFIGS[kind]
    model = _save_random_model(model_config, tmp_path / "best_model.pth")
    loaded_model, loaded_config = load_model(tmp_path / "best_model.pth", device=CPU)
    streams = tuple(_steps(spec.dim) for spec in model_config.streams)
    assert loaded_config == model_config
    torch.testing.assert_close(loaded_model(streams), model(streams), rtol=0, atol=0)


def test_a_loaded_model_is_in_evaluation_mode(tmp_path):
    _save_random_model(CONFIGS["one set"], tmp_path / "best_model.pth")
    assert not load_model(tmp_path / "best_model.pth", device=CPU)[0].training


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_head_gives_the_same_logits_on_every_device(device, tmp_path):
    is_available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not is_available[device]:
        pytest.skip(f"there is no {device} here")
    for name in names():
        model_config = _config_of(name)
        _save_random_model(model_config, tmp_path / f"{name}.pth")
        cpu_model, _ = load_model(tmp_path / f"{name}.pth", device=CPU)
        device_model, _ = load_model(tmp_path / f"{name}.pth", device=torch.device(device))
        steps = _steps(DIM)
        actual = device_model(*_given(name, steps.map(lambda part: part.to(device))))
        expected = cpu_model(*_given(name, steps))
        for task in expected:
            torch.testing.assert_close(actual[task].cpu(), expected[task], rtol=0, atol=1e-4)


def test_a_head_of_another_feature_set_is_refused(tmp_path, train_data):
    path = tmp_path / "best_model.pth"
    with pytest.raises(DataError, match=r"trained on other features than .*digest aaaaaaaa against"):
        need_same_streams(path, CONFIGS["one set"], train_data.sources)


def test_a_head_of_more_feature_sets_is_refused(tmp_path, train_data):
    with pytest.raises(DataError, match="trained on 2 feature sets; 1 are given"):
        need_same_streams(tmp_path / "best_model.pth", CONFIGS["late"], train_data.sources)


def test_the_feature_set_of_training_is_taken(tmp_path, train_data):
    model_config = replace(CONFIGS["one set"], streams=stream_specs(train_data.sources))
    need_same_streams(tmp_path / "best_model.pth", model_config, train_data.sources)


@pytest.mark.parametrize("size", [0, 1000])
def test_a_checkpoint_that_was_cut_short_is_refused(tmp_path, size):
    path = tmp_path / "best_model.pth"
    _save_random_model(CONFIGS["one set"], path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"best_model\.pth: not a trained head .*delete its folder"):
        load_model(path, device=CPU)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "best_model.pth")
    with pytest.raises(DataError, match=r"best_model\.pth: not a trained head"):
        load_model(tmp_path / "best_model.pth", device=CPU)


def test_a_checkpoint_whose_weights_do_not_fit_is_refused(tmp_path):
    _save_random_model(CONFIGS["one set"], tmp_path / "best_model.pth")
    content = torch.load(tmp_path / "best_model.pth", weights_only=True)
    content["config"]["head"] = "mlp"
    torch.save(content, tmp_path / "best_model.pth")
    with pytest.raises(DataError, match=r"best_model\.pth: not a trained head"):
        load_model(tmp_path / "best_model.pth", device=CPU)


def test_a_checkpoint_of_an_earlier_version_is_read(tmp_path):
    path = tmp_path / "best_model.pth"
    model = _save_random_model(CONFIGS["late"], path)
    content = torch.load(path, weights_only=True)
    config = content["config"]
    recipe = {("look" if name == "inputs" else name): value for name, value in config.items() if name != "pairs"}
    recipe["streams"] = [{name: stream[name] for name in ("digest", "dim", "cells")} for stream in config["streams"]]
    torch.save({"recipe": recipe, "model": content["model"]}, path)
    loaded_model, loaded_config = load_model(path, device=CPU)
    streams = tuple(_steps(spec.dim) for spec in loaded_config.streams)
    assert loaded_config == CONFIGS["late"]
    torch.testing.assert_close(loaded_model(streams), model(streams), rtol=0, atol=0)
