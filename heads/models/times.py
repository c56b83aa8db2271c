"""Times of steps as heads read them: seconds as sines and cosines of many wavelengths.

Feature sets differ in how far apart their steps are, and so do the segments of one feature set (16 steps over 0.3 s or
over 60 s). So the number of a step says little; its seconds say how much can have happened in between.
"""

from __future__ import annotations

import math

import torch

# From the time between frames at 10 fps to what a long segment and its context span.
SHORTEST_S, LONGEST_S = 0.1, 60.0

Rotation = tuple[torch.Tensor, torch.Tensor]


def phases(seconds: torch.Tensor, num: int) -> torch.Tensor:
    """Return the angles of seconds (B, T) on `num` wavelengths, spaced evenly on a logarithmic scale: (B, T, num)."""
    ends = math.log10(1 / SHORTEST_S), math.log10(1 / LONGEST_S)
    frequency = torch.logspace(*ends, num, device=seconds.device, dtype=seconds.dtype)
    return 2 * math.pi * seconds.unsqueeze(-1) * frequency


def sinusoids(seconds: torch.Tensor, num: int) -> torch.Tensor:
    """Return sines and cosines of seconds (B, T): (B, T, 2 num) (Vaswani et al., "Attention is all you need", 2017)."""
    angle = phases(seconds, num)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def rotation(seconds: torch.Tensor, dim: int) -> Rotation:
    """Return sines and cosines (B, 1, T, dim/2) at seconds (B, T), which `rotate` takes for vectors of `dim` values."""
    angle = phases(seconds, dim // 2).unsqueeze(1)
    return angle.sin(), angle.cos()


def rotate(x: torch.Tensor, angles: Rotation) -> torch.Tensor:
    """Return x (B, attention heads, T, dim) with value i and value i + dim/2 rotated by the angle of their step.

    The product of a rotated query and a rotated key depends only on the difference of their angles, and so on the time
    between them, not on where in the video they lie (rotary embedding: Su et al., "RoFormer", 2021; theirs counts
    tokens, this one seconds, which need not be whole nor evenly spaced).
    """
    sin, cos = angles
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
