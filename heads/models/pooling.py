"""Parts that several heads share: averages and LSTMs over the valid steps only, feed-forward layers, classifiers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from features.device import moved
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
    assert isinstance(lstm, nn.LSTM)
    if x.device.type == "mps":
        return lstm_by_direction(lstm, x, mask)
    lengths = mask.sum(dim=1).cpu()
    if bool((lengths == x.shape[1]).all()):
        return lstm(x)[0]
    # torch would sort too, and wait for the device twice more.
    lengths, order = lengths.sort(descending=True)
    order = moved(order, x.device)
    packed = pack_padded_sequence(x.index_select(0, order), lengths, batch_first=True)
    outputs = pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]
    return outputs.index_select(0, order.argsort())


def lstm_by_direction(lstm: nn.LSTM, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Run an LSTM over the valid steps as `lstm_outputs` does, each direction of each layer as an LSTM of its own.

    For MPS, which runs a packed sequence as some fifty kernels per step, and whose LSTM of several layers may drop out
    in evaluation too (pytorch/pytorch#180744, up to torch 2.12 at least). Backwards, a row is read from its own end.
    """
    step = torch.arange(x.shape[1], device=x.device)
    backwards = torch.where(mask, mask.sum(dim=1, keepdim=True) - 1 - step, step).unsqueeze(-1)  # (B, T, 1)

    def turned(values: torch.Tensor) -> torch.Tensor:
        return values.gather(1, backwards.expand_as(values))

    for layer in range(lstm.num_layers):
        if layer:
            x = F.dropout(x, lstm.dropout, lstm.training)
        x = torch.cat(
            [_one_lstm(lstm, x, f"l{layer}"), turned(_one_lstm(lstm, turned(x), f"l{layer}_reverse"))], dim=-1
        )
    return zeroed(x, mask)


def _one_lstm(lstm: nn.LSTM, x: torch.Tensor, part: str) -> torch.Tensor:
    """Return the outputs (B, T, H) of one layer in one direction, such as "l0_reverse"."""
    start = x.new_zeros(1, len(x), lstm.hidden_size)
    weights = tuple(lstm.get_parameter(f"{name}_{part}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    return torch.lstm(x, (start, start), weights, True, 1, 0.0, True, False, True)[0]


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
