"""Runs that train together end as each would alone: seeds, losses, learning rates, averages, dropout and all."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_files import metrics_of
from small_heads import small_options
from synthetic import drawn_predictions, write_synthetic, write_synthetic_dense

from features.annotations import find_splits
from features.errors import DataError, OptionError
from features.predictions import write_predictions
from heads.config import Schedule, TrainConfig, make_config
from heads.data.chunks import Split
from heads.data.load import TrainData, load_train_data
from heads.models.catalogue import names
from heads.sweep.grid import make_variants
from heads.sweep.run import plan_sweep, run_sweep
from heads.sweep.together import STACKABLE, can_train_together, fit_together, shape_of
from heads.training.fit import fit

CPU = torch.device("cpu")
every_head = pytest.mark.parametrize("head", STACKABLE)
# What runs may differ in, all of it at once.
VARIANTS = (
    {"seed": 0},
    {"seed": 1, "loss": "focal:gamma=1", "lr": 3e-3},
    {"seed": 2, "loss": "cb", "weight_decay": 0.1, "ema": 0.9},
    {"seed": 0, "loss": "ce:smoothing=0.1", "mixup": 0.4, "clip_grad": 1.0, "warmup_epochs": 2},
    {"seed": 3, "loss": "ce:smoothing=0.1", "mixup": 0.4, "cutmix": 0.5, "noise": 0.1, "step_dropout": 0.3},
    {"seed": 4, "lr_scale": ("classifier=0.3",), "adjust": 0.5, "patience": 1},
)


def configs(head: str, variants=VARIANTS, *, dropout: float = 0.4, **settings: object) -> list[TrainConfig]:
    common = {"epochs": 3, "batch_size": 8, "lr": 1e-3, "warmup_epochs": 1, **settings}
    options = small_options(head, dropout=dropout)
    return [make_config(head, options, {**common, **variant}) for variant in variants]


def train_both(runs: list[TrainConfig], data: TrainData, folder: Path) -> list[tuple[Path, Path]]:
    """Train each alone and all together; give the folders of each."""
    pairs = [(folder / f"alone{index}", folder / f"together{index}") for index in range(len(runs))]
    for config, (single_run, _) in zip(runs, pairs, strict=True):
        fit(config, data, single_run, device=CPU)
    stacked_runs = [(config, pair[1]) for config, pair in zip(runs, pairs, strict=True)]
    outcomes = fit_together(stacked_runs, data, device=CPU)
    assert [outcome.folder for outcome in outcomes] == [pair[1] for pair in pairs]
    return pairs


def assert_same_run(single_run: Path, stacked_run: Path) -> None:
    ours, theirs = metrics_of(stacked_run), metrics_of(single_run)
    assert len(ours) == len(theirs)
    for actual, expected in zip(ours, theirs, strict=True):
        assert actual == pytest.approx(expected, rel=1e-4, abs=1e-4)
    for file in ("best_model.pth", "last.pth"):
        ours, theirs = (torch.load(run / file, weights_only=True) for run in (stacked_run, single_run))
        torch.testing.assert_close(ours["model"], theirs["model"], rtol=0, atol=1e-4)
    assert torch.equal(ours["rng_cpu"], theirs["rng_cpu"])
    assert {path.name for path in stacked_run.iterdir()} == {path.name for path in single_run.iterdir()}


@every_head
def test_runs_together_end_as_each_alone(head, train_data, tmp_path):
    for single_run, stacked_run in train_both(configs(head), train_data, tmp_path):
        assert_same_run(single_run, stacked_run)


def test_action_classifiers_are_trained_together_too(train_data, tmp_path):
    variants = ({"seed": 0}, {"seed": 1, "loss": "cb"}, {"seed": 2, "action_head_weight": 0.5, "mixup": 0.4})
    runs = configs("attentive", variants, action_head=True)
    for single_run, stacked_run in train_both(runs, train_data, tmp_path):
        assert_same_run(single_run, stacked_run)
    assert shape_of(runs[0]) != shape_of(configs("attentive")[0])


@pytest.fixture(scope="module")
def two_sets(tmp_path_factory) -> TrainData:
    """Segments of a set by segment and a dense one of regions, with their context: batches of many widths."""
    dataset = write_synthetic(tmp_path_factory.mktemp("two"))
    write_synthetic_dense(dataset, regions=("hands", "held"))
    config = make_config("mean_pool", {}, {"context": 0.6, "fusion": "late"})
    roots = [dataset.featureset, dataset.dense]
    return load_train_data(roots, find_splits(dataset.annotations), config, allow_missing=False, device=CPU)


@every_head
def test_of_several_sets_with_context_as_well(head, two_sets, tmp_path):
    inputs = {"context": 0.6, "fusion": "late", "separate": True, "project": 6}
    motion = {"jitter": 0.3, "speed": 0.3}
    variants = [{"seed": 0, **motion}, {"seed": 1, **motion}, {"seed": 2, "step_dropout": 0.6}]
    runs = configs(head, variants, batch_size=5, **inputs)
    for single_run, stacked_run in train_both(runs, two_sets, tmp_path):
        assert_same_run(single_run, stacked_run)


def test_a_task_that_is_not_trained_keeps_its_weights(train_data, tmp_path):
    runs = configs("mlp", [{"seed": 0}, {"seed": 1}], noun_weight=0.0, weight_decay=0.5)
    for single_run, stacked_run in train_both(runs, train_data, tmp_path):
        assert_same_run(single_run, stacked_run)


def test_a_teacher_is_listened_to(train_data, tmp_path):
    write_predictions(tmp_path / "drawn.pt", drawn_predictions(train_data.train.segments))
    runs = configs("mlp", [{"seed": 0}, {"seed": 1, "teacher": str(tmp_path / "drawn.pt")}])
    fit(runs[1], train_data, tmp_path / "alone", device=CPU)
    stacked_runs = [(config, tmp_path / str(index)) for index, config in enumerate(runs)]
    fit_together(stacked_runs, train_data, device=CPU)
    assert_same_run(tmp_path / "alone", tmp_path / "1")


def test_without_validation_the_last_epoch_counts(train_data, tmp_path):
    data = replace(train_data, validation=None)
    for single_run, stacked_run in train_both(configs("mlp", [{"seed": 0}, {"seed": 1}]), data, tmp_path):
        assert_same_run(single_run, stacked_run)


# ---- features that are read from disk


def test_probes_of_one_seed_read_features_on_disk_once_and_end_bit_for_bit_as_each_alone(
    larger_synthetic, tmp_path, monkeypatch
):
    grid = {"lr": ["1e-2", "1e-3", "1e-4"], "weight_decay": ["1e-1"]}
    settings = {"head": "probe:width=16:attention_heads=2:layers=1", "epochs": 2, "batch_size": 8, "warmup_epochs": 0}
    variants = make_variants(grid, {**settings, "loss": "sigmoid_focal"}, [0, 1])
    files = find_splits(larger_synthetic.annotations)
    roots = [larger_synthetic.featureset]

    def load(config: TrainConfig) -> TrainData:
        return load_train_data(roots, files, config, allow_missing=False, device=CPU, memory_bytes=1_500)

    data = load(variants[0].config)
    assert not data.train.is_resident
    num_passes = []
    read_chunks = Split._streamed
    monkeypatch.setattr(
        Split,
        "_streamed",
        lambda split, generator: num_passes.append(generator is not None) or read_chunks(split, generator),
    )
    passes: dict[str, int] = {}
    for name, together in (("alone", 1), ("together", 2)):
        num_passes.clear()
        results = run_sweep(plan_sweep(variants, files, tmp_path / name), load, device=CPU, together=together)
        assert all(len(result.scores) == 2 for result in results)
        passes[name] = sum(num_passes)  # over training features, which are drawn
    # 2 epochs of 6 runs; of each seed, 2 in one pass and 1 in another.
    assert passes == {"alone": 12, "together": 8}
    for single_run in (tmp_path / "alone").glob("*-seed*"):
        joint_run = tmp_path / "together" / single_run.name
        assert metrics_of(joint_run) == metrics_of(single_run)
        for file in ("best_model.pth", "last.pth"):
            ours, theirs = (torch.load(run / file, weights_only=True) for run in (joint_run, single_run))
            torch.testing.assert_close(ours["model"], theirs["model"], rtol=0, atol=0)


def test_learning_rate_without_warm_up_is_full_from_the_first_step_and_falls_as_a_cosine():
    schedule = Schedule(epochs=20, warmup_epochs=0, lr=1.0)
    assert [round(schedule.lr_at(share), 3) for share in (0, 0.25, 0.5, 1)] == [1.0, 0.854, 0.5, 0.0]


# ---- runs that are cut off, over, or fail


@pytest.mark.parametrize("head", ["mlp", "tcn"])
def test_runs_go_on_from_wherever_each_was(head, train_data, tmp_path):
    runs = [(config, tmp_path / str(index)) for index, config in enumerate(configs(head))]
    for index, (config, folder) in enumerate(runs[1:4], start=1):
        fit(config, train_data, folder, device=CPU, until=index)  # 1 to 3 of 3 epochs
    fit_together(runs[1:], train_data, device=CPU, until=2)
    outcomes = fit_together(runs, train_data, device=CPU)
    assert [outcome.was_there for outcome in outcomes][3] is True
    for index, (config, folder) in enumerate(runs):
        fit(config, train_data, tmp_path / f"alone{index}", device=CPU)
        assert_same_run(tmp_path / f"alone{index}", folder)


def test_until_leaves_runs_unfinished(train_data, tmp_path):
    runs = [(config, tmp_path / str(index)) for index, config in enumerate(configs("mean_pool"))]
    outcomes = fit_together(runs, train_data, device=CPU, until=1)
    assert all(len(metrics_of(folder)) == 1 and not (folder / "val_predictions.pt").exists() for _, folder in runs)
    assert [outcome.best_epoch for outcome in outcomes] == [1] * 6


def test_one_that_fails_does_not_touch_the_others(train_data, tmp_path):
    """A learning rate that blows up, a parameter that is not there, a folder that is another run's."""
    variants = [{"seed": 0}, {"seed": 1, "lr": 1e20}, {"seed": 2, "lr_scale": ("nothing=1",)}, {"seed": 3}, {"seed": 4}]
    runs = [(config, tmp_path / str(index)) for index, config in enumerate(configs("mlp", variants))]
    fit(replace(runs[3][0], seed=7), train_data, runs[3][1], device=CPU)
    outcomes = fit_together(runs, train_data, device=CPU)
    messages = [
        "",
        "the loss is |logits are no longer finite",
        "--lr-scale: no parameter's name",
        "holds another run",
        "",
    ]
    for outcome, text in zip(outcomes, messages, strict=True):
        assert isinstance(outcome, DataError | OptionError) == bool(text)
        assert re.search(text, str(outcome))
    for index in (0, 4):
        fit(runs[index][0], train_data, tmp_path / f"alone{index}", device=CPU)
        assert_same_run(tmp_path / f"alone{index}", runs[index][1])


# ---- what can be stacked


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 4},
        {"batch_size": 9},
        {"noun_weight": 0.0},
        {"separate": True},
        {"context": 1.0},
        {"precision": "bfloat16"},
        {"split": "fold:1/2"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_the_shape_of_a_run(change):
    plain_config, changed_config = configs("mlp", [{}, change])
    assert shape_of(plain_config) != shape_of(changed_config)


def test_what_runs_may_differ_in():
    assert len({shape_of(config) for config in configs("mlp")}) == 1
    assert shape_of(configs("mlp")[0]) != shape_of(configs("mlp", dropout=0.1)[0])


def test_in_half_precision_losses_are_alike(train_data, tmp_path):
    runs = configs("transformer", [{"seed": 0}, {"seed": 1}], precision="bfloat16")
    for single_run, stacked_run in train_both(runs, train_data, tmp_path):
        actual, expected = ([row["train_loss"] for row in metrics_of(run)] for run in (stacked_run, single_run))
        assert actual == pytest.approx(expected, rel=0.02)


def test_runs_of_lstms_or_with_stream_dropout_are_not_stacked():
    unstackable_heads = {head for head in names() if not can_train_together(configs(head)[0])}
    assert unstackable_heads == {"bilstm", "context", "logistic", "multiscale_lstm", "probe"}
    assert not can_train_together(configs("mlp", stream_dropout=0.1)[0])
