"""The input of a head: the steps of segments."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Steps(NamedTuple):
    """The steps of B segments, each row padded to the longest of them.

    Attributes:
        features: (B, T, D) float32.
        mask: (B, T) bool, true for the first steps of a row, false for its padding; values there change nothing.
        seconds: (B, T) float32, the centre of each step, counted from the middle of its segment.
        within: (B, T) bool, true where a step lies in the segment itself; other steps under the mask are context.
            Every row has at least one such step.
    """

    features: torch.Tensor
    mask: torch.Tensor
    seconds: torch.Tensor
    within: torch.Tensor
