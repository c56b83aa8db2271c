"""Parts that several heads share: averages and LSTMs over the valid steps only, feed-forward layers, classifiers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from heads.data.steps import Steps
from heads.models.shape import HeadShape, Logits


def zeroed(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return x (B, T, D) with zeros where mask (B, T) is false. A product with 0 would keep NaN."""
    return x.masked_fill(~mask.unsqueeze(-1), 0)


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the average of x (B, T, D) over the steps where mask (B, T) is true, (B, D); 0 for a row without any."""
    return zeroed(x, mask).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def pooled_dim(shape: HeadShape) -> int:
    """Return the width of what `pooled` returns."""
    return shape.dim * (2 if shape.context else 1)


def pooled(steps: Steps, shape: HeadShape) -> torch.Tensor:
    """Return the average of the features over the segment, (B, D); with context, that of the context too, (B, 2 D)."""
    segment = masked_mean(steps.features, steps.within)
    if not shape.context:
        return segment
    return torch.cat([segment, masked_mean(steps.features, steps.mask & ~steps.within)], dim=-1)


def bidirectional_lstm(dim: int, *, hidden: int, layers: int, dropout: float) -> nn.LSTM:
    """Return an LSTM of both directions with dropout between its layers."""
    between = dropout if layers > 1 else 0.0
    return nn.LSTM(dim, hidden, layers, batch_first=True, bidirectional=True, dropout=between)


def lstm_outputs(lstm: nn.Module, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Run an LSTM of H units per direction over the valid steps: x (B, T, D), mask (B, T) -> (B, T, 2 H).

    Outputs are zero in the padding. Where nothing is padded, packing is skipped: it costs a copy and keeps cuDNN from
    its fastest path.
    """
    if bool(mask.all()):
        return lstm(x)[0]
    packed = pack_padded_sequence(x, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def has_bfloat16_lstms() -> bool:
    """Return whether this CPU runs LSTMs under autocast to bfloat16.

    Without AVX-512, torch emulates such arithmetic for everything but LSTMs (pytorch/pytorch#88136).
    """
    with torch.random.fork_rng(devices=[]):
        smallest = nn.LSTM(1, 1)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            smallest(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True


class FeedForward(nn.Module):
    """x (.., W) -> x plus the output of two linear layers, with layer norm before them as in most transformers."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


class Classifiers(nn.ModuleDict):
    """A linear classifier per task on one pooled vector: (B, D) -> logits by task.

    Args:
        tasks: task -> number of its classes.
    """

    def __init__(self, dim: int, tasks: Mapping[str, int]) -> None:
        super().__init__({task: nn.Linear(dim, num_classes) for task, num_classes in tasks.items()})

    def forward(self, x: torch.Tensor) -> Logits:
        return {task: classifier(x) for task, classifier in self.items()}

    @torch.no_grad()
    def set_biases(self, biases: Logits) -> None:
        """Set the biases of its tasks, from (K,) by task."""
        for task in self:
            self.get_parameter(f"{task}.bias").copy_(biases[task])

    def of_vectors(self, x: torch.Tensor) -> Logits:
        """Classify one vector per task, in the order of the tasks: (B, tasks, D) -> logits by task."""
        return {task: classifier(vector) for (task, classifier), vector in zip(self.items(), x.unbind(1), strict=True)}
