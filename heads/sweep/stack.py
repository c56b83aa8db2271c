"""Several models of one recipe as one: forward and backward are batched over them, by torch.func.vmap. Knows no loop.

Each stays a model of its own as well: its parameters are views into the stacked ones, so that its own optimiser,
average and checkpoint work as ever.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from features.annotations import NUM_CLASSES
from heads.data.steps import Steps
from heads.models.model import Model, ModelConfig, StreamDropout
from heads.models.pooling import BidirectionalLstm
from heads.models.shape import Logits
from heads.sweep.stacked_modules import Draws, StackedDropout, StackedLstm, StackedStreamDropout


class Stack:
    """M models as one.

    Attributes:
        parameters: name -> (M, ...), those of all models.

    Args:
        models: of this recipe.
        draws: where each model takes its random numbers from, in training; None in evaluation.
    """

    def __init__(self, model_config: ModelConfig, models: Sequence[Model], draws: Draws | None = None) -> None:
        self.models, self._draws = models, draws
        self._skeleton = _skeleton(model_config, draws).train(draws is not None)
        own = [dict(model.named_parameters()) for model in models]
        self.parameters = {name: torch.stack([each[name].detach() for each in own]) for name in own[0]}
        buffers = [dict(model.named_buffers()) for model in models]
        common = {name for name in buffers[0] if all(torch.equal(buffers[0][name], each[name]) for each in buffers)}
        self._common = {name: buffers[0][name] for name in common}
        self._buffers = {name: torch.stack([each[name] for each in buffers]) for name in buffers[0].keys() - common}

    def share(self) -> None:
        """Make the models' parameters views of the stacked ones, which are to be trained."""
        self._own = {name: [dict(model.named_parameters())[name] for model in self.models] for name in self.parameters}
        for name, whole in self.parameters.items():
            for one, part in zip(self._own[name], whole.unbind(), strict=True):
                one.data = part
            whole.requires_grad_()

    def __call__(self, streams: Sequence[Steps], *, is_common: bool = False) -> Logits:
        """Give logits by task, (M, B, K).

        Args:
            streams: (M, B, T, ...) each, or with `is_common` (B, T, ...): the same for all.
        """

        def alone(parameters: dict, buffers: dict, streams: Sequence[Steps]) -> Logits:
            return functional_call(self._skeleton, (parameters, buffers | self._common), (streams,))

        in_dims = (0, 0, None if is_common else 0)
        return vmap(alone, in_dims=in_dims)(self.parameters, self._buffers, tuple(streams))

    def lay_together(self, batches: Sequence[Sequence[Steps]]) -> tuple[Steps, ...]:
        """Give the streams of the models' batches as `__call__` takes them, padded to the widest."""
        streams = list(zip(*batches, strict=True))
        widths = [[steps.mask.shape[1] for steps in stream] for stream in streams]
        if self._draws is not None:
            self._draws.widths = widths
        return tuple(_padded(stream, width) for stream, width in zip(streams, widths, strict=True))

    def backward(self, loss: torch.Tensor) -> None:
        """Give each model's parameters their gradients of a loss; those that it does not depend on get none."""
        gradients = torch.autograd.grad(loss, list(self.parameters.values()), allow_unused=True)
        for own, gradient in zip(self._own.values(), gradients, strict=True):
            if gradient is not None:
                for one, part in zip(own, gradient.unbind(), strict=True):
                    one.grad = part


def _skeleton(model_config: ModelConfig, draws: Draws | None) -> Model:
    """Build a model without weights whose modules that draw, or have no rule for vmap, are others."""
    with torch.device("meta"):
        model = Model(model_config)
    for name, module in list(model.named_modules()):
        parent, _, child = name.rpartition(".")
        stream = int(name.split(".")[1]) if name.startswith("heads.") else 0
        if isinstance(module, BidirectionalLstm):
            model.get_submodule(parent)._modules[child] = StackedLstm(module, draws)
        elif isinstance(module, nn.Dropout):
            model.get_submodule(parent)._modules[child] = StackedDropout(module.p, draws, stream)
        elif isinstance(module, StreamDropout):
            model.get_submodule(parent)._modules[child] = StackedStreamDropout(module.share, draws)
    return model


def _padded(stream: Sequence[Steps], widths: Sequence[int]) -> Steps:
    """Stack the steps of M batches, (M, B, T, ...)."""
    width = max(widths)
    if min(widths) < width:
        width = max(width, len(NUM_CLASSES) + 1)  # so that a dropout can tell a row of steps from one of tasks
        stream = [
            Steps(
                F.pad(steps.features, (0, 0, 0, width - own)),
                *(F.pad(part, (0, width - own)) for part in (steps.mask, steps.seconds, steps.within)),
            )
            for steps, own in zip(stream, widths, strict=True)
        ]
    return Steps(*(torch.stack(parts) for parts in zip(*stream, strict=True)))
