"""A whole model: the features of each set are standardised, combined, and go through a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from features.annotations import NUM_CLASSES
from heads.config import InputSettings
from heads.data.steps import Queries, Steps
from heads.models.catalogue import build_head, masks_cells
from heads.models.pooling import Classifiers
from heads.models.regions import seen_cells, share_with_region, without_unseen
from heads.models.shape import HeadShape, Logits


@dataclass(frozen=True)
class StreamSpec:
    """A feature set as a model reads it.

    Attributes:
        digest: of the feature set.
        dim: D of its steps.
        cells: number of cells in a step; D counts them all.
        regions: whether the cells are regions, which a step can lack.
    """

    digest: str
    dim: int
    cells: int = 1
    regions: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """What is needed to build a model, except its weights.

    Attributes:
        pairs: the actions of its action classifier, as verb and noun; none without one.
    """

    head: str
    options: Mapping[str, Any]
    separate: bool
    streams: tuple[StreamSpec, ...]
    inputs: InputSettings
    pairs: tuple[tuple[int, int], ...] = ()

    @property
    def tasks(self) -> dict[str, int]:
        """Task -> number of its classes."""
        return {**NUM_CLASSES, "action": len(self.pairs)} if self.pairs else dict(NUM_CLASSES)


class Model(nn.Module):
    """Steps of each feature set -> logits by task.

    Early fusion puts the steps of all sets side by side before one head. Late fusion has one head per set and averages
    their logits. With context, one of two learned embeddings is added to each step: one for the steps of the segment,
    one for those of its context.

    With windows among the input settings, the steps are those of windows that segments share, and queries say where
    the segments lie. The one head takes the windows of each set as they are.

    Of a set with regions, heads that mask cells do not see those that lack their region, be it before or after sets are
    put side by side or projected. For the other heads, the steps of each such set have one value more: the share of
    the segment's steps with a region (heads/models/regions.py).

    Attributes:
        tasks: task -> number of its classes.
        pairs: as of its configuration.
        adjust_verb, adjust_noun: (K,), subtracted from the logits in evaluation; 0 unless a run asks for more. So is
            adjust_action, where there is an action classifier.
    """

    def __init__(self, model_config: ModelConfig) -> None:
        super().__init__()
        inputs = model_config.inputs
        self.settings = inputs
        self.tasks, self.pairs = model_config.tasks, model_config.pairs
        self.inputs = nn.ModuleList(StreamInput(spec.dim, inputs.project) for spec in model_config.streams)
        self.masks_cells = masks_cells(model_config.head)
        has_share = [spec.regions and not self.masks_cells for spec in model_config.streams]
        widths = [
            (inputs.project or spec.dim) + share for spec, share in zip(model_config.streams, has_share, strict=True)
        ]
        cells = [
            1 if inputs.project or share else spec.cells
            for spec, share in zip(model_config.streams, has_share, strict=True)
        ]
        sets = () if inputs.window is None else tuple(widths)
        if inputs.fusion == "early" and len(widths) > 1:
            widths, cells = [sum(widths)], [1]
        shapes = [
            HeadShape(dim, num, inputs.has_context, self.tasks, sets) for dim, num in zip(widths, cells, strict=True)
        ]
        self.stream_dropout = StreamDropout(inputs.stream_dropout)
        self.marks = nn.ParameterList(0.02 * torch.randn(2, dim) for dim in widths if inputs.has_context)
        self.heads = nn.ModuleList(
            build_head(model_config.head, shape, model_config.options, separate=model_config.separate)
            for shape in shapes
        )
        for task, num_classes in self.tasks.items():
            self.register_buffer(f"adjust_{task}", torch.zeros(num_classes))

    def stream_inputs(self) -> list[StreamInput]:
        """Return the first module of each feature set."""
        return [module for module in self.inputs if isinstance(module, StreamInput)]

    def set_biases(self, biases: Logits) -> None:
        """Set the biases of all classifiers, from (K,) by task. Late fusion averages logits, so all begin there."""
        for module in self.modules():
            if isinstance(module, Classifiers):
                module.set_biases(biases)

    def forward(self, streams: Sequence[Steps], queries: Queries | None = None) -> Logits:
        x = [self._input(number, steps) for number, steps in enumerate(streams)]
        kept = self.stream_dropout(x)
        if queries is not None:
            windows = [
                steps._replace(features=features, has_region=self._regions_of(steps))
                for features, steps in zip(x, streams, strict=True)
            ]
            logits = self.heads[0](self._without_stretches(windows, kept), queries)
        elif self.settings.fusion == "early":
            if kept is not None:
                x = [features * keep[:, None, None] for features, keep in zip(x, kept, strict=True)]
            logits = self._head_logits(0, streams[0], x[0] if len(x) == 1 else torch.cat(x, dim=-1))
        else:
            by_stream = [self._head_logits(number, steps, x[number]) for number, steps in enumerate(streams)]
            logits = {task: _weighted_mean([logits[task] for logits in by_stream], kept) for task in by_stream[0]}
        if self.training:
            return logits
        return {task: values - getattr(self, f"adjust_{task}") for task, values in logits.items()}

    def _without_stretches(self, windows: list[Steps], kept: list[torch.Tensor] | None) -> list[Steps]:
        """Return windows without a random stretch of time of the sets that they do not keep: up to all of it.

        The middle of a stretch is anywhere in the window, and its length between nothing and twice the window.
        """
        window_s = self.settings.window
        if kept is None or window_s is None:
            return windows
        hidden = []
        for steps, keep in zip(windows, kept, strict=True):
            middle, half = torch.rand(2, len(keep), 1, device=keep.device) * window_s
            seen = ((steps.seconds - (middle - window_s / 2)).abs() > half) | keep.bool()[:, None]
            hidden.append(steps._replace(mask=steps.mask & seen, within=steps.within & seen))
        return hidden

    def _input(self, number: int, steps: Steps) -> torch.Tensor:
        """Return the steps of a feature set as they are joined with others or go into a head, (B, T, D')."""
        module = self.inputs[number]
        if steps.has_region is None:
            return module(steps.features)
        if self.masks_cells:
            return module(steps.features, seen_cells(steps))
        share = share_with_region(steps)[:, None, None].expand(*steps.mask.shape, 1)
        return torch.cat([module(steps.features), share], dim=-1)

    def _regions_of(self, steps: Steps) -> torch.Tensor | None:
        """Return the regions of a head's cells, (B, T, cells); None for a head that masks none."""
        is_joined = self.settings.window is None and self.settings.fusion == "early" and len(self.inputs) > 1
        if steps.has_region is None or not self.masks_cells or is_joined:
            return None
        return seen_cells(steps).any(dim=-1, keepdim=True) if self.settings.project else steps.has_region

    def _head_logits(self, number: int, steps: Steps, x: torch.Tensor) -> Logits:
        if self.settings.has_context:
            segment, context = self.marks[number]
            x = x + torch.where(steps.within.unsqueeze(-1), segment, context)
        return self.heads[number](steps._replace(features=x, has_region=self._regions_of(steps)))


class StreamDropout(nn.Module):
    """Features (B, T, D) of each stream -> which streams each segment keeps, (B,) of 0 and 1 per stream; None for all.

    At least one stream is always kept.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: list[torch.Tensor]) -> list[torch.Tensor] | None:
        if not self.training or not self.share or len(x) == 1:
            return None
        drawn = torch.rand(len(x), len(x[0]), device=x[0].device)  # (streams, B)
        kept = (drawn >= self.share) | (drawn == drawn.amax(dim=0))
        return list(kept.float())


class StreamInput(nn.Module):
    """Features of one set, float16 or float32, standardised and optionally projected: (B, T, D) -> (B, T, D').

    Cells that are not seen, of (B, T, cells) bool, are zeros in between.

    The statistics are buffers, not parameters, so the optimiser leaves them alone and a checkpoint carries those that
    its weights were trained with.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, dim: int, project: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.project = nn.Linear(dim, project) if project else nn.Identity()

    def forward(self, features: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
        x = (features.float() - self.mean).div_(self.std)
        return self.project(x if seen is None else without_unseen(x, seen))


def _weighted_mean(by_stream: list[torch.Tensor], kept: list[torch.Tensor] | None) -> torch.Tensor:
    """Return the average of logits (B, K) over the streams that each segment keeps."""
    if kept is None:
        return torch.stack(by_stream).mean(dim=0)
    weight = torch.stack(kept).unsqueeze(-1)  # (streams, B, 1)
    return (torch.stack(by_stream) * weight).sum(dim=0) / weight.sum(dim=0)
