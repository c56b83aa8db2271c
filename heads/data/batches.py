"""Batches of segments: which rows each segment sees. heads/data/rows.py gathers them.

Windows that several segments share are heads/data/window_batches.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from features.device import moved
from heads.config import Augmentation, InputSettings
from heads.data.chunks import Chunk, Split, Stream
from heads.data.rows import Rows, gathered, kept_rows, thinned, with_view
from heads.data.steps import Batch, evenly_spaced
from heads.data.window_batches import window_batches

# Rows are computed for so many segments at once: thirty small operations per batch would take as long as gathering it.
_SEGMENTS_AT_ONCE = 2048
_SHIFT = 0.05  # share of a segment's length by which a test view moves its window


@dataclass(frozen=True)
class TtaView:
    """One of the views of segments that test-time augmentation averages over.

    Attributes:
        views: of each feature set, the number of a view among those that are read.
        shift: -1, 0 or 1: windows in dense sets lie a little before, at or after the segment. The move is a twentieth
            of its length, at least one step.
    """

    views: tuple[int, ...]
    shift: int


def batches(
    chunk: Chunk,
    order: torch.Tensor,
    batch_size: int,
    *,
    inputs: InputSettings,
    device: torch.device,
    augmentation: Augmentation | None = None,
    tta_view: TtaView | None = None,
) -> Iterator[Batch]:
    """Return segments of a chunk in this order, `batch_size` at a time; the last batch may be smaller.

    With `inputs.window`, segments come in windows that they share, `batch_size` or more at a time, and in evaluation
    each comes once per window that holds it.

    Args:
        order: (S,) int64 positions in the chunk.
        device: the device of the batches.
        augmentation: in training; random numbers come from torch's global generator.
        tta_view: in evaluation; by default the first view, and windows at the segment itself.
    """
    if inputs.window is not None:
        views = None if tta_view is None else tta_view.views
        yield from window_batches(
            chunk, order, batch_size, inputs=inputs, device=device, augmentation=augmentation, views=views
        )
        return
    for block in order.split(max(1, _SEGMENTS_AT_ONCE // batch_size) * batch_size):
        computed = _compute_rows(chunk, block, inputs, augmentation, tta_view)
        sizes = [len(part) for part in block.split(batch_size)]
        pieces = [
            rows.split(sizes, stream.features.device) for rows, stream in zip(computed, chunk.streams, strict=True)
        ]
        indices = moved(chunk.index[block], device).split(sizes)
        for index, *by_stream in zip(indices, *pieces, strict=True):
            if inputs.fusion == "early":
                by_stream[1:] = [_aligned(by_stream[0], rows) for rows in by_stream[1:]]
            streams = (gathered(stream, rows, device) for stream, rows in zip(chunk.streams, by_stream, strict=True))
            yield Batch(tuple(streams), index)


def _compute_rows(
    chunk: Chunk,
    positions: torch.Tensor,
    inputs: InputSettings,
    augmentation: Augmentation | None,
    tta_view: TtaView | None,
) -> list[Rows]:
    """Return the rows of segments in each stream, augmented; with early fusion, not aligned yet."""
    moves = None if augmentation is None else _draw_moves(len(positions), augmentation)
    by_stream = []
    for number, stream in enumerate(chunk.streams):
        # With early fusion, the first set has the times of the steps, and the others follow it.
        follows = number > 0 and inputs.fusion == "early"
        clock = chunk.streams[0] if follows else stream
        if tta_view is not None and tta_view.shift:
            moves = _shifted(stream, positions, tta_view.shift)
        rows = _window_rows(chunk, stream, positions, inputs, moves if clock.is_dense else None)
        if augmentation is not None and augmentation.draw_steps and not stream.is_dense and not follows:
            rows = _drawn(rows, stream, positions, augmentation.draw_steps)
        if augmentation is not None and augmentation.step_dropout and not follows:
            rows = thinned(rows, augmentation)
        view = 0 if tta_view is None else tta_view.views[number]
        by_stream.append(with_view(rows, stream, positions, view if augmentation is None else None))
    return by_stream


@dataclass(frozen=True, eq=False)
class _Moves:
    """Changes of the segments of a batch in time, (B,) each.

    Attributes:
        start, stop: the move of each end, as a share of the segment's length.
        speed: factor on the segment's speed.
    """

    start: torch.Tensor
    stop: torch.Tensor
    speed: torch.Tensor


def _draw_moves(num_segments: int, augmentation: Augmentation) -> _Moves | None:
    if not augmentation.jitter and not augmentation.speed:
        return None
    start, stop, speed = torch.rand(3, num_segments) * 2 - 1
    return _Moves(start * augmentation.jitter, stop * augmentation.jitter, 1 + speed * augmentation.speed)


def _shifted(stream: Stream, positions: torch.Tensor, shift: int) -> _Moves:
    """Return a move of both ends by a twentieth of the segment's length, at least one step."""
    length = stream.inner_stop[positions] - stream.inner_first[positions]
    share = shift * torch.maximum(torch.tensor(_SHIFT), 1 / length)
    return _Moves(share, share, torch.ones(len(positions)))


def _window_rows(
    chunk: Chunk, stream: Stream, positions: torch.Tensor, inputs: InputSettings, moves: _Moves | None
) -> Rows:
    """Return the rows of each segment's window, thinned evenly if there are more than `max_steps`.

    Args:
        moves: the change of time. In a set by segment the steps stay the same, and only their seconds change.
    """
    first, stop, inner_first, inner_stop = (
        bound.index_select(0, positions) for bound in (stream.first, stream.stop, stream.inner_first, stream.inner_stop)
    )
    if moves is not None and stream.is_dense:
        low, high = stream.video_first[positions], stream.video_stop[positions]
        length = inner_stop - inner_first
        by_start, by_stop = ((share * length).round().long() for share in (moves.start, moves.stop))
        inner_first = torch.minimum((inner_first + by_start).maximum(low), high - 1)
        inner_stop = torch.minimum(inner_stop + by_stop, high).maximum(inner_first + 1)
        first = torch.minimum((first + by_start).maximum(low), inner_first)
        stop = torch.minimum(stop + by_stop, high).maximum(inner_stop)
    length = stop - first
    count = length
    if moves is not None and stream.is_dense:
        count = (length / moves.speed).round().long().clamp(min=1)
    if inputs.max_steps is not None:
        count = count.clamp(max=inputs.max_steps)
    step = torch.arange(int(count.max()))
    mask = step < count[:, None]
    if torch.equal(count, length):
        rows = torch.where(mask, first[:, None] + step, first[:, None])
    else:
        middle = (inner_first + inner_stop - 1) // 2
        rows = torch.where(mask, first[:, None] + evenly_spaced(length, count, middle - first), first[:, None])
    seconds = stream.seconds.index_select(0, rows.flatten()).view(rows.shape) - chunk.middle_s[positions, None]
    if moves is not None:
        seconds = seconds / moves.speed[:, None]
    return Rows(
        rows=rows,
        mask=mask,
        seconds=torch.where(mask, seconds, 0.0),
        within=mask & (inner_first[:, None] <= rows) & (rows < inner_stop[:, None]),
    )


def _drawn(rows: Rows, stream: Stream, positions: torch.Tensor, num_steps: int) -> Rows:
    """Return some random rows of each segment, in their order; of each neighbour among the context as many."""
    first = stream.inner_first.index_select(0, positions)[:, None]
    length = stream.inner_stop.index_select(0, positions)[:, None] - first
    # Rows of neighbours lie beside those of the segment itself. Each neighbour is taken to have as many.
    segment = torch.div(rows.rows - first, length, rounding_mode="floor")
    chance = torch.where(rows.mask, segment + torch.rand(rows.mask.shape, dtype=torch.float64), torch.inf)
    order = chance.argsort(dim=1)  # segment by segment, at random within each
    ordered = segment.gather(1, order)
    place = torch.arange(order.shape[1]).expand_as(order)
    begins = torch.ones_like(rows.mask)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    place_in_segment = place - torch.where(begins, place, 0).cummax(dim=1).values
    kept = torch.zeros_like(rows.mask).scatter(1, order, place_in_segment < num_steps)
    return kept_rows(rows, kept & rows.mask)


def _aligned(clock: Rows, other: Rows) -> Rows:
    """Return for each step of the clock the other stream's step that is nearest in time."""
    if torch.equal(clock.seconds, other.seconds) and torch.equal(clock.mask, other.mask):
        return Rows(other.rows, clock.mask, clock.seconds, clock.within)
    distance = (clock.seconds[:, :, None] - other.seconds[:, None, :]).abs()  # (B, T, T of the other stream)
    nearest = distance.masked_fill(~other.mask[:, None, :], torch.inf).argmin(dim=2)
    return Rows(other.rows.gather(1, nearest), clock.mask, clock.seconds, clock.within)


def statistics(split: Split) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return mean and standard deviation (D,) float32 of the steps of a split, for each stream.

    The deviation of a dimension that never changes is given as 1. Sums are float64 and taken in pieces: float32 sums
    are not exact enough for 67,000 segments of 16 steps.
    """
    dims = [source.featureset.dim for source in split.sources]
    sums = [torch.zeros(2, dim, dtype=torch.float64) for dim in dims]
    counts = [0] * len(dims)
    for chunk, _ in split.chunks():
        for number, stream in enumerate(chunk.streams):
            rows = stream.features.view(-1, dims[number])
            counts[number] += len(rows)
            for piece in rows.split(65_536):
                values = piece.cpu().double()
                sums[number] += torch.stack([values.sum(dim=0), values.square().sum(dim=0)])
    return [_mean_std(*(total / count)) for total, count in zip(sums, counts, strict=True)]


def _mean_std(mean: torch.Tensor, mean_square: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    std = (mean_square - mean.square()).clamp(min=0).sqrt()
    std[std < 1e-6 * mean.abs().clamp(min=1)] = 1.0
    return mean.float(), std.float()
