"""Heads of one kind, one per task, so that verb and noun share nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import nn

from heads.models.shape import HeadShape, Logits


class Separate(nn.Module):
    """What one head takes -> logits by task, from one head per task.

    Args:
        build: builds a head for a shape.
    """

    def __init__(self, shape: HeadShape, build: Callable[[HeadShape], nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {task: build(dataclasses.replace(shape, tasks={task: num})) for task, num in shape.tasks.items()}
        )

    def forward(self, *inputs: Any) -> Logits:
        return {task: head(*inputs)[task] for task, head in self.heads.items()}
