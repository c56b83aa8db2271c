"""The two linear layers of a transformer's block, with the names that most publishers give them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """Two linear layers with a GELU between them: (..., D) -> (..., D).

    Args:
        approximate: torch's name of the GELU's approximation: "none" or "tanh". The two differ by up to 5e-4 per value.
    """

    def __init__(self, dim: int, hidden: int, *, approximate: str = "none") -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self._approximate = approximate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate=self._approximate))
