"""Everything that training and prediction can do runs on the kernels that MPS and CUDA have, as on the CPU.

On devices that only pretend (tests/support/pretended_device.py): what is proven is that every operator has a kernel
there, that no tensor is on the wrong device, and how often the host waits; not the values of those kernels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from kernels import TORCH
from pretended_device import Costs, PretendedDevice
from run_files import metrics_of
from small_heads import small_options
from synthetic import Synthetic, drawn_predictions, write_features, write_synthetic, write_synthetic_dense

from features.annotations import find_splits
from features.errors import OptionError
from features.predictions import write_predictions
from heads.config import Objective, make_config, setting_names
from heads.data.load import TrainData, load_train_data
from heads.losses import catalogue as losses
from heads.losses.objective import TrainingLoss
from heads.models import catalogue as heads
from heads.predict.predicting import predict_logits
from heads.predict.run import predict_run
from heads.registry import options_of
from heads.sweep.together import STACKABLE, fit_together
from heads.training.fit import fit, train_step
from heads.training.state import TrainingRun, start_run

CPU = torch.device("cpu")
KINDS = ("mps", "cuda")
QUICK = {"epochs": 2, "batch_size": 24}
TRAINED = [name for name in heads.names() if not heads.is_fitted(name)]
LSTMS = {"bilstm": 1, "multiscale_lstm": 3}
every_head = pytest.mark.parametrize("head", heads.names())


@dataclass(frozen=True)
class OnDevice:
    """A device that pretends, and data whose features are in its memory, by name: segment, windows, early and late."""

    device: PretendedDevice
    data: dict[str, TrainData]

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device.kind)


# Data by name -> its feature sets, and the settings of the input that decide how it is read.
DATA = {
    "segment": (("featureset",), {}),
    "windows": (("dense",), {"context": 0.5, "max_steps": 6}),
    "early": (("views", "dense"), {"fusion": "early", "project": 6}),
    "late": (("views", "featureset"), {"neighbours": 1, "view": ("centre", "flip"), "fusion": "late"}),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Synthetic:
    """The synthetic dataset with a dense set, and beside it a set with views and regions."""
    dataset = write_synthetic(tmp_path_factory.mktemp("devices"))
    write_synthetic_dense(dataset)
    rng = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        names = dataset.segments(split).narration_id
        steps = _steps(names, rng)
        regions = {name: rng.random((len(rows), 3)) < 0.4 for name, rows in steps.items()}
        record = {"views": ("centre", "flip"), "cells": ("left", "right", "held"), "regions": {"boxes": "drawn"}}
        write_features(_views(dataset), dataset.segments(split), steps, has_region=regions, **record)
    return dataset


def _views(dataset: Synthetic) -> Path:
    return dataset.features.with_name("features-views") / "views-seg5"


def _steps(names, rng) -> dict[str, np.ndarray]:
    return {name: rng.normal(size=(int(rng.integers(1, 6)), 2, 12)) for name in names}


def _load(dataset: Synthetic, name: str, device: torch.device) -> TrainData:
    sets, inputs = DATA[name]
    roots = [_views(dataset) if each == "views" else getattr(dataset, each) for each in sets]
    config = make_config("mean_pool", {}, inputs)
    return load_train_data(roots, find_splits(dataset.annotations), config, allow_missing=False, device=device)


@pytest.fixture(scope="module")
def on_cpu(dataset) -> dict[str, TrainData]:
    return {name: _load(dataset, name, CPU) for name in DATA}


@pytest.fixture(scope="module", params=KINDS)
def on_device(request, dataset) -> Iterator[OnDevice]:
    device = PretendedDevice(request.param)
    with device:
        data = {name: _load(dataset, name, torch.device(request.param)) for name in DATA}
    return OnDevice(device, data)


@dataclass(frozen=True)
class Bundle:
    """Settings that go together, and which data they are tried on."""

    data: str
    settings: dict[str, object]


# Every setting has a value here that is not its default; those of the input are in DATA.
BUNDLES = {
    "windows": Bundle(
        "windows",
        {
            "mixup": 0.4,
            "cutmix": 0.5,
            "step_dropout": 0.2,
            "jitter": 0.2,
            "speed": 0.2,
            "noise": 0.1,
            "verb_loss": "focal:gamma=1",
            "noun_loss": "ldam:defer=0",
            "verb_weight": 0.5,
            "noun_weight": 2.0,
            "action_weight": 0.5,
            "action_head": True,
            "actions": "train+val",
            "action_head_loss": "focal:gamma=1",
            "action_head_weight": 0.5,
            "adjust": 0.5,
            "teacher": "teacher.pt",
            "teacher_weight": 0.3,
            "scores": "logits",
            "temperature": 3.0,
            "ema": 0.9,
            "clip_grad": 0.5,
            "lr": 2e-3,
            "lr_scale": ("classifier=0.1",),
            "weight_decay": 0.1,
            "warmup_epochs": 1,
            "bias": "zero",
            "keep_epochs": "1-2",
            "seed": 1,
        },
    ),
    "late": Bundle("late", {"draw_steps": 2, "stream_dropout": 0.3, "select": "loss", "patience": 1, "loss": "cb"}),
    "early": Bundle("early", {"precision": "bfloat16", "separate": True, "epochs": 2, "batch_size": 20}),
}
# What a head that reads windows has besides, and what it refuses.
WINDOWS = {"window": 3.0, "window_hop": 1.0}
_REFUSED = {"context", "neighbours", "fusion", "mixup", "cutmix", "draw_steps", "speed"}
# Read before there is a device.
_OF_LISTS = {"split"}
# What a regression has of them.
_FITTED = {"windows": {"adjust": 0.5, "bias": "zero"}}
# Options of heads that are not their defaults.
HEAD_OPTIONS = {
    "attention_heads": 2,
    "c": 1.0,
    "checkpointing": 1,
    "dropout": 0.1,
    "hidden": 8,
    "layers": 2,
    "steps": 2,
    "width": 8,
}
LOSS_OPTIONS = ("ce:smoothing=0.1", "inv_sqrt:smoothing=0.1", "cb:beta=0.9:smoothing=0.1", "focal:gamma=0.5:alpha=2")
LOSS_OPTIONS += ("sigmoid_focal:gamma=1:alpha=-1:prior=0.1", "logit_adjusted:tau=0.5")
LOSS_OPTIONS += ("ldam:max_margin=1:scale=2:defer=0:beta=0.9",)


def _settings(head: str, *groups: dict[str, object]) -> dict[str, object]:
    """The settings of groups that a head has."""
    settings = {**QUICK, **{name: value for group in groups for name, value in group.items()}}
    if heads.reads_windows(head):
        return {**WINDOWS, **{name: value for name, value in settings.items() if name not in _REFUSED}}
    return settings


def _started(on_device: OnDevice, folder: Path, head: str, data: str = "segment", **settings: object) -> TrainingRun:
    config = make_config(head, {}, _settings(head, DATA[data][1], settings))
    return start_run(config, on_device.data[data], folder, device=torch.device(on_device.device.kind))


# ---- the list is complete


def test_every_setting_is_tried():
    tried = {name for bundle in BUNDLES.values() for name in bundle.settings}
    tried |= {name for _, inputs in DATA.values() for name in inputs} | WINDOWS.keys()
    assert tried | _OF_LISTS == set(setting_names())


def test_every_option_of_heads_and_losses_is_tried():
    of_heads = {field.name for name in heads.names() for field in dataclasses.fields(heads.get(name).config)}
    assert set(HEAD_OPTIONS) == of_heads
    for spec in map(losses.parse_loss, (*losses.names(), *LOSS_OPTIONS)):
        defaults = options_of(losses.get(spec.name).config())
        with_other_values = [each for each in LOSS_OPTIONS if each.partition(":")[0] == spec.name]
        assert bool(defaults) == bool(with_other_values)
        for each in with_other_values:
            options = losses.parse_loss(each).options
            assert all(options[name] != default for name, default in defaults.items()), each


# ---- training


@every_head
def test_every_loss_trains_every_head_at_its_defaults(head, on_device, tmp_path):
    if heads.is_fitted(head):
        with on_device.device:
            fit(
                make_config(head, {}, QUICK), on_device.data["segment"], tmp_path / "run", device=on_device.torch_device
            )
        return
    with on_device.device:
        run = _started(on_device, tmp_path / "run", head)
        run.model.train()
        batch = next(run.batches())
        for loss in losses.names():
            run.loss = TrainingLoss(Objective(loss=loss), run.data.train.segments, None).to(run.device)
            assert torch.isfinite(train_step(run, batch).loss), loss


@every_head
def test_every_option_of_a_head_trains(head, on_device, tmp_path):
    names = {field.name for field in dataclasses.fields(heads.get(head).config)}
    options = {name: value for name, value in HEAD_OPTIONS.items() if name in names}
    config = make_config(head, options, {"epochs": 1, "batch_size": 24})
    data, device = on_device.data["segment"], on_device.torch_device
    with on_device.device:
        if heads.is_fitted(head):
            fit(config, data, tmp_path / "run", device=device)
            return
        run = start_run(config, data, tmp_path / "run", device=device)
        run.model.train()
        assert torch.isfinite(train_step(run, next(run.batches())).loss)


def test_every_option_of_a_loss_trains(on_device, tmp_path):
    with on_device.device:
        run = _started(on_device, tmp_path / "run", "mean_pool")
        batch = next(run.batches())
        for loss in LOSS_OPTIONS:
            run.loss = TrainingLoss(Objective(loss=loss), run.data.train.segments, None).to(run.device)
            assert torch.isfinite(train_step(run, batch).loss), loss


@pytest.mark.parametrize("name", BUNDLES)
@every_head
def test_every_setting_trains_every_head(head, name, on_device, on_cpu, dataset, tmp_path, monkeypatch):
    """A run is begun on one device and goes on on the other, and then predicts with test-time augmentation."""
    monkeypatch.chdir(tmp_path)
    bundle = BUNDLES[name]
    settings = _FITTED.get(name) if heads.is_fitted(head) else bundle.settings
    if settings is None:
        return
    if on_device.device.kind == "mps" and TORCH < (2, 5):
        settings = {key: value for key, value in settings.items() if key != "precision"}
    write_predictions(Path("teacher.pt"), drawn_predictions(dataset.segments("train")))
    options = small_options(head, dropout=0.2)
    config = make_config(head, options, _settings(head, DATA[bundle.data][1], settings))
    places = [(on_cpu, CPU), (on_device.data, on_device.torch_device)]
    if name == "early":  # what is left to try needs neither
        with on_device.device:
            fit(config, on_device.data["early"], tmp_path / "run", device=on_device.torch_device, until=1)
        return
    for until, (data, device) in enumerate(places if name == "windows" else places[::-1], start=1):
        with on_device.device:
            fit(config, data[bundle.data], tmp_path / "run", device=device, until=until)
    assert all(np.isfinite(row["train_loss"]) for row in metrics_of(tmp_path / "run"))
    with on_device.device:
        (path,) = predict_run(tmp_path / "run", ["validation"], tta=True, device=on_device.torch_device)
    assert path.is_file()


@pytest.mark.parametrize("head", STACKABLE)
def test_several_runs_train_in_one_pass(head, on_device, tmp_path):
    variants = [{"seed": 0, "mixup": 0.4}, {"seed": 1, "loss": "cb", "ema": 0.9}]
    configs = [
        make_config(head, small_options(head), {"epochs": 1, "batch_size": 24, **variant}) for variant in variants
    ]
    runs = [(config, tmp_path / f"{config.seed}") for config in configs]
    with on_device.device:
        outcomes = fit_together(runs, on_device.data["segment"], device=on_device.torch_device)
    assert all(np.isfinite(outcome.metrics["train_loss"]) for outcome in outcomes)


def test_a_precision_that_a_device_does_not_have_is_refused(on_device, tmp_path):
    if on_device.device.kind != "mps" or TORCH >= (2, 5):
        pytest.skip("this torch has bfloat16 there")
    with on_device.device, pytest.raises(OptionError, match="in float32 only"):
        _started(on_device, tmp_path / "run", "mean_pool", precision="bfloat16")


# ---- values, and what a step costs


@every_head
def test_logits_are_those_of_the_cpu(head, on_device, on_cpu, tmp_path):
    config = make_config(head, small_options(head), _settings(head, DATA["windows"][1]))
    model = start_run(config, on_cpu["windows"], tmp_path / "run", device=CPU).model
    expected = predict_logits(model, on_cpu["windows"].validation, device=CPU)
    with on_device.device:
        model = model.to(on_device.torch_device)
        logits = predict_logits(model, on_device.data["windows"].validation, device=on_device.torch_device)
    for task, values in expected.items():
        np.testing.assert_allclose(logits[task], values, rtol=0, atol=1e-5)


def _costs(run: TrainingRun, device: PretendedDevice) -> Costs:
    """The costs of the second step of an epoch; the first one has those of many batches' rows."""
    run.model.train()
    batches = run.batches()
    train_step(run, next(batches))
    device.costs = Costs()
    train_step(run, next(batches))
    return device.costs


@pytest.mark.parametrize("head", TRAINED)
def test_a_step_waits_for_the_device_only_where_cudnn_asks_for_lengths(head, on_device, tmp_path):
    settings = {"mixup": 0.0, "ema": 0.9, "clip_grad": 1.0, "action_head": True, "batch_size": 8}
    with on_device.device as device:
        costs = _costs(_started(on_device, tmp_path / "run", head, **settings), device)
    num_lstms = LSTMS.get(head, 0) if device.kind == "cuda" else 0
    assert len(costs.waits) == num_lstms, costs.waits
    # A layer of a head that reads windows has an attention of the steps and one of the queries.
    assert costs.kernels < (1800 if heads.reads_windows(head) else 1200)


@pytest.mark.parametrize("head", ["attentive", "mean_pool"])
def test_regions_make_no_step_wait(head, on_device, tmp_path):
    with on_device.device as device:
        costs = _costs(_started(on_device, tmp_path / "run", head, "late", mixup=0.0, batch_size=8), device)
    assert costs.waits == []


def test_features_of_many_bytes_stay_on_the_cpu_beside_mps(on_device, on_cpu, dataset, tmp_path, monkeypatch):
    if on_device.device.kind != "mps":
        pytest.skip("CUDA copies tensors of any size")
    monkeypatch.setattr("heads.data.chunks._MOST_ON_MPS", 100)
    with on_device.device as device:
        data = _load(dataset, "segment", on_device.torch_device)
        ((chunk, _),) = data.train.chunks()
        assert not device.holds(chunk.streams[0].features)
        fit(make_config("mean_pool", {}, QUICK), data, tmp_path / "run", device=on_device.torch_device)
    fit(make_config("mean_pool", {}, QUICK), on_cpu["segment"], tmp_path / "on_cpu", device=CPU)
    losses_of = [[row["train_loss"] for row in metrics_of(tmp_path / name)] for name in ("run", "on_cpu")]
    np.testing.assert_allclose(*losses_of, rtol=1e-5)


def test_mixing_segments_is_one_copy(on_device, tmp_path):
    settings = {"mixup": 0.4, "cutmix": 0.4, "noise": 0.1, "batch_size": 8}
    with on_device.device as device:
        costs = _costs(_started(on_device, tmp_path / "run", "mean_pool", **settings), device)
    assert len(costs.waits if device.kind == "mps" else costs.copies) == 1
    assert len(costs.waits + costs.copies) == 1
