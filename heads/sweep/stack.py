"""Several models of one configuration as one: forward and backward are batched over them by torch.func.vmap.

Each stays a model of its own too: its parameters are views of the stacked ones, so its optimiser, average and
checkpoints work as always.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from heads.data.steps import Steps
from heads.models.model import Model, ModelConfig
from heads.models.shape import Logits


class Stack:
    """M models in training, as one.

    Args:
        generators: of each model, on its device, for its dropout.
    """

    def __init__(
        self, model_config: ModelConfig, models: Sequence[Model], generators: Sequence[torch.Generator]
    ) -> None:
        self._parameters, self._buffers = stack_module_state(list(models))
        own = [dict(model.named_parameters()) for model in models]
        self._own = {name: [parameters[name] for parameters in own] for name in self._parameters}
        for name, stacked in self._parameters.items():
            for parameter, view in zip(self._own[name], stacked.detach().unbind(), strict=True):
                parameter.data = view
        with torch.device("meta"):
            self._template = Model(model_config)
        for name, module in list(self._template.named_modules()):
            if isinstance(module, nn.Dropout) and module.p:
                parent, _, child = name.rpartition(".")
                setattr(self._template.get_submodule(parent), child, _Dropout(module.p, generators))

    def __call__(self, streams: tuple[Steps, ...]) -> Logits:
        """Return logits by task, (M, B, K), of stacked batches."""

        def forward(
            parameters: dict[str, torch.Tensor],
            buffers: dict[str, torch.Tensor],
            streams: tuple[tuple[torch.Tensor, ...], ...],
        ) -> Logits:
            return functional_call(self._template, (parameters, buffers), (tuple(Steps(*parts) for parts in streams),))

        present = tuple(tuple(part for part in steps if part is not None) for steps in streams)  # vmap takes no None
        return vmap(forward)(self._parameters, self._buffers, present)

    def backward(self, loss: torch.Tensor) -> None:
        """Set the gradients of each model's parameters; those that the loss does not depend on get none."""
        gradients = torch.autograd.grad(loss, list(self._parameters.values()), allow_unused=True)
        for parameters, stacked in zip(self._own.values(), gradients, strict=True):
            if stacked is not None:
                for parameter, gradient in zip(parameters, stacked.unbind(), strict=True):
                    parameter.grad = gradient


def stacked(batches: Sequence[tuple[Steps, ...]]) -> tuple[Steps, ...]:
    """Return one batch per model, all of the same shape, as one: (M, B, T, ...) in each stream."""
    return tuple(
        Steps(*(torch.stack(tensors) for tensors in zip(*steps, strict=True) if tensors[0] is not None))
        for steps in zip(*batches, strict=True)
    )


class _Dropout(nn.Module):
    """nn.Dropout under vmap, each model with its own generator: on a CPU it drops what the model would drop alone."""

    def __init__(self, p: float, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self._p, self._generators = p, generators

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _OnStacked.apply(self._dropped, x)

    def _dropped(self, x: torch.Tensor) -> torch.Tensor:
        """x (M, ...) -> (M, ...)."""
        noise = torch.empty_like(x, memory_format=torch.contiguous_format)
        for own, generator in zip(noise, self._generators, strict=True):
            own.bernoulli_(1 - self._p, generator=generator).div_(1 - self._p)
        return x * noise


class _OnStacked(torch.autograd.Function):
    """Call a function from inside vmap on the tensors of all models at once, (M, ...).

    Autograd records what the function does, so there is no backward here.
    """

    @staticmethod
    def forward(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("only under vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        pass

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor
    ) -> tuple[torch.Tensor, int]:
        return function(x.movedim(in_dims[1], 0)), 0
