"""Every family of backbones, with its preprocessing, runs on the kernels that MPS and CUDA have.

On devices that only pretend (tests/support/pretended_device.py). The networks are on "meta", where nothing is computed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pretended_device import PretendedDevice
from published_networks import as_tested, representatives

from extract import preprocess
from extract.backbones import Backbone
from extract.decode.planes import BT601, PlaneBatch
from extract.forward import Forward


@pytest.fixture(params=["mps", "cuda"])
def device(request) -> Iterator[PretendedDevice]:
    with PretendedDevice(request.param) as device:
        yield device
    for cached in (preprocess._folded, preprocess._copy_stream):  # what they keep is of this device
        cached.cache_clear()


def _prepared(entry: Backbone, device: PretendedDevice) -> torch.Tensor:
    """Return pictures of noise, in an odd number, as the backbone wants them."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 256, (3, 60, 80), dtype=np.uint8)
    uv = rng.integers(0, 256, (3, 2, 30, 40), dtype=np.uint8)
    pictures = preprocess.scaled(PlaneBatch(y, uv), entry.preprocess, torch.device(device.kind))
    return preprocess.normalised(pictures, [BT601] * 3, entry.preprocess)


@pytest.mark.parametrize("name", representatives())
def test_every_family_runs(name, device):
    entry = as_tested(name)
    pictures = _prepared(entry, device)
    assert device.holds(pictures)
    device.memory = torch.device("meta")
    with device.memory:
        network = entry.model.build().eval()
    for tensor in (*network.parameters(), *network.buffers()):
        device.place(tensor)
    clip = device.place(torch.empty(1, 3, entry.clip.num_frames, *pictures.shape[2:], device="meta"))
    precision = "bfloat16" if device.kind == "cuda" else "float32"
    forward = Forward(network, entry.preprocess, torch.device(device.kind), precision)
    steps = forward.steps(clip).get()
    assert steps.shape == (1, entry.clip.num_steps, entry.dim)
    assert not device.holds(steps)
