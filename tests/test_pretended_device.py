"""The device that only pretends refuses what a real one would refuse, and counts what a step costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from kernels import TORCH, has_kernel
from pretended_device import Costs, PretendedDevice
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from heads.models import times

KINDS = ("mps", "cuda")
# What fails on MPS, as NotImplementedError, TypeError and so on; `device` is its name.
REFUSED: dict[str, tuple[type[Exception], str, Callable[[str], object]]] = {
    "an operator without a kernel, called by a composite": (
        NotImplementedError,
        r"aten::logspace.out' is not currently implemented for the mps",
        lambda device: torch.logspace(0, 1, 3, device=device),
    ),
    "values of double precision": (TypeError, "float64", lambda device: torch.zeros(2, device=device).double()),
    "values of double precision from elsewhere": (
        TypeError,
        "float64",
        lambda device: torch.zeros(2).double().to(device),
    ),
    "a tensor of the CPU": (
        RuntimeError,
        "at least two devices, mps:0 and cpu",
        lambda device: torch.ones(2, device=device) + torch.ones(2),
    ),
    "an array": (TypeError, "can't convert mps:0", lambda device: torch.ones(2, device=device).numpy()),
    "a copy that is not waited for": (
        AssertionError,
        "wait",
        lambda device: torch.ones(2).to(device, non_blocking=True),
    ),
    "an LSTM of layers with dropout": (
        AssertionError,
        "drops out in evaluation",
        lambda device: nn.LSTM(2, 2, 2, dropout=0.1).to(device)(torch.ones(3, 1, 2, device=device)),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_mac_refuses_is_refused(what):
    error, message, call = REFUSED[what]
    with PretendedDevice("mps") as device, pytest.raises(error, match=message):
        call(device.kind)


@pytest.mark.parametrize("what", [name for name in REFUSED if not name.startswith(("a tensor", "an array"))])
def test_cuda_has_what_a_mac_refuses(what):
    with PretendedDevice("cuda") as device:
        REFUSED[what][2](device.kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_heads_of_before_are_refused_on_mps_only(kind, monkeypatch):
    """Frequencies that are computed on the device were what kept attentive and transformer from every Mac."""

    def on_the_device(self: times.Phases, seconds: torch.Tensor) -> torch.Tensor:
        return seconds.unsqueeze(-1) * torch.logspace(1, -1, len(self.frequency), device=seconds.device)

    monkeypatch.setattr(times.Phases, "forward", on_the_device)
    with PretendedDevice(kind) as device:
        phases, seconds = times.Phases(4).to(device.device), torch.ones(1, 2, device=device.device)
        if kind == "cuda":
            assert phases(seconds).shape == (1, 2, 4)
            return
        with pytest.raises(NotImplementedError, match="logspace"):
            phases(seconds)


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_say_where_they_are(kind):
    with PretendedDevice(kind):
        x = torch.arange(6.0, device=kind).view(2, 3)
        there = [
            x,
            x[0],
            x.t() + 1,
            x.detach(),
            torch.zeros(2, device=x.device),
            torch.ones(2).to(x),
            torch.ones_like(x),
        ]
        assert {str(tensor.device) for tensor in there} == {f"{kind}:0"}
        assert (x.is_cuda, x.is_mps) == (kind == "cuda", kind == "mps")
        assert {str(tensor.device) for tensor in (torch.ones(2), x.cpu(), x.to("cpu"))} == {"cpu"}
    assert torch.ones(2).device.type == "cpu"


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_cpu(kind):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.LayerNorm(3), nn.LSTM(3, 2, batch_first=True))
    x = torch.randn(2, 5, 4)
    network(x)[0].sum().backward()
    expected = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    network.zero_grad()
    with PretendedDevice(kind) as device:
        network.to(kind)(x.to(kind))[0].sum().backward()
        found = {name: parameter.grad.cpu() for name, parameter in network.named_parameters()}
        assert all(device.holds(parameter.grad) for parameter in network.parameters())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_waits_and_copies_are_counted(kind):
    with PretendedDevice(kind) as device:
        x = torch.ones(2, 3, device=kind)

        def cost(call: Callable[[], object]) -> Costs:
            device.costs = Costs()
            call()
            return replace(device.costs, kernels=0)

        for call in (x[0, 0].item, x.cpu, x.tolist, lambda: x[x > 0], x.nonzero, lambda: bool((x > 0).all())):
            assert len(cost(call).waits) == 1
        for call in (lambda: x * 2, x.t, lambda: x[:, 0], lambda: x.index_select(0, x[0, :1].long())):
            assert cost(call) == Costs()
        if kind == "cuda":
            assert len(cost(lambda: torch.ones(2).to(kind, non_blocking=True)).copies) == 1


def test_a_packed_sequence_is_one_kernel_on_cuda_and_falls_apart_on_mps():
    kernels = {}
    for kind in KINDS:
        with PretendedDevice(kind) as device:
            packed = pack_padded_sequence(torch.ones(4, 2, 3).to(kind), torch.tensor([4, 2]))
            lstm = nn.LSTM(3, 2).to(kind)
            device.costs = Costs()
            lstm(packed)
            kernels[kind] = device.costs.kernels
    assert kernels["cuda"] < 8
    assert kernels["mps"] > 20


def test_three_dimensional_convolutions_came_to_macs_with_torch_2_3():
    with PretendedDevice("mps") as device:
        network, clip = nn.Conv3d(1, 1, 2).to(device.kind), torch.ones(1, 1, 2, 2, 2).to(device.kind)
        if TORCH >= (2, 3):
            assert network(clip).shape == (1, 1, 1, 1, 1)
        else:
            with pytest.raises(RuntimeError, match="Conv3D is not supported"):
                network(clip)


def test_the_list_of_kernels_is_read_as_torch_reads_it():
    """Kernels that are structured, generated from an inner loop, or an operator's own."""
    assert all(has_kernel(name, kind) for name in ("add.Tensor", "gelu", "nonzero", "mul_.Tensor") for kind in KINDS)
    assert [has_kernel("logspace.out", kind) for kind in KINDS] == [False, True]
    assert [has_kernel("_lstm_mps", kind) for kind in KINDS] == [True, False]
