"""What a head is built for and what it gives: its shape, and logits by task. Knows no head."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from features.annotations import NUM_CLASSES

# Logits by task: verb (B, 97), noun (B, 300), float32.
Logits = dict[str, torch.Tensor]


@dataclass(frozen=True)
class HeadShape:
    """What a head is built for.

    Attributes:
        dim: D of its steps.
        cells: of a step's map; D counts them all, cell after cell. 1 where a step is the average of its map.
        context: whether there are steps beyond the segment.
        tasks: which of NUM_CLASSES it gives logits for.
    """

    dim: int
    cells: int = 1
    context: bool = False
    tasks: tuple[str, ...] = tuple(NUM_CLASSES)

    def __post_init__(self) -> None:
        if self.dim % self.cells:
            raise ValueError(f"{self.dim} values do not make {self.cells} cells.")
