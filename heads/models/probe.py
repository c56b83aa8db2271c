"""The deep attentive probe of V-JEPA 2: self-attention over every cell of every step, then a learned query per task.

Probe: Assran et al., "V-JEPA 2", 2025: four blocks, three of self-attention over the tokens of a frozen backbone and
one in which queries attend to them; the winners of the EPIC-KITCHENS anticipation challenge of 2026 trained some 20 of
these side by side, over learning rates and weight decays, with a sigmoid focal loss and a cosine to 0 without warm-up
(JFAA and TAP-JEPA: arXiv 2606.00662). With features of 1,024 values, one cell and one query it has the 49,336,320
parameters of transformers' VJEPA2AttentivePooler.

Departures: the time between steps enters as a rotation (heads/models/times.py), because a token of a cached feature
set says less of its time than one inside the backbone; which cell a token is, and whether it is of the context, are
learned vectors; where the width of a cell is no multiple of twice the attention heads, a linear layer makes it one.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from heads.data.steps import Steps
from heads.models.options import ProbeConfig
from heads.models.pooling import Classifiers, FeedForward, masked_mean
from heads.models.regions import seen_tokens
from heads.models.shape import HeadShape, Logits
from heads.models.times import Phases, Rotation, rotate, rotation
from heads.models.transformer import joined_heads, split_heads

_HIDDEN = 4  # units of a feed-forward part, in widths


class Probe(nn.Module):
    """Steps -> logits by task. N counts the tokens (T steps x cells), W is the width of a token."""

    def __init__(self, shape: HeadShape, config: ProbeConfig) -> None:
        super().__init__()
        self.cells = shape.cells
        self.checkpointing = bool(config.checkpointing)
        cell_dim, unit = shape.dim // shape.cells, 2 * config.attention_heads
        width = config.width or -(-cell_dim // unit) * unit
        self.phases = Phases(width // config.attention_heads // 2)
        self.input = nn.Identity() if width == cell_dim else nn.Linear(cell_dim, width)
        self.place = nn.Parameter(0.02 * torch.randn(shape.cells, width)) if shape.cells > 1 else None
        self.context = nn.Parameter(0.02 * torch.randn(width)) if shape.context else None
        self.layers = nn.ModuleList(TokenAttention(width, config) for _ in range(config.layers))
        self.queries = nn.Parameter(0.02 * torch.randn(len(shape.tasks), width))
        self.readout = QueryAttention(width, config)
        self.classifier = Classifiers(width, shape.tasks)

    def forward(self, steps: Steps) -> Logits:
        x, seen = seen_tokens(steps, self.cells)  # (B, N, d), (B, N)
        x = self.input(x).unflatten(1, (-1, self.cells))  # (B, T, cells, W)
        if self.place is not None:
            x = x + self.place
        if self.context is not None:
            x = x + self.context * (~steps.within)[..., None, None]
        mask = seen[:, None, None]  # (B, 1, 1, N)
        times = self._times(steps)
        x = x.flatten(1, 2)  # (B, N, W)
        for layer in self.layers:
            if self.checkpointing and self.training:
                x = checkpoint(layer, x, mask, times, use_reentrant=False)
            else:
                x = layer(x, mask, times)
        return self.classifier.of_vectors(self.readout(self.queries, x, mask, times))

    def _times(self, steps: Steps) -> Rotation:
        """Return what `rotate` takes for each token, in seconds since the middle of the segment."""
        since_middle = steps.seconds - masked_mean(steps.seconds.unsqueeze(-1), steps.within)  # (B, T)
        sin, cos = rotation(self.phases(since_middle.masked_fill(~steps.mask, 0)))
        return sin.repeat_interleave(self.cells, dim=2), cos.repeat_interleave(self.cells, dim=2)


class TokenAttention(nn.Module):
    """x (B, N, W), mask (B, 1, 1, N), times -> (B, N, W): attention among tokens, then the feed-forward part."""

    def __init__(self, width: int, config: ProbeConfig) -> None:
        super().__init__()
        self.attention_heads = config.attention_heads
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.dropout)
        self.feed_forward = FeedForward(width, _HIDDEN * width, config.dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, times: Rotation) -> torch.Tensor:
        q, k, v = (
            split_heads(part, self.attention_heads) for part in self.queries_keys_values(self.norm(x)).chunk(3, -1)
        )
        attended = attend(rotate(q, times), rotate(k, times), v, mask)
        return self.feed_forward(x + self.dropout(self.output(joined_heads(attended))))


class QueryAttention(nn.Module):
    """queries (Q, W), x (B, N, W), mask, times -> (B, Q, W): queries in the middle of the segment attend to tokens.

    As in V-JEPA 2, what is attended to is not projected again before it is added to the queries.
    """

    def __init__(self, width: int, config: ProbeConfig) -> None:
        super().__init__()
        self.attention_heads = config.attention_heads
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Linear(width, width)
        self.keys_values = nn.Linear(width, 2 * width)
        self.dropout = nn.Dropout(config.dropout)
        self.feed_forward = FeedForward(width, _HIDDEN * width, config.dropout)

    def forward(self, queries: torch.Tensor, x: torch.Tensor, mask: torch.Tensor, times: Rotation) -> torch.Tensor:
        q = split_heads(self.queries(queries).expand(len(x), -1, -1), self.attention_heads)
        k, v = (split_heads(part, self.attention_heads) for part in self.keys_values(self.norm(x)).chunk(2, -1))
        attended = joined_heads(attend(q, rotate(k, times), v, mask))
        return self.feed_forward(queries + self.dropout(attended))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return torch's attention; rotated queries and keys, float32 under autocast too, become what the values are.

    Autocast does so by itself, but not that of a CPU before torch 2.2.
    """
    return scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, mask)
