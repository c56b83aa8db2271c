"""Multinomial logistic regression on the average of the steps, or on several steps side by side: the baseline to beat.

It is not trained in epochs but fitted to convergence (heads/training/logistic.py).
"""

from __future__ import annotations

import torch
from torch import nn

from heads.data.steps import Steps, evenly_spaced
from heads.models.options import LogisticConfig
from heads.models.pooling import Classifiers, pooled, pooled_dim
from heads.models.shape import HeadShape, Logits


class Logistic(nn.Module):
    """Steps -> logits by task. With `steps`, the segment is read at so many of its own steps, and not the context.

    Attributes:
        mean, std: (P,) of the P inputs of the regression over the training segments.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, shape: HeadShape, config: LogisticConfig) -> None:
        super().__init__()
        self.shape, self.num_steps = shape, config.steps
        num_inputs = shape.dim * config.steps if config.steps else pooled_dim(shape)
        self.register_buffer("mean", torch.zeros(num_inputs))
        self.register_buffer("std", torch.ones(num_inputs))
        self.classifier = Classifiers(num_inputs, shape.tasks)

    def inputs(self, steps: Steps) -> torch.Tensor:
        """Return the inputs of the regression, (B, P)."""
        if not self.num_steps:
            return pooled(steps, self.shape)
        length = steps.within.sum(dim=1)
        count = torch.full_like(length, self.num_steps)
        rows = steps.within.int().argmax(dim=1, keepdim=True) + evenly_spaced(length, count, (length - 1) // 2)
        index = rows.unsqueeze(-1).expand(-1, -1, steps.features.shape[-1])
        return steps.features.gather(1, index).flatten(1)

    def forward(self, steps: Steps) -> Logits:
        return self.classifier((self.inputs(steps) - self.mean) / self.std)
