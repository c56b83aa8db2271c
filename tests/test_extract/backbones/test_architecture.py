"""Networks of transformers are made by whichever transformers is there, or by a clear error."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from published_networks import BEFORE_DINOV3

from extract.backbones import get
from features.errors import DataError


def test_missing_transformers_is_an_error_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DataError, match=r"transformers is not installed.*pip install '\.\[extract\]'"):
        get("videomae").model.build()


@pytest.mark.parametrize("name", ["DINOv9Model", *(["DINOv3ViTModel"] if BEFORE_DINOV3 else [])])
def test_transformers_without_the_model_is_an_error_that_says_which_has_it(name):
    model = replace(get("dinov3").model, model=name)
    with pytest.raises(DataError, match=rf"transformers .* with torch .* has no {name}; .*DINOv3 with 4\.56, "):
        model.build()


def test_loading_draws_no_random_weights_and_holds_no_second_copy():
    model = get("tiny_cnn").model
    state = model.build().network.state_dict()
    random_state = torch.get_rng_state()
    module, _ = model.load(state)
    assert torch.equal(torch.get_rng_state(), random_state)
    loaded = module.network.state_dict()
    assert {name: tensor.data_ptr() for name, tensor in loaded.items()} == {
        name: tensor.data_ptr() for name, tensor in state.items()
    }


def test_loading_converts_weights_of_another_type():
    model = get("tiny_cnn").model
    state = {name: tensor.half() for name, tensor in model.build().network.state_dict().items()}
    module, _ = model.load(state)
    for name, tensor in module.network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, state[name].float())
