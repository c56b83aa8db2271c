"""A layout takes the network's weights out of a published state dict, under the network's names."""

from __future__ import annotations

import pytest
import torch

from extract.backbones import Layout
from features.errors import DataError

STATE = {
    "visual.blocks.0.fc1.weight": torch.zeros(1),
    "visual.blocks.1.fc2.bias": torch.ones(2),
    "visual.head.weight": torch.zeros(3),
    "textual.blocks.0.fc1.weight": torch.zeros(4),
    "visual_projection": torch.zeros(5),
}


def test_layout_of_nothing_changes_nothing():
    assert Layout().network_state(STATE) == (STATE, [])


def test_prefix_is_removed_and_other_parts_are_left_out():
    state, left_out = Layout(prefix="visual.").network_state(STATE)
    assert list(state) == ["blocks.0.fc1.weight", "blocks.1.fc2.bias", "head.weight"]
    assert left_out == ["textual.blocks.0.fc1.weight", "visual_projection"]


def test_names_to_leave_out_are_those_without_the_prefix():
    state, left_out = Layout(prefix="visual.", leave_out=("head.", "blocks.1.")).network_state(STATE)
    assert list(state) == ["blocks.0.fc1.weight"]
    assert left_out == ["visual.blocks.1.fc2.bias", "visual.head.weight", *list(STATE)[3:]]


def test_each_pair_renames_what_the_one_before_it_has_left():
    rename = ((r"^blocks\.(\d+)\.", r"layers.\1."), (r"\.fc1\.", ".up."), (r"^layers\.1\.fc2", "layers.1.down"))
    state, _ = Layout(prefix="visual.", rename=rename).network_state(STATE)
    assert list(state) == ["layers.0.up.weight", "layers.1.down.bias", "head.weight"]
    assert state["layers.1.down.bias"] is STATE["visual.blocks.1.fc2.bias"]


def test_weights_are_converted_under_their_new_names():
    def halved(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        first, second = state.pop("up").chunk(2)
        return {**state, "first": first, "second": second}

    state, _ = Layout(rename=(("fc", "up"),), convert=halved).network_state({"fc": torch.arange(4), "norm": STATE})
    assert {name: list(tensor) for name, tensor in state.items() if name != "norm"} == {
        "first": [0, 1],
        "second": [2, 3],
    }
    assert state["norm"] is STATE


def test_two_names_for_the_same_parameter_are_refused():
    with pytest.raises(DataError, match=r"b\.weight and another name both stand for weight"):
        Layout(rename=((r"^[ab]\.", ""),)).network_state({"a.weight": torch.zeros(1), "b.weight": torch.ones(1)})
