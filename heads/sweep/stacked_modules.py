"""What a model is made of that torch.func.vmap cannot batch as it is, batched by hand: dropout and LSTMs.

vmap would draw for all members at once. Here each draws from its own generator, as much as it would alone and in the
same order: on a CPU, together and alone are the same training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from heads.models.model import StreamDropout
from heads.models.pooling import BidirectionalLstm


class Draws:
    """Where each of M members takes its random numbers from, and how wide its own batch is.

    Attributes:
        generators: on the device of the models.
        widths: stream -> T of each member's batch before it was padded to the widest.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.generators = generators
        self.widths: Sequence[Sequence[int]] = ()


class _OnAll(torch.autograd.Function):
    """Call a function from inside vmap on the tensors of all members at once, (M, ...); it gives (M, ...).

    What the function does is recorded as always, so that no backward is needed here.
    """

    @staticmethod
    def forward(function: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("only under vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: tuple, function: Callable[..., torch.Tensor], *tensors: torch.Tensor):
        size = info.batch_size
        whole = [
            tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(tensors, in_dims[1:], strict=True)
        ]
        return function(*whole), 0


class StackedDropout(nn.Module):
    """nn.Dropout, each member by its own generator.

    Args:
        stream: whose steps go through it.
    """

    def __init__(self, p: float, draws: Draws | None, stream: int) -> None:
        super().__init__()
        self.p, self._draws, self._stream = p, draws, stream

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _OnAll.apply(self._dropped, x) if self.training and self.p else x

    def _dropped(self, x: torch.Tensor) -> torch.Tensor:
        noise = torch.empty_like(x, memory_format=torch.contiguous_format)
        widths = self._draws.widths[self._stream]
        is_padded = min(widths) < max(widths) and x.ndim == 4 and x.shape[2] >= max(widths)
        for own, width, generator in zip(noise, widths, self._draws.generators, strict=True):
            if is_padded:
                own[:, :width] = _kept(x.new_empty(len(own), width, own.shape[2]), self.p, generator)
                own[:, width:] = 0
            else:
                _kept(own, self.p, generator)
        return x * noise


def _kept(noise: torch.Tensor, p: float, generator: torch.Generator) -> torch.Tensor:
    """Fill with 0 where something is dropped and 1 / (1 - p) elsewhere."""
    if p == 1:
        return noise.zero_()
    return noise.bernoulli_(1 - p, generator=generator).div_(1 - p)


class StackedStreamDropout(StreamDropout):
    """StreamDropout, each member by its own generator."""

    def __init__(self, share: float, draws: Draws | None) -> None:
        super().__init__(share)
        self._draws = draws

    def chance(self, x: list[torch.Tensor]) -> torch.Tensor:
        return _OnAll.apply(lambda first: self._drawn(len(x), first), x[0])

    def _drawn(self, num_streams: int, first: torch.Tensor) -> torch.Tensor:
        shape, device = (num_streams, first.shape[1]), first.device
        return torch.stack([torch.rand(shape, generator=each, device=device) for each in self._draws.generators])


class StackedLstm(nn.Module):
    """BidirectionalLstm, its products batched over the members and over both directions."""

    def __init__(self, lstm: BidirectionalLstm, draws: Draws | None) -> None:
        super().__init__()
        for name, parameter in lstm.named_parameters():
            self.register_parameter(name, parameter)
        self.dropout, self._draws = lstm.dropout, draws

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return _OnAll.apply(self._run, x, mask, *self.parameters())

    def _run(self, x: torch.Tensor, mask: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        """x (M, B, T, D), mask (M, B, T) -> (M, B, T, 2 H)."""
        step = torch.arange(mask.shape[2], device=mask.device)
        backwards = torch.where(mask, mask.sum(dim=2, keepdim=True) - 1 - step, step).unsqueeze(-1)
        outside = ~mask.unsqueeze(-1)
        x = x.masked_fill(outside, 0)
        for layer in range(0, len(weights), 8):
            if layer and self.dropout and self.training:
                x = x * _between_layers(x, mask, self.dropout, self._draws.generators)
            forth, back = weights[layer : layer + 4], weights[layer + 4 : layer + 8]
            x = _both_directions(x, backwards, forth, back).masked_fill(outside, 0)
        return x


def _both_directions(
    x: torch.Tensor, backwards: torch.Tensor, forth: Sequence[torch.Tensor], back: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Run one layer: x (M, B, T, D) -> (M, B, T, 2 H).

    Args:
        backwards: (M, B, T, 1), the places of the steps in the other order.
        forth, back: weights from the input, from the state, and both biases, (M, ...) each.
    """
    reversed_x = x.gather(2, backwards.expand_as(x))
    gates = [_from_input(each, *weights) for each, weights in ((x, forth), (reversed_x, back))]
    hidden = _recur(torch.stack(gates), torch.stack([forth[1], back[1]]))  # (2, M, B, T, H)
    return torch.cat([hidden[0], hidden[1].gather(2, backwards.expand_as(hidden[1]))], dim=-1)


def _from_input(
    x: torch.Tensor, from_x: torch.Tensor, from_h: torch.Tensor, bias_x: torch.Tensor, bias_h: torch.Tensor
) -> torch.Tensor:
    """Give what the input says to the gates at every step: (T, M, B, 4 H)."""
    bias = (bias_x + bias_h)[:, None]
    steps = x.permute(0, 2, 1, 3)  # (M, T, B, D)
    return torch.baddbmm(bias, steps.flatten(1, 2), from_x.mT).unflatten(1, steps.shape[1:3]).transpose(0, 1)


def _recur(gates: torch.Tensor, from_h: torch.Tensor) -> torch.Tensor:
    """gates (2, T, M, B, 4 H), from_h (2, M, 4 H, H) -> states (2, M, B, T, H). The gates' order is nn.LSTM's."""
    weights = from_h.flatten(0, 1).mT
    h = c = gates.new_zeros(weights.shape[0], gates.shape[3], weights.shape[1])
    states = []
    for now in gates.transpose(0, 1).flatten(1, 2):  # (2 M, B, 4 H)
        i, f, g, o = torch.baddbmm(now, h, weights).chunk(4, dim=-1)
        c = torch.addcmul(i.sigmoid() * g.tanh(), f.sigmoid(), c)
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return torch.stack(states, dim=2).unflatten(0, from_h.shape[:2])


def _between_layers(
    x: torch.Tensor, mask: torch.Tensor, p: float, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    """Draw the noise of dropout for x (M, B, T, 2 H) as nn.LSTM does: for valid steps alone, in their packed order.

    Elsewhere than on a CPU, where nothing is equal to the last bit, for all steps: counting the valid ones would wait
    for the device.
    """
    noise = torch.zeros_like(x)
    for own, valid, generator in zip(noise, mask, generators, strict=True):
        if x.device.type != "cpu":
            _kept(own, p, generator)
            continue
        length = valid.sum(dim=1)
        order = torch.arange(len(length), device=x.device)
        if length.min() < length.max():
            order = length.sort(descending=True)[1]
        row, place = valid[order].T.nonzero(as_tuple=True)[::-1]  # step after step, the longest first
        own[order[row], place] = _kept(x.new_empty(len(row), x.shape[3]), p, generator)
    return noise
