"""A moving average of a model's weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch

from heads.models.model import Model


class WeightAverage:
    """A moving average of the weights of a model in training.

    It is short at first, so that the random weights of the start are soon forgotten; the warm-up is that of
    TensorFlow's ExponentialMovingAverage, which timm and others took over. torch's AveragedModel counts its updates in
    a tensor, and so waits for the device, or copies to it, at every weight of every step. Checkpoints are as its own.

    Args:
        decay: the share of the average that an update keeps, once it has warmed up.

    Attributes:
        model: has the averaged weights.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.model = copy.deepcopy(model)
        self._decay, self._num_updates = decay, 0

    @torch.no_grad()
    def update(self, model: Model) -> None:
        """Take in the weights of a training step."""
        weight = self._weight()
        for averaged, current in zip(self.model.parameters(), model.parameters(), strict=True):
            if self._num_updates:
                averaged.lerp_(current, weight)
            else:
                averaged.copy_(current)
        self._num_updates += 1

    def _weight(self) -> float:
        """Return the weight of the current weights. In float32, as torch's class has it."""
        kept = torch.tensor((1 + self._num_updates) / (10 + self._num_updates), dtype=torch.float32)
        return float(1 - kept.clamp(max=self._decay))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return everything that `load_state_dict` goes on from."""
        weights = {f"module.{name}": tensor for name, tensor in self.model.state_dict().items()}
        return {"n_averaged": torch.tensor(self._num_updates), **weights}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from an average as it was.

        Raises:
            KeyError, RuntimeError: it is of another model.
        """
        self.model.load_state_dict(
            {name.removeprefix("module."): tensor for name, tensor in state.items() if name != "n_averaged"}
        )
        self._num_updates = int(state["n_averaged"])
