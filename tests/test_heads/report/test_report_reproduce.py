"""The commands of a report: what they make is what was made."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import DataError, OptionError
from features.files import read_json, write_json
from heads.commands.train import _pairs, train
from heads.config import GROUPS, RENAMED, TrainConfig, kind_of, make_config, setting_names
from heads.models import catalogue as models
from heads.registry import options_of
from heads.report.reproduce import ensemble_command, recorded_config, train_command

# A text for each setting that takes one; numbers are drawn from their range.
TEXTS = {
    "view": st.lists(st.sampled_from(["centre", 'a view\'s "name" $HOME', "--flip"]), max_size=2),
    "fusion": st.sampled_from(["early", "late"]),
    "loss": st.sampled_from(["ce", "focal:gamma=1", "cb"]),
    "verb_loss": st.sampled_from([None, "ce:smoothing=0.1"]),
    "noun_loss": st.sampled_from([None, "cb"]),
    "actions": st.sampled_from(["train", "train+val"]),
    "action_head_loss": st.sampled_from([None, "cb"]),
    "teacher": st.sampled_from([None, "a folder/with spaces & more.pt", "-x"]),
    "scores": st.sampled_from([None, "logits", "probabilities"]),
    "lr_scale": st.sampled_from([[], ["classifier=0.1"], ["classifier=0.1", "lstm=1e-3"]]),
    "bias": st.sampled_from(["prior", "zero"]),
    "select": st.sampled_from([None, "action", "loss", "last"]),
    "keep_epochs": st.sampled_from([None, "1-2,5"]),
    "precision": st.sampled_from(["auto", "float32", "bfloat16"]),
}


def _values(setting: dataclasses.Field) -> st.SearchStrategy:
    if setting.name in TEXTS:
        return TEXTS[setting.name]
    least, most = setting.metadata["least"], setting.metadata["most"]
    if kind_of(setting) is bool:
        return st.booleans()
    if kind_of(setting) is int:
        return st.integers(int(least), min(int(most), 10**6))
    return st.floats(least, min(most, 1e6), allow_subnormal=False)


@st.composite
def configs(draw) -> TrainConfig:
    """Any run that `heads train` might have made."""
    head = draw(st.sampled_from(models.names()))
    options = options_of(models.get(head).config())
    if "hidden" in options:
        options["hidden"] = draw(st.integers(1, 4096))
    if "dropout" in options:
        options["dropout"] = draw(st.floats(0, 0.99))
    fields = [field for record in GROUPS.values() for field in dataclasses.fields(record)]
    chosen_fields = draw(st.lists(st.sampled_from(fields), unique_by=lambda field: field.name))
    values = {field.name: draw(_values(field)) for field in chosen_fields}
    if values.keys() & {"actions", "action_head_loss", "action_head_weight"}:
        values["action_head"] = True
    run_settings = {
        "seed": draw(st.integers(0, 2**32 - 1)),
        "separate": draw(st.booleans()),
        "split": draw(st.sampled_from(["official", "all", "fold:1/5"])),
    }
    try:
        return make_config(head, options, {**values, **run_settings})
    except OptionError:  # all weights 0, or patience with the last epoch
        return make_config(head, options, run_settings)


def _parse(line: str) -> TrainConfig:
    """The configuration that `heads train` makes of a command line, for its only seed."""
    words = shlex.split(line)
    assert words[:2] == ["heads", "train"]
    with train.make_context("train", words[2:]) as context:
        params = dict(context.params)
    settings = {name: value for name, value in params.items() if name in setting_names()}
    return make_config(
        params["head"],
        options_of(models.head_config(params["head"], _pairs(params["head_options"]))),
        {**settings, "seed": int(params["seeds"])},
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=configs())
def test_a_command_makes_the_configuration_it_was_made_of(tmp_path, config):
    run = tmp_path / f"any name-seed{config.seed}"
    write_json(run / "config.json", {**config.as_json(), "features": ["/a b/set"], "train_csv": "/x/train.csv"})
    assert recorded_config(run) == config
    assert _parse(train_command(run, [config.seed])) == config
    (run / "config.json").unlink()
    run.rmdir()


def test_a_command_names_nothing_that_is_at_its_default(tmp_path):
    write_json(
        tmp_path / "mlp-seed0" / "config.json",
        make_config("mlp", options_of(models.head_config("mlp", {})), {}).as_json(),
    )
    assert (
        train_command(tmp_path / "mlp-seed0", [0, 1])
        == f"heads train --head mlp --runs {tmp_path} --name mlp --seeds 0,1"
    )


@pytest.fixture
def trained_runs(heads, synthetic, tmp_path) -> Path:
    """A run with a little of everything in its command, and the page that tells how to repeat it."""
    paths = ("--annotations", synthetic.annotations, "--features", synthetic.featureset)
    options = ("--set", "hidden=4", "--epochs", 1, "--lr", 3e-4, "--lr-scale", "head=0.5", "--loss", "focal:gamma=1")
    result = heads(
        "train", "--head", "mlp", *paths, *options, "--seeds", "3,5", "--name", "it", "--separate", "--device", "cpu"
    )
    assert result.exit_code == 0, result.output
    return tmp_path / "runs"


def test_the_command_of_a_report_trains_the_same_runs_again(heads, trained_runs, tmp_path):
    markdown = heads("report", "--format", "md").stdout
    (line,) = re.findall(r"^    (heads train .*)$", markdown, flags=re.MULTILINE)
    words = shlex.split(line)
    words[words.index("--runs") + 1] = str(tmp_path / "again")
    result = heads(*words[1:], "--device", "cpu")
    assert result.exit_code == 0, result.output
    for seed in (3, 5):
        name = Path(f"it-seed{seed}")
        assert read_json(tmp_path / "again" / name / "config.json") == read_json(trained_runs / name / "config.json")
        actual, expected = (
            (folder / name / "metrics.csv").read_text() for folder in (tmp_path / "again", trained_runs)
        )
        assert actual == expected


def test_a_report_gives_the_digests_of_the_features(heads, trained_runs, synthetic):
    digest = read_json(synthetic.featureset / "featureset.json")["digest"]
    assert f"- features {digest}, {synthetic.featureset}" in heads("report", "--format", "md").stdout


def test_lists_of_other_names_are_named_one_by_one(tmp_path):
    config = make_config("mlp", options_of(models.head_config("mlp", {})), {})
    (tmp_path / "EPIC_100_train.csv").touch()
    origin = {"train_csv": str(tmp_path / "EPIC_100_train.csv"), "validation_csv": "/mine/v.csv", "train_missing": 3}
    write_json(tmp_path / "mlp-seed0" / "config.json", {**config.as_json(), **origin})
    line = train_command(tmp_path / "mlp-seed0", [0])
    assert f"--annotations {tmp_path} --validation /mine/v.csv --allow-missing" in line
    assert "--train " not in line


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--mean", "logits", "--weights", "2,1"),
        ("--greedy", "--per-task", "--temperature", "--adjust", "--pairs"),
        ("--weights", "fitted"),
    ],
)
def test_the_command_of_an_ensemble_makes_the_same_ensemble(heads, trained_runs, options):
    assert heads("ensemble", *options).exit_code == 0
    config = read_json(trained_runs / "ensemble" / "config.json")
    words = shlex.split(ensemble_command(trained_runs / "ensemble"))
    words[words.index("--name") + 1] = "again"
    result = heads(*words[1:])
    assert result.exit_code == 0, result.output
    assert read_json(trained_runs / "again" / "config.json") == config


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (None, "there is no config.json"),
        ({"lr": 1}, "names no head"),
        ({"head": "mlp", "lr": -1}, "not of this version (--lr"),
        ({"head": "mlp", "head_options": {"deep": 3}}, "not of this version (--set"),
        ({"head": "mlp", "head_options": 3}, "not of this version"),
        ({"head": ["mlp"]}, "not of this version"),
    ],
)
def test_a_record_that_does_not_tell_is_an_error_that_says_so(tmp_path, record, message):
    if record is not None:
        write_json(tmp_path / "config.json", record)
    with pytest.raises(DataError, match=re.escape(message)):
        train_command(tmp_path, [0])


def test_an_ensemble_that_does_not_tell_is_an_error_that_says_so(tmp_path):
    write_json(tmp_path / "config.json", {"members": ["a"]})
    with pytest.raises(DataError, match="does not say how the ensemble was made"):
        ensemble_command(tmp_path)


def test_every_option_of_train_that_is_a_setting_is_known_here():
    """Or a new kind of option would be missing from the commands without a word."""
    fields = {field.name for record in GROUPS.values() for field in dataclasses.fields(record)}
    option_names = (
        {option.name for option in train.params if isinstance(option, click.Option)} - fields - RENAMED.keys()
    )
    assert option_names == {
        *("head", "head_options", "features", "annotations", "train", "validation", "test", "split", "allow_missing"),
        *("memory", "separate", "runs", "name", "seeds", "device"),
    }
