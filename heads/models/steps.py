"""What a head sees and gives: steps of segments in, logits by task out. Knows no head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from features.annotations import NUM_NOUNS, NUM_VERBS

# What every head tells apart, and into how many classes.
TASKS = {"verb": NUM_VERBS, "noun": NUM_NOUNS}

# Logits by task: verb (B, 97), noun (B, 300), float32.
Logits = dict[str, torch.Tensor]


class Steps(NamedTuple):
    """The steps of B segments, each row padded to the longest of them.

    Attributes:
        features: (B, T, D) float32.
        mask: (B, T) bool, true for the first steps of a row, false for its padding; what lies there changes nothing.
        seconds: (B, T) float32, the centre of each step, counted from the middle of its segment.
        within: (B, T) bool, true where a step lies in the segment itself; other steps under the mask are context.
            Every row has at least one.
    """

    features: torch.Tensor
    mask: torch.Tensor
    seconds: torch.Tensor
    within: torch.Tensor


@dataclass(frozen=True)
class HeadShape:
    """What a head is built for.

    Attributes:
        dim: D of its steps.
        cells: of a step's map; D counts them all, cell after cell. 1 where a step is the average of its map.
        context: whether there are steps beyond the segment.
        tasks: which of TASKS it gives logits for.
    """

    dim: int
    cells: int = 1
    context: bool = False
    tasks: tuple[str, ...] = tuple(TASKS)

    def __post_init__(self) -> None:
        if self.dim % self.cells:
            raise ValueError(f"{self.dim} values do not make {self.cells} cells.")
