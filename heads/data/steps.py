"""The input of a head: the steps of segments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch


def evenly_spaced(length: torch.Tensor, count: torch.Tensor, middle: torch.Tensor) -> torch.Tensor:
    """Return rows that are spread evenly over windows, (B, largest count) int64, each below its window's length.

    They are the middles of `count` equal parts of the window, in whole numbers. The part that `middle` lies in is
    represented by `middle` itself, so that thinning never takes all of a short segment in a long window.

    Args:
        length, count, middle: (B,) int64; positions beyond a row's count have no meaning.

    >>> evenly_spaced(torch.tensor([8]), torch.tensor([3]), torch.tensor([3]))
    tensor([[1, 3, 6]])
    """
    part = torch.arange(int(count.max()), device=length.device)
    length, count, middle = length[:, None], count[:, None], middle[:, None]
    rows = ((2 * part + 1) * length // (2 * count)).clamp(max=length - 1)
    return rows.scatter(1, (2 * middle + 1) * count // (2 * length), middle)


class Steps(NamedTuple):
    """The steps of B segments or windows, each row padded to the longest of them.

    Attributes:
        features: (B, T, D) float32.
        mask: (B, T) bool, true for the first steps of a row, false for its padding; values there change nothing.
        seconds: (B, T) float32, the centre of each step, counted from the middle of its segment or window.
        within: (B, T) bool, true where a step lies in the segment itself; other steps under the mask are context.
            Every segment has at least one such step. Of a window, all steps under the mask, and there may be none.
        has_region: (B, T, cells) bool, whether a step has the region that each of its cells is of; None for a set
            without regions, in which no cell can be absent. What it says of padding changes nothing.
    """

    features: torch.Tensor
    mask: torch.Tensor
    seconds: torch.Tensor
    within: torch.Tensor
    has_region: torch.Tensor | None = None

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Steps:
        """Return the steps with a function of each of their tensors."""
        return Steps(*(function(tensor) for tensor in self if tensor is not None))


class Queries(NamedTuple):
    """The segments that are asked for in W windows, at most S in each: a query per segment.

    Attributes:
        intervals: (W, S, 2) float32, start and stop of each segment, in seconds from the middle of its window; 0 in the
            padding.
        places: (Q,) int64, where each query is among the W * S.
    """

    intervals: torch.Tensor
    places: torch.Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """B segments, each with its own steps, or in windows that they share.

    Attributes:
        streams: the steps of each feature set, features (B, T, D) float16; with early fusion, all have the steps of the
            first set. With queries, they are the steps of W windows, (W, T, D), and each set has its own.
        index: (B,) int64, positions of these segments in the split.
        queries: where each of these segments lies in the windows; None where segments have their own steps.
    """

    streams: tuple[Steps, ...]
    index: torch.Tensor
    queries: Queries | None = None
