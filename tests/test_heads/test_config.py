"""The settings of a run: every one has a range and a help text, and the record comes back from config.json."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from features.errors import OptionError
from heads.config import (
    GROUPS,
    Augmentation,
    InputSettings,
    Objective,
    Optimisation,
    TrainConfig,
    config_from_json,
    kind_of,
    make_config,
    parse_seeds,
)

SETTINGS = [(record, setting) for record in GROUPS.values() for setting in dataclasses.fields(record)]
NUMBERS = [(record, setting) for record, setting in SETTINGS if kind_of(setting) in (int, float)]
OTHER_SETTINGS = {
    "context": 1.5,
    "neighbours": 2,
    "view": ("centre", "flip"),
    "fusion": "late",
    "mixup": 0.2,
    "noun_loss": "focal:gamma=2",
    "action_head": True,
    "lr_scale": ("classifier=0.1",),
    "precision": "float32",
    "separate": True,
    "split": "fold:1/5",
    "seed": 7,
}


def ids(pairs: list) -> list[str]:
    return [setting.name for _, setting in pairs]


def test_every_setting_has_a_name_of_its_own():
    names = [*ids(SETTINGS), *(field.name for field in dataclasses.fields(TrainConfig))]
    assert len(set(names)) == len(names)


def test_every_setting_says_what_it_means():
    for _, setting in SETTINGS:
        sentence, _, _ = setting.metadata["help"].partition("  [default: ")
        assert sentence.endswith("."), setting.name


def test_the_ends_of_a_range_belong_to_it():
    for record, setting in NUMBERS:
        needed = {"verb_weight": {"noun_weight": 2.0}, "action_head_weight": {"action_head": True}}
        extra_settings = needed.get(setting.name, {})
        for end in ("least", "most"):
            value = kind_of(setting)(setting.metadata[end])
            assert getattr(record(**{setting.name: value}, **extra_settings), setting.name) == value


@given(st.floats())
@example(-1.0)
@example(-math.inf)
@example(math.inf)
@example(math.nan)
def test_a_number_outside_its_range_is_refused_by_its_option(value):
    for record, setting in NUMBERS:
        if setting.metadata["least"] <= value <= setting.metadata["most"]:
            continue
        problem = "is below" if value < setting.metadata["least"] else "is not at most"
        option = setting.name.replace("_", "-")
        with pytest.raises(OptionError, match=rf"^--{option}: {re.escape(str(value))} {problem} "):
            record(**{setting.name: value})


@pytest.mark.parametrize(
    ("record", "settings", "message"),
    [
        (InputSettings, {"fusion": "middle"}, "--fusion: 'middle' is neither early nor late"),
        (Optimisation, {"precision": "float16"}, "--precision: 'float16' is none of auto, float32, bfloat16"),
        (Objective, {"verb_weight": 0, "noun_weight": 0}, "--verb-weight, --noun-weight and --action-weight are all 0"),
        (Objective, {"action_head": True, "actions": "all"}, "--actions: 'all' is neither train nor train.val"),
        (Objective, {"actions": "train+val"}, "--actions: is about the classifier of --action-head"),
        (Objective, {"action_head_weight": 2.0}, "--action-head-weight: is about the classifier of --action-head"),
        (Optimisation, {"lr_scale": ("classifier",)}, "--lr-scale: 'classifier' is not NAME=FACTOR"),
        (Optimisation, {"lr_scale": ("classifier=",)}, "--lr-scale: 'classifier=' is not NAME=FACTOR"),
        (Optimisation, {"lr_scale": ("=0.1",)}, "--lr-scale: '=0.1' is not NAME=FACTOR"),
        (Optimisation, {"lr_scale": ("lstm=-1",)}, "--lr-scale: the factor of 'lstm=-1' is negative or too large"),
        (Optimisation, {"lr_scale": ("lstm=nan",)}, "--lr-scale: the factor of 'lstm=nan' is negative or too large"),
        (Optimisation, {"lr_scale": ("lstm=1", "lstm=2")}, "--lr-scale: 'lstm' is given twice"),
        (TrainConfig, {"head": "mean_pool", "seed": -1}, "--seed: -1 is below 0"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(record, settings, message):
    with pytest.raises(OptionError, match=message):
        record(**settings)


def test_factors_on_the_learning_rate_are_by_name():
    assert Optimisation(lr_scale=("classifier=0.1", "lstm=2")).lr_factors == {"classifier": 0.1, "lstm": 2.0}


@pytest.mark.parametrize(("settings", "expected"), [({}, False), ({"context": 0.5}, True), ({"neighbours": 1}, True)])
def test_context_is_seconds_or_neighbours(settings, expected):
    assert InputSettings(**settings).has_context == expected


# ---- the whole record


def test_settings_go_into_the_groups_where_they_stand():
    config = make_config("bilstm", {"hidden": 8}, OTHER_SETTINGS)
    assert config.inputs == InputSettings(context=1.5, neighbours=2, view=("centre", "flip"), fusion="late")
    assert config.augmentation == Augmentation(mixup=0.2)
    assert config.objective == Objective(noun_loss="focal:gamma=2", action_head=True)
    assert config.optimisation == Optimisation(lr_scale=("classifier=0.1",), precision="float32")
    assert (config.head, config.head_options) == ("bilstm", {"hidden": 8})
    assert (config.separate, config.split, config.seed) == (True, "fold:1/5", 7)


def test_settings_that_are_not_given_are_the_defaults():
    assert make_config("mean_pool", {}, {}) == TrainConfig("mean_pool")


def test_every_setting_stands_in_json_under_its_own_name():
    assert set(TrainConfig("mean_pool").as_json()) == {
        *("head", "head_options", "separate", "split", "seed"),
        *ids(SETTINGS),
    }


@pytest.mark.parametrize("settings", [{}, OTHER_SETTINGS], ids=["defaults", "others"])
def test_a_config_comes_back_from_json(settings):
    config = make_config("bilstm", {"hidden": 8}, settings)
    record = json.loads(json.dumps({**config.as_json(), "labels_digest": "0" * 12}))
    assert config_from_json(record) == config


def test_a_setting_that_is_unknown_is_refused_with_the_nearest_name():
    with pytest.raises(OptionError, match=r"^--bach-size: no setting 'bach_size'; did you mean 'batch_size'\?"):
        make_config("mean_pool", {}, {"bach_size": 8})


def test_a_config_json_with_an_old_name_is_read():
    record = TrainConfig("mean_pool").as_json()
    del record["clip_grad"]
    assert config_from_json({**record, "clip": 2.0}).optimisation == Optimisation(clip_grad=2.0)


def test_each_group_has_a_title():
    assert [record.title for record in GROUPS.values()] == ["Input", "Augmentation", "Loss", "Optimisation"]


# ---- seeds


@pytest.mark.parametrize(
    ("text", "expected"), [("0", [0]), ("0-3", [0, 1, 2, 3]), ("5,0-1", [5, 0, 1]), (" 1 , 2", [1, 2])]
)
def test_seeds_are_a_list_of_numbers_and_ranges(text, expected):
    assert parse_seeds(text) == expected


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1,,2", "1-2-3", "2-1", "1,1", "0-3,2", str(2**32)])
def test_what_is_no_list_of_seeds_is_refused(text):
    with pytest.raises(OptionError, match=r"^--seeds: "):
        parse_seeds(text)
