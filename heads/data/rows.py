"""The rows of a stream that a batch sees, and gathering their features.

Rows are computed on the CPU, as integers. Features are gathered as float16 on the device that holds them, and become
float32 in the model, which reads every value anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from features.device import moved
from heads.config import Augmentation
from heads.data.chunks import Stream
from heads.data.steps import Steps


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows that segments or windows see of one stream, (B, T) each.

    Attributes:
        rows: indices into the stream's features, with its views one after the other: row * V + view.
        mask, seconds, within: as in Steps.
    """

    rows: torch.Tensor
    mask: torch.Tensor
    seconds: torch.Tensor
    within: torch.Tensor

    @property
    def _tensors(self) -> tuple[torch.Tensor, ...]:
        return self.rows, self.mask, self.seconds, self.within

    def take(self, order: torch.Tensor) -> Rows:
        """Return the steps in another order, (B, T') indices into T."""
        return Rows(*(tensor.gather(1, order) for tensor in self._tensors))

    def split(self, sizes: list[int], device: torch.device) -> Iterator[Rows]:
        """Return batches of these sizes, each as wide as its longest row, on the device of the features."""
        widths = [max(1, *lengths.tolist()) for lengths in self.mask.sum(dim=1).split(sizes)]
        pieces = (moved(tensor, device).split(sizes) for tensor in self._tensors)
        for width, *tensors in zip(widths, *pieces, strict=True):
            is_full = width == self.mask.shape[1]
            yield Rows(*tensors) if is_full else Rows(*(tensor[:, :width] for tensor in tensors))


def with_view(rows: Rows, stream: Stream, positions: torch.Tensor, view: int | None) -> Rows:
    """Return rows as indices into all views: of this view, or with None, of a random one of each segment's views."""
    num_views = stream.features.shape[1]
    if num_views == 1:
        return rows
    chosen: int | torch.Tensor
    if view is not None:
        chosen = view
    elif stream.has_view is None:
        chosen = torch.randint(num_views, (len(rows.rows), 1))
    else:
        chosen = torch.multinomial(stream.has_view[positions].float(), 1)
    return replace(rows, rows=rows.rows * num_views + chosen)


def gathered(stream: Stream, rows: Rows, device: torch.device) -> Steps:
    """Return the steps of a batch, features (B, T, D) float16. index_select takes a quarter of an indexing's time."""
    index = rows.rows.flatten()

    def taken(values: torch.Tensor) -> torch.Tensor:
        """(N, V, ...) -> (B, T, ...)."""
        return values.flatten(0, 1).index_select(0, index).view(*rows.rows.shape, -1)

    has_region = None if stream.has_region is None else taken(stream.has_region)
    steps = Steps(taken(stream.features), rows.mask, rows.seconds, rows.within, has_region)
    return steps if stream.features.device == device else steps.map(lambda part: moved(part, device))


def thinned(rows: Rows, augmentation: Augmentation) -> Rows:
    """Return the rows without some random steps, but with at least one step of each segment itself."""
    drawn = torch.rand(rows.mask.shape)
    kept = rows.mask & (drawn >= augmentation.step_dropout)
    spared = torch.where(rows.within, drawn, -1.0).argmax(dim=1, keepdim=True)
    kept.scatter_(1, spared, True)
    return kept_rows(rows, kept & rows.mask)  # a window may have no step to spare


def kept_rows(rows: Rows, kept: torch.Tensor) -> Rows:
    """Return the rows that are kept, (B, T) bool, without gaps between them."""
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)[:, : max(1, int(kept.sum(dim=1).max()))]
    moved = rows.take(order)
    kept = kept.gather(1, order)
    return Rows(moved.rows, kept, torch.where(kept, moved.seconds, 0.0), moved.within & kept)
