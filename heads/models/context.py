"""A transformer over a window of steps that many segments share, with a query per segment and task.

TIM (Chalk et al., "TIM: A time interval machine for audio-visual action recognition", CVPR 2024) asks one window of
features for all segments in it, and a small network encodes the interval of each. Here queries do not see each other:
content attends to content, and a query to the content and to itself. So a prediction depends on the window and on the
segment's own interval, and not on which other segments are asked for.

Departures from TIM: queries are independent, as said; steps and queries also have rotary times (heads/models/times.py),
so that what lies between them is told by their distance; a learned bias per layer, task and attention head tells a
query which steps lie in its interval, as in `transformer`; layer norm comes before each part, not after it; sets may
have steps at different rates; there is no loss on distances between intervals.

Queries go through the same layers as the content. All of a window share the keys and values of its content, so a
segment costs little more than its two or three query vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from heads.data.steps import Queries, Steps
from heads.models.options import ContextConfig
from heads.models.pooling import Classifiers, FeedForward
from heads.models.probe import attend
from heads.models.regions import seen_steps
from heads.models.shape import HeadShape, Logits
from heads.models.times import Phases, Rotation, rotate, rotation, sinusoids
from heads.models.transformer import joined_heads, mask_bias, split_heads

_NUM_WAVELENGTHS = 16


class Context(nn.Module):
    """Steps of W windows in each feature set, and queries -> logits by task, (Q, K).

    Below, T counts the steps of all sets together, and R the queries of a window: S segments x tasks.
    """

    def __init__(self, shape: HeadShape, config: ContextConfig) -> None:
        super().__init__()
        # The bias of each layer tells which set a step is of.
        self.inputs = nn.ModuleList(nn.Linear(dim, config.width) for dim in shape.sets)
        self.intervals = IntervalNetwork(config.width)
        self.queries = nn.Parameter(0.02 * torch.randn(len(shape.tasks), config.width))
        self.phases = Phases(config.width // config.attention_heads // 2)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(ContextLayer(len(shape.tasks), config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.classifier = Classifiers(config.width, shape.tasks)

    def forward(self, windows: Sequence[Steps], queries: Queries) -> Logits:
        seen = [seen_steps(steps) for steps in windows]
        mask = torch.cat([mask for _, mask in seen], dim=1)  # (W, T)
        seconds = torch.cat([steps.seconds for steps in windows], dim=1).masked_fill(~mask, 0)
        x = torch.cat([layer(features) for layer, (features, _) in zip(self.inputs, seen, strict=True)], dim=1)
        x = self.dropout(x + self.intervals(torch.stack([seconds, seconds], dim=-1)))
        y = self.dropout((self.intervals(queries.intervals).unsqueeze(2) + self.queries).flatten(1, 2))  # (W, R, width)
        start, stop = queries.intervals.unsqueeze(-1).unbind(2)  # (W, S, 1) each
        inside = (start <= seconds[:, None]) & (seconds[:, None] <= stop)  # (W, S, T)
        times = rotation(self.phases(seconds))
        middles = queries.intervals.mean(dim=-1).repeat_interleave(len(self.queries), dim=1)  # (W, R)
        query_times = rotation(self.phases(middles))
        # Softmax over no step at all would be NaN. Nothing sees what attends to the padding of an empty window.
        attended = (mask | ~mask.any(dim=1, keepdim=True))[:, None, None]
        for number, layer in enumerate(self.layers, start=1):
            assert isinstance(layer, ContextLayer)
            content = layer.projected(x, times)
            y = layer.of_queries(y, query_times, content, mask, inside)
            if number < len(self.layers):  # nothing reads the content after the last layer
                x = layer.of_content(x, content, attended)
        y = self.dropout(self.norm(y)).unflatten(1, (-1, len(self.queries))).flatten(0, 1)  # (W x S, tasks, width)
        return self.classifier.of_vectors(y.index_select(0, queries.places))


class IntervalNetwork(nn.Module):
    """Start and stop in seconds (.., 2) -> (.., width): two layers on their sines and cosines."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.phases = Phases(_NUM_WAVELENGTHS)
        self.layers = nn.Sequential(nn.Linear(4 * _NUM_WAVELENGTHS, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, intervals: torch.Tensor) -> torch.Tensor:
        return self.layers(sinusoids(self.phases(intervals)).flatten(-2))


Projected = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # queries, keys and values (W, attention heads, .., dim)


class ContextLayer(nn.Module):
    """Attention and a feed-forward part, with the same weights for content x (W, T, width) and queries y (W, R, width).

    Attributes:
        inside: (tasks, attention heads), added to the score of a step that lies in the interval of the query.
    """

    def __init__(self, num_tasks: int, config: ContextConfig) -> None:
        super().__init__()
        self.attention_heads = config.attention_heads
        self.norm = nn.LayerNorm(config.width)
        self.queries_keys_values = nn.Linear(config.width, 3 * config.width)
        self.inside = nn.Parameter(torch.zeros(num_tasks, config.attention_heads))
        self.output = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.feed_forward = FeedForward(config.width, config.hidden, config.dropout)

    def projected(self, x: torch.Tensor, times: Rotation) -> Projected:
        """Return queries, keys and values of x at these times."""
        q, k, v = (
            split_heads(part, self.attention_heads) for part in self.queries_keys_values(self.norm(x)).chunk(3, -1)
        )
        return rotate(q, times), rotate(k, times), v

    def of_content(self, x: torch.Tensor, content: Projected, attended: torch.Tensor) -> torch.Tensor:
        """Return x after the layer; its steps attend to those where `attended` (W, 1, 1, T) is true."""
        return self._after(x, attend(*content, attended))

    def of_queries(
        self, y: torch.Tensor, times: Rotation, content: Projected, mask: torch.Tensor, inside: torch.Tensor
    ) -> torch.Tensor:
        """Return y after the layer; each query attends to the content and to itself, in one softmax.

        Args:
            mask: (W, T), the steps that there are.
            inside: (W, S, T), the steps in the interval of each segment.
        """
        _, keys, values = content
        q, k, v = self.projected(y, times)
        q = q * q.shape[-1] ** -0.5
        bias = (self.inside.T[:, None, :, None] * inside[:, None, :, None]).flatten(2, 3)  # (W, heads, R, T)
        scores = q @ keys.transpose(-1, -2) + bias + mask_bias(mask)[:, None, None]
        own = (q * k).sum(dim=-1, keepdim=True)
        weights = torch.cat([scores.float(), own.float()], dim=-1).softmax(dim=-1).to(v.dtype)
        return self._after(y, weights[..., :-1] @ values + weights[..., -1:] * v)

    def _after(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        return self.feed_forward(x + self.dropout(self.output(joined_heads(attended))))
