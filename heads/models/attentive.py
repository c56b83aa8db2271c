"""Attentive pooling: a learned query per task weighs every cell of every step. The probe of frozen backbones.

Pooling by attention of learned queries: Lee et al., "Set transformer", ICML 2019, and Yu et al., "CoCa", 2022; as the
probe of a frozen video backbone, with a feed-forward part after it: Bardes et al., "V-JEPA", 2024.

A token is one cell of one step: x = features + W_p p, where p is its position: sines and cosines of its seconds, and
which cell it is. With projections W_k and W_v, an attention head of a query q gives the values of all tokens, weighted
with the softmax of q . W_k x. Projecting every token is most of the cost of such a probe, and can be avoided:

    q . W_k x = (W_k^T q) . x          q is the same for every token and every segment: learn u = W_k^T q itself
    u . x = u . features + (W_p^T u) . p
    sum_n a_n W_v x_n = W_v (sum_n a_n features_n + W_p sum_n a_n p_n)     project after pooling, once per segment

So tokens are only multiplied with some 16 vectors u and averaged with as many sets of weights; neither x, keys nor
values are ever computed. The result is that of plain attention. Forward and backward of 64 segments of 16 steps,
D = 768, on one thread: 15 ms; with nn.MultiheadAttention of width D 77 ms, and 2 ms for the plain average of mean_pool.
Departures from V-JEPA's probe: no layer norm of the tokens, as features come standardised.
"""

from __future__ import annotations

import torch
from torch import nn

from heads.data.steps import Steps
from heads.models.options import AttentiveConfig
from heads.models.pooling import Classifiers, FeedForward
from heads.models.regions import seen_tokens
from heads.models.shape import HeadShape, Logits
from heads.models.times import Phases, sinusoids

_NUM_WAVELENGTHS = 8


class Attentive(nn.Module):
    """Steps -> logits by task. The context's steps are weighed too, with a learned bias per task and attention head.

    Below, Q counts the attention heads of all tasks, N the tokens (T steps x cells); d is the width of a cell, P that
    of a position.
    """

    def __init__(self, shape: HeadShape, config: AttentiveConfig) -> None:
        super().__init__()
        self.cells = shape.cells
        self.num_tasks = len(shape.tasks)
        self.phases = Phases(_NUM_WAVELENGTHS)
        d, num_queries = shape.dim // shape.cells, self.num_tasks * config.attention_heads
        # Scores have unit variance for standardised features, as in attention; values begin as those of nn.Linear.
        self.queries = nn.Parameter(torch.randn(num_queries, d) * d**-0.5)
        self.place = nn.Parameter(torch.randn(2 * _NUM_WAVELENGTHS + shape.cells, d) * 0.02)
        self.context = nn.Parameter(torch.zeros(num_queries)) if shape.context else None
        self.values = nn.Parameter(torch.empty(num_queries, d, config.width // config.attention_heads))
        nn.init.uniform_(self.values, -(d**-0.5), d**-0.5)
        self.bias = nn.Parameter(torch.zeros(self.num_tasks, config.width))
        self.layers = nn.Sequential(
            *(FeedForward(config.width, config.hidden, config.dropout) for _ in range(config.layers))
        )
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = Classifiers(config.width, shape.tasks)

    def forward(self, steps: Steps) -> Logits:
        features, seen = seen_tokens(steps, self.cells)  # (B, N, d), (B, N)
        position = self._positions(steps)  # (B, N, P)
        scores = features @ self.queries.T + position @ (self.place @ self.queries.T)  # (B, N, Q)
        weights = self._masked(scores, steps, seen).softmax(dim=1).transpose(1, 2)  # (B, Q, N)
        pooled = weights @ features + weights @ position @ self.place  # (B, Q, d)
        values = (pooled.transpose(0, 1) @ self.values).transpose(0, 1)  # (B, Q, width / attention heads)
        x = values.flatten(1).unflatten(-1, (self.num_tasks, -1)) + self.bias  # (B, tasks, width)
        return self.classifier.of_vectors(self.dropout(self.layers(x)))

    def _positions(self, steps: Steps) -> torch.Tensor:
        """Return the seconds and the cell of each token: (B, N, P)."""
        B, T = steps.mask.shape
        time = sinusoids(self.phases(steps.seconds.masked_fill(~steps.mask, 0)))
        cell = torch.eye(self.cells, device=time.device)
        position = [time.unsqueeze(2).expand(B, T, self.cells, -1), cell.expand(B, T, self.cells, self.cells)]
        return torch.cat(position, dim=-1).flatten(1, 2)

    def _masked(self, scores: torch.Tensor, steps: Steps, seen: torch.Tensor) -> torch.Tensor:
        """Return the scores (B, N, Q) with the bias of the context, and -inf for tokens that are not seen (B, N)."""
        if self.context is not None:
            scores = scores + self.context * (~steps.within).repeat_interleave(self.cells, dim=1).unsqueeze(-1)
        return scores.masked_fill(~seen.unsqueeze(-1), float("-inf"))
