"""How heads read when a step is: seconds as sines and cosines of many wavelengths.

Feature sets differ in how far apart their steps are, and so do the segments of one feature set (16 steps over 0.3 s or
over 60 s): the number of a step says little, its seconds say what a hand can have done in between.
"""

from __future__ import annotations

import math

import torch

# From the time between frames at 10 fps to what a long segment and its context span.
SHORTEST_S, LONGEST_S = 0.1, 60.0

Rotation = tuple[torch.Tensor, torch.Tensor]


def phases(seconds: torch.Tensor, num: int) -> torch.Tensor:
    """Give the angles of seconds (B, T) on `num` wavelengths, spaced evenly on a logarithmic scale: (B, T, num)."""
    ends = math.log10(1 / SHORTEST_S), math.log10(1 / LONGEST_S)
    frequency = torch.logspace(*ends, num, device=seconds.device, dtype=seconds.dtype)
    return 2 * math.pi * seconds.unsqueeze(-1) * frequency


def sinusoids(seconds: torch.Tensor, num: int) -> torch.Tensor:
    """Give sines and cosines of seconds (B, T): (B, T, 2 num) (Vaswani et al., "Attention is all you need", 2017)."""
    angle = phases(seconds, num)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def rotation(seconds: torch.Tensor, dim: int) -> Rotation:
    """Give sines and cosines (B, 1, T, dim/2) at seconds (B, T): what `rotate` takes for vectors of `dim` values."""
    angle = phases(seconds, dim // 2).unsqueeze(1)
    return angle.sin(), angle.cos()


def rotate(x: torch.Tensor, by: Rotation) -> torch.Tensor:
    """Turn pairs of values of x (B, attention heads, T, dim), value i with i + dim/2, by the angles of their step.

    The product of a turned query and a turned key depends on the difference of their angles alone, and so on the time
    between them, not on where in the video they lie (rotary embedding: Su et al., "RoFormer", 2021; theirs counts
    tokens, this one seconds, which need not be whole nor evenly spaced).
    """
    sin, cos = by
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
