"""The published checkpoints of SlowFast fit our network: by names and shapes alone, without PyTorchVideo."""

from __future__ import annotations

import hashlib

import pytest

from extract.backbones import get

# SHA-256 of the sorted lines "NAME SHAPE" of `pytorchvideo.models.hub.NAME().state_dict()` less the classifier `proj`,
# and their number; PyTorchVideo 0.1.5.
PUBLISHED = {
    "slow_r50": (318, "fe3be4a6342ed723e97478ed31e1ce5aa7897190b3fa69fa944b3801b74eb3f7"),
    "slowfast_r50": (660, "2a11e2a9fe05557637e34a27e9ab778f316d0bbd6bf8a0ef1b14e0a49de19c0c"),
    "slowfast_r101": (1272, "1e3ab2a86467e6a7292d1ba82953163c900b1039dfb453dd1950c3088f14c0e4"),
}
# Millions of parameters by PyTorchVideo's model zoo (docs/source/model_zoo.md), with a classifier of 400 classes.
MILLIONS = {"slow_r50": 32.45, "slowfast_r50": 34.57, "slowfast_r101": 62.83}


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_are_those_of_the_published_checkpoint(name):
    state = get(name).model.build().network.state_dict()
    lines = sorted(f"{key} {tuple(tensor.shape)}" for key, tensor in state.items())
    assert (len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()) == PUBLISHED[name]


@pytest.mark.parametrize("name", MILLIONS)
def test_number_of_parameters_is_the_published_one(name):
    entry = get(name)
    with_classifier = entry.parameters + (entry.dim + 1) * 400
    assert with_classifier / 1e6 == pytest.approx(MILLIONS[name], abs=0.005)
