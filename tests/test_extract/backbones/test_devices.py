"""Every family of backbones, with its preprocessing, runs on the kernels that MPS and CUDA have.

On devices that only pretend (tests/support/pretended_device.py). The networks are on "meta", where nothing is computed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from kernels import TORCH
from pretended_device import PretendedDevice
from published_networks import as_tested, representatives

from extract import preprocess
from extract.backbones import Backbone
from extract.decode.planes import BT601, PlaneBatch
from extract.forward import Forward
from features.errors import OptionError

# On a Mac: they convolve in three dimensions, or scale what they have learned of positions.
NEED_TORCH_2_3 = (
    *("dinov2_base", "r3d_18", "mvit_v2_s", "swin3d_t", "slowfast_r50", "videomae_base_k400", "vjepa2_vitl_256"),
    *("vjepa21_base_384", "internvideo2_small", "hiera_base_16x224"),
)


@pytest.fixture(params=["mps", "cuda"])
def device(request) -> Iterator[PretendedDevice]:
    with PretendedDevice(request.param) as device:
        yield device
    for cached in (preprocess._folded, preprocess._bounds):  # what they keep is of this device
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
    if device.kind == "mps" and TORCH < (2, 3) and name in NEED_TORCH_2_3:
        with pytest.raises(OptionError, match=r"--device: torch .* cannot run this backbone on mps"):
            forward.steps(clip)
        return
    steps = forward.steps(clip).get()
    assert steps.shape == (1, entry.clip.num_steps, entry.dim)
    assert not device.holds(steps)


def test_a_backbone_that_a_mac_cannot_run_is_refused_in_one_line(monkeypatch):
    entry = as_tested("tiny_cnn")
    with PretendedDevice("mps") as device:
        network = entry.model.build().eval().to(device.kind)
        monkeypatch.setattr(network, "forward", lambda clips, *_: torch.logspace(0, 1, 3, device=clips.device))
        forward = Forward(network, entry.preprocess, torch.device("mps"), "float32")
        with pytest.raises(OptionError, match=r"--device: torch .* cannot run this backbone on mps \(.*logspace"):
            forward.steps(torch.ones(1, 3, 1, 8, 8, device=device.kind))
