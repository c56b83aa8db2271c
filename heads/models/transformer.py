"""A transformer over the steps, read out by a learned query per task. Time enters as seconds between steps.

Transformer: Vaswani et al., "Attention is all you need", 2017; normalisation before each part: Xiong et al., "On layer
normalization in the transformer architecture", ICML 2020; learned queries that attend to what was encoded: Carion et
al., "DETR", ECCV 2020; one for verb and one for noun, as in the action probe of V-JEPA 2 (Assran et al., 2025).
"""

from __future__ import annotations

import torch
from torch import nn

from heads.data.steps import Steps
from heads.models.options import TransformerConfig
from heads.models.pooling import Classifiers, FeedForward, masked_mean
from heads.models.regions import seen_steps
from heads.models.shape import HeadShape, Logits
from heads.models.times import Phases, Rotation, rotate, rotation


class Transformer(nn.Module):
    """Steps -> logits by task.

    All steps, those of the context too, attend to each other. The queries stand in the middle of the segment. A learned
    bias per task and attention head, on the scores of the context's steps, tells these from the segment's. A step whose
    cells all lack their region is not attended to where another one has any; a single such cell counts as zeros.
    """

    def __init__(self, shape: HeadShape, config: TransformerConfig) -> None:
        super().__init__()
        self.phases = Phases(config.width // config.attention_heads // 2)
        self.input = nn.Linear(shape.dim, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(SelfAttention(config) for _ in range(config.layers))
        self.readout = Readout(shape, config)
        self.classifier = Classifiers(config.width, shape.tasks)

    def forward(self, steps: Steps) -> Logits:
        since_middle = steps.seconds - masked_mean(steps.seconds.unsqueeze(-1), steps.within)  # (B, T)
        times = rotation(self.phases(since_middle.masked_fill(~steps.mask, 0)))
        features, seen = seen_steps(steps)
        x = self.dropout(self.input(features))
        for layer in self.layers:
            x = layer(x, seen, times)
        return self.classifier.of_vectors(self.dropout(self.readout(x, steps._replace(mask=seen), times)))


class SelfAttention(nn.Module):
    """x (B, T, W), mask (B, T), times -> (B, T, W): attention among the valid steps, then the feed-forward part."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention_heads = config.attention_heads
        self.norm = nn.LayerNorm(config.width)
        self.queries_keys_values = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.feed_forward = FeedForward(config.width, config.hidden, config.dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, times: Rotation) -> torch.Tensor:
        q, k, v = (
            split_heads(part, self.attention_heads) for part in self.queries_keys_values(self.norm(x)).chunk(3, -1)
        )
        attended = attend(rotate(q, times), rotate(k, times), v, mask_bias(mask)[:, None, None])
        return self.feed_forward(x + self.dropout(self.output(joined_heads(attended))))


class Readout(nn.Module):
    """x (B, T, W), the steps, their times -> (B, tasks, W): a learned query per task attends to the steps.

    A query is learned as its attention heads use it, without a projection. It stands in the middle of the segment,
    where times are 0, so it needs no rotation.
    """

    def __init__(self, shape: HeadShape, config: TransformerConfig) -> None:
        super().__init__()
        self.attention_heads = config.attention_heads
        self.queries = nn.Parameter(torch.randn(len(shape.tasks), config.width))
        self.context = nn.Parameter(torch.zeros(config.attention_heads, len(shape.tasks), 1)) if shape.context else None
        self.norm = nn.LayerNorm(config.width)
        self.keys_values = nn.Linear(config.width, 2 * config.width)
        self.output = nn.Linear(config.width, config.width)
        self.feed_forward = FeedForward(config.width, config.hidden, config.dropout)
        self.last_norm = nn.LayerNorm(config.width)

    def forward(self, x: torch.Tensor, steps: Steps, times: Rotation) -> torch.Tensor:
        k, v = (split_heads(part, self.attention_heads) for part in self.keys_values(self.norm(x)).chunk(2, -1))
        bias = mask_bias(steps.mask)[:, None, None]  # (B, 1, 1, T)
        if self.context is not None:
            bias = bias + self.context * (~steps.within)[:, None, None]
        q = split_heads(self.queries.unsqueeze(0), self.attention_heads)
        attended = joined_heads(attend(q, rotate(k, times), v, bias))
        return self.last_norm(self.feed_forward(self.queries + self.output(attended)))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return the values (.., T, dim) weighted by attention of queries (.., Q, dim) to keys (.., T, dim): (.., Q, dim).

    Written out because scaled_dot_product_attention (up to torch 2.14) gives no gradient to a bias on a CPU. At the
    lengths of segments it is as fast.
    """
    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias).softmax(dim=-1)
    return weights @ v


def mask_bias(mask: torch.Tensor) -> torch.Tensor:
    """Return the bias that keeps attention inside a mask: 0 where the mask is true, else -inf."""
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, float("-inf"))


def split_heads(x: torch.Tensor, attention_heads: int) -> torch.Tensor:
    """(B, T, W) -> (B, attention heads, T, W / attention heads)."""
    return x.unflatten(-1, (attention_heads, -1)).transpose(1, 2)


def joined_heads(x: torch.Tensor) -> torch.Tensor:
    """(B, attention heads, T, dim) -> (B, T, W): the inverse of `split_heads`."""
    return x.transpose(1, 2).flatten(2)
