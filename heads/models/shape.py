"""What a head is built for and what it returns: its shape, and logits by task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from features.annotations import NUM_CLASSES

# Logits by task: verb (B, 97), noun (B, 300), float32; with an action classifier, action (B, A).
Logits = dict[str, torch.Tensor]


@dataclass(frozen=True)
class HeadShape:
    """What a head is built for.

    Attributes:
        dim: D of its steps.
        cells: number of cells in a step; D counts them all, cell after cell. 1 where a step is the average of its map.
        context: whether there are steps beyond the segment.
        tasks: task -> number of its classes, for each task that it returns logits for.
        sets: D of the steps of each feature set, for a head that reads windows of several; else (dim,).
    """

    dim: int
    cells: int = 1
    context: bool = False
    tasks: Mapping[str, int] = field(default_factory=NUM_CLASSES.copy, hash=False)
    sets: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.sets:
            object.__setattr__(self, "sets", (self.dim,))
        if self.dim % self.cells:
            raise ValueError(f"{self.dim} values do not make {self.cells} cells.")
