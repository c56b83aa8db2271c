"""Stage 2 from Python: plain values in, frozen records out, and what it refuses."""

from __future__ import annotations

import pytest
from feature_files import finished, python

import heads
from features.errors import OptionError

QUICK = {"epochs": 2, "device": "cpu", "batch_size": 8}

WHOLE_PATH = """
import os, sys
from pathlib import Path

import heads

annotations, features, folder = sys.argv[1:]
os.chdir(folder)
outcomes = heads.train(
    head="bilstm:hidden=8", features=features, annotations=annotations, seeds=[0, 1], device="cpu", epochs=2, lr=1e-2
)
print(*[outcome.folder for outcome in outcomes])
print(*[row.name for row in heads.evaluate()])
best = heads.ensemble(weights=[2, 1])
print(best.folder, best.splits, best.weights["noun"].round(2).tolist())
print({row.figure for row in heads.compare("runs/bilstm-seed0", best.folder)} >= {"action@1"})
submission = heads.submit()
print(submission.run, submission.num_segments, [path.name for path in submission.paths])
print(heads.check_submission(submission.paths[0], annotations=Path(annotations) / "EPIC_100_test_timestamps.csv"))
"""


def test_a_plain_process_trains_scores_averages_and_submits(synthetic, tmp_path):
    code, out, err = finished(python(WHOLE_PATH, synthetic.annotations, synthetic.features, tmp_path))
    assert code == 0, err
    assert out.splitlines() == [
        "runs/bilstm-seed0 runs/bilstm-seed1",
        "bilstm most frequent chance",
        "runs/ensemble ('validation', 'test') [0.67, 0.33]",
        "True",
        "runs/ensemble 10 ['submission.pt', 'ensemble_submission.zip', 'epic_submission.zip']",
        "runs/ensemble/submission/submission.pt: a list of scores for 10 segments, those of "
        "EPIC_100_test_timestamps.csv: sound.",
    ]


def test_importing_loads_no_torch_and_names_come_when_they_are_used():
    code, out, err = finished(python("import heads, sys; print('torch' in sys.modules, 'train' in dir(heads))"))
    assert (code, out.split()) == (0, ["False", "True"]), err


def test_every_public_name_is_there_documented_with_an_example_and_no_module_has_it():
    for name in heads.__all__:
        function = getattr(heads, name)
        assert f"heads.{name}(" in function.__doc__, name
        assert function.__module__.startswith("heads.api."), name


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'heads' has no attribute 'trian'"):
        _ = heads.trian


@pytest.fixture
def train(synthetic, tmp_path):
    def run(**settings: object):
        paths = {"features": synthetic.featureset, "annotations": synthetic.annotations, "runs": tmp_path / "runs"}
        return heads.train(**{"head": "mean_pool", **paths, **QUICK, **settings})

    return run


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 1}, "no setting 'learning_rate'"),
        ({"batchsize": 8}, "no setting 'batchsize'; did you mean 'batch_size'?"),
        ({"lr": "fast"}, "--lr: 'fast' is not a number."),
        ({"weight_decay": None}, "--weight-decay: None is not a number."),
        ({"epochs": 1.5}, "--epochs: 1.5 is not a whole number."),
        ({"epochs": float("nan")}, "--epochs: nan is not a whole number."),
        ({"epochs": float("inf")}, "--epochs: inf is not a whole number."),
        ({"context": [1]}, "--context: [1] is not a number."),
        ({"action_head": 1}, "--action-head: 1 is not True or False."),
        ({"head": "mean_pol"}, "no head 'mean_pol'; did you mean 'mean_pool'?"),
        ({"head_options": {"hiden": 8}, "head": "bilstm"}, "no option of bilstm 'hiden'; did you mean 'hidden'?"),
        ({"memory": -1}, "--memory: -1 is no number of gigabytes."),
        ({"seeds": [1, 1]}, "--seeds: '1,1' names no seed, or one twice."),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(settings, message, train, tmp_path):
    with pytest.raises(OptionError) as error:
        train(**settings)
    assert message in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_one_seed_is_a_plain_number(train):
    (outcome,) = train(seeds=3)
    assert outcome.folder.name == "mean_pool-seed3"


def test_a_single_value_in_a_grid_is_not_taken_for_its_letters(synthetic):
    with pytest.raises(OptionError, match="--grid: loss is 'ce', not a list of values"):
        heads.plan_grid(grid={"loss": "ce"}, annotations=synthetic.annotations)


def test_options_of_a_head_stand_in_its_text_or_apart(train):
    for settings in ({"head": "bilstm:hidden=8"}, {"head": "bilstm", "head_options": {"hidden": 8}}):
        (outcome,) = train(**settings)
        assert outcome.folder.name == "bilstm-seed0"
    assert outcome.was_there  # so it was the same run


def test_a_single_view_is_a_list_of_one(train):
    (outcome,) = train(view="centre", lr=1)
    assert outcome.metrics["epoch"] == outcome.best_epoch


def test_callbacks_see_the_plan_each_epoch_and_each_outcome(train):
    events: list[str] = []
    outcomes = train(
        seeds="0-1",
        on_start=lambda config, data, plan: events.append(f"start {config.seed} {len(data.train)} {plan[0][0]}"),
        on_epoch=lambda row: events.append(f"epoch {row['epoch']}"),
        on_end=lambda outcome: events.append(outcome.folder.name),
    )
    epochs = ["epoch 1", "epoch 2"]
    assert events == ["start 0 24 head", *epochs, "mean_pool-seed0", *epochs, "mean_pool-seed1"]
    assert [outcome.folder.name for outcome in outcomes] == ["mean_pool-seed0", "mean_pool-seed1"]


def test_a_grid_is_planned_and_trained_with_plain_values(synthetic, tmp_path):
    settings = {
        "head": "mean_pool",
        "annotations": synthetic.annotations,
        "runs": tmp_path,
        "epochs": 2,
        "batch_size": 8,
    }
    grid = {"lr": [1e-3, 1e-2], "separate": [True]}
    plan = heads.plan_grid(grid=grid, seeds=[0], **settings)
    names = {"lr-0.001_separate-true", "lr-0.01_separate-true"}
    assert {variant.name for variant in plan.variants} == names
    assert not any(tmp_path.iterdir())
    results = heads.train_grid(plan, features=synthetic.featureset, device="cpu")
    assert {result.name for result in results} == names
    assert "action@1" in heads.make_report([plan.folder], form="md")


def test_splits_can_be_predicted_and_a_list_needs_a_file(train, synthetic, tmp_path):
    (outcome,) = train()
    (path,) = heads.predict_run(outcome.folder, splits=["train"], device="cpu")
    assert path == outcome.folder / "train_predictions.pt"
    with pytest.raises(OptionError, match="--annotations and --out go together"):
        heads.predict_run(outcome.folder, annotations=synthetic.csv("test"))
