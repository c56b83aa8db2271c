"""What depends on the numbers of segments: nothing that is given, and nothing on EPIC-KITCHENS-100."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import OptionError
from heads.config import SELECTIONS, make_config
from heads.models.catalogue import names, reads_windows
from heads.training.defaults import complete, default_epochs

EPIC, EPIC_VALIDATION = 67_217, 9_668
# As in version 0.1; `context` and `probe` came later. `probe` is as wide as the features.
FULL_SIZE = {
    "attentive": {"width": 512, "hidden": 1024},
    "bilstm": {"hidden": 1024},
    "context": {"width": 512, "hidden": 1024},
    "logistic": {},
    "mean_pool": {},
    "mlp": {"hidden": 1024},
    "multiscale_lstm": {"hidden": 512},
    "probe": {},
    "tcn": {"width": 512},
    "transformer": {"width": 512, "hidden": 1024},
}
trained_heads = pytest.mark.parametrize("head", [name for name in names() if name != "logistic"])


@trained_heads
@pytest.mark.parametrize("num_segments", [EPIC, 53_774])
def test_a_run_on_epic_kitchens_100_is_what_it_was_but_for_the_biases(head, num_segments):
    config = complete(make_config(head, {}, {}), num_segments, EPIC_VALIDATION)
    schedule = config.optimisation.schedule
    assert (schedule.epochs, schedule.warmup_epochs) == (30, 5)
    assert schedule.lr == (3e-3 if head == "mean_pool" else 1e-3)
    assert (config.augmentation.mixup, config.inputs.max_steps) == (0, 256)
    assert config.optimisation.select == "action"
    assert FULL_SIZE[head].items() <= config.head_options.items()


@trained_heads
@given(num_segments=st.integers(1, 200_000), num_validation=st.integers(0, 20_000), select=st.sampled_from(SELECTIONS))
def test_what_is_given_stays(head, num_segments, num_validation, select):
    settings = {"epochs": 30, "warmup_epochs": 2, "lr": 5e-4, "max_steps": 7, "select": select}
    settings |= {"window": 7.5, "window_hop": 1.5} if reads_windows(head) else {"mixup": 0.1}
    size = dict.fromkeys(FULL_SIZE[head], 48)
    config = complete(make_config(head, size, settings), num_segments, num_validation)
    assert settings.items() <= config.as_json().items()
    assert size.items() <= config.head_options.items()
    assert complete(config, EPIC, EPIC_VALIDATION) == config


@given(num_validation=st.integers(0, 20_000), patience=st.sampled_from([0, 1, 8]))
def test_the_last_epoch_is_kept_below_2000_validation_segments_unless_patience_looks_for_a_better_one(
    num_validation, patience
):
    config = complete(make_config("mlp", {}, {"patience": patience}), 761, num_validation)
    assert config.optimisation.selection == ("last" if num_validation < 2000 and not patience else "action")


@given(num_segments=st.integers(1, 200_000), batch_size=st.integers(1, 512))
def test_a_run_has_30_epochs_or_2000_updates_and_never_more_than_300_epochs(num_segments, batch_size):
    epochs, updates_per_epoch = default_epochs(num_segments, batch_size), math.ceil(num_segments / batch_size)
    assert 30 <= epochs <= 300
    assert epochs in (30, 300) or (epochs - 1) * updates_per_epoch < 2000 <= epochs * updates_per_epoch


@trained_heads
@given(num_segments=st.integers(1, 200_000), more=st.integers(0, 100_000))
def test_a_head_is_no_narrower_with_more_segments_and_its_width_is_a_power_of_two(head, num_segments, more):
    smaller, larger = (
        complete(make_config(head, {}, {}), number, 414).head_options for number in (num_segments, num_segments + more)
    )
    for option in FULL_SIZE[head]:
        assert 64 <= smaller[option] <= larger[option] <= FULL_SIZE[head][option]
        assert math.log2(smaller[option]).is_integer()


def test_a_regression_has_one_epoch_and_no_mixup():
    config = complete(make_config("logistic", {}, {}), 761, 414)
    assert (config.optimisation.epochs, config.augmentation.mixup) == (1, 0)


@pytest.mark.parametrize("head", ["attentive", "transformer"])
def test_a_chosen_width_that_does_not_fit_the_attention_heads_is_refused_by_their_option(head):
    with pytest.raises(OptionError, match=r"^--set: width is 128, not a multiple of .*3 attention heads"):
        complete(make_config(head, {"attention_heads": 3}, {}), 761, 414)
