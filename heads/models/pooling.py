"""What several heads share: recurrence and averages over the valid steps only, and the two classifiers."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from features.annotations import NUM_NOUNS, NUM_VERBS


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average x (B, T, D) over the steps where mask (B, T) is true: (B, D)."""
    return x.masked_fill(~mask.unsqueeze(-1), 0).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def run_lstm(lstm: nn.LSTM, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Run a batch_first LSTM over the valid steps of x (B, T, D): (B, T, H), zero in the padding.

    Where nothing is padded, packing is skipped: it costs a copy and keeps cuDNN from its fastest path.
    """
    if bool(mask.all()):
        return lstm(x)[0]
    packed = pack_padded_sequence(x, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]


class VerbNounClassifier(nn.Module):
    """Two linear classifiers on one pooled vector: (B, D) -> verb logits (B, 97), noun logits (B, 300)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.verb = nn.Linear(dim, NUM_VERBS)
        self.noun = nn.Linear(dim, NUM_NOUNS)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.verb(x), self.noun(x)
