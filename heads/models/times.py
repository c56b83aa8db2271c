"""Times of steps as heads read them: seconds as sines and cosines of many wavelengths.

Feature sets differ in how far apart their steps are, and so do the segments of one feature set (16 steps over 0.3 s or
over 60 s). So the number of a step says little; its seconds say how much can have happened in between.
"""

from __future__ import annotations

import math

import torch
from torch import nn

# From the time between frames at 10 fps to what a long segment and its context span.
SHORTEST_S, LONGEST_S = 0.1, 60.0

Rotation = tuple[torch.Tensor, torch.Tensor]


class Phases(nn.Module):
    """Seconds (B, T) -> their angles on `num` wavelengths, spaced evenly on a logarithmic scale: (B, T, num).

    Attributes:
        frequency: (num,) float32. Computed once and on the CPU, as MPS has no logspace (up to torch 2.14). Checkpoints
            leave it out.
    """

    frequency: torch.Tensor

    def __init__(self, num: int) -> None:
        super().__init__()
        ends = math.log10(1 / SHORTEST_S), math.log10(1 / LONGEST_S)
        self.register_buffer("frequency", torch.logspace(*ends, num, device="cpu"), persistent=False)

    def forward(self, seconds: torch.Tensor) -> torch.Tensor:
        return 2 * math.pi * seconds.unsqueeze(-1) * self.frequency


def sinusoids(angle: torch.Tensor) -> torch.Tensor:
    """Return sines and cosines of `Phases` (B, T, num): (B, T, 2 num) (Vaswani et al., "Attention is all you need")."""
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def rotation(angle: torch.Tensor) -> Rotation:
    """Return sines and cosines (B, 1, T, num) of `Phases`, which `rotate` takes for vectors of 2 num values."""
    angle = angle.unsqueeze(1)
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
