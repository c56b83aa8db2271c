"""Batches of segments: which rows each one sees, and gathering these. Knows no head and no file.

Rows are reckoned on the CPU, as integers; features are gathered as float16 where they lie, and become float32 in the
model, which has to touch them anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from heads.config import Augmentation, InputSettings
from heads.data.chunks import Chunk, Split, Stream
from heads.data.steps import Steps

# Rows are reckoned for so many segments at a time: thirty small operations a batch would take as long as gathering it.
_SEGMENTS_AT_ONCE = 2048
_SHIFT = 0.05  # of a segment's length, for a glance beside it


@dataclass(frozen=True, eq=False)
class Batch:
    """B segments.

    Attributes:
        streams: the steps of each feature set, features (B, T, D) float16; where sets are fused early, all have the
            steps of the first.
        index: (B,) int64, which segments of the split these are.
    """

    streams: tuple[Steps, ...]
    index: torch.Tensor


@dataclass(frozen=True)
class TtaView:
    """One of several ways to look at segments, for test-time augmentation.

    Attributes:
        views: which of the views that are read, of each feature set.
        shift: -1, 0 or 1, whether windows in dense sets lie a little before, at or after the segment: by a twentieth of
            its length, and by a step at the least.
    """

    views: tuple[int, ...]
    shift: int


@dataclass(frozen=True, eq=False)
class _Rows:
    """What segments see of one stream, (B, T) each.

    Attributes:
        rows: places in the stream's features, its views one after the other: row * V + view.
        mask, seconds, within: as those of Steps.
    """

    rows: torch.Tensor
    mask: torch.Tensor
    seconds: torch.Tensor
    within: torch.Tensor

    @property
    def _parts(self) -> tuple[torch.Tensor, ...]:
        return self.rows, self.mask, self.seconds, self.within

    def take(self, order: torch.Tensor) -> _Rows:
        """Give them in another order, (B, T') places in T."""
        return _Rows(*(part.gather(1, order) for part in self._parts))

    def split(self, batch_size: int, home: torch.device) -> Iterator[_Rows]:
        """Give them a batch at a time, none wider than it needs, on the device where the features are."""
        lengths = self.mask.sum(dim=1).tolist()
        widths = [max(lengths[first : first + batch_size]) for first in range(0, len(lengths), batch_size)]
        pieces = (part.to(home, non_blocking=True).split(batch_size) for part in self._parts)
        for width, *parts in zip(widths, *pieces, strict=True):
            yield _Rows(*parts) if width == self.mask.shape[1] else _Rows(*(part[:, :width] for part in parts))


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
    """Give segments of a chunk in this order, `batch_size` at a time; the last batch may be smaller.

    Args:
        order: (S,) int64 places in the chunk.
        device: where batches are wanted.
        augmentation: in training; random numbers come from torch's global generator.
        glance: in evaluation; by default at the first view, and at the segment itself.
    """
    for block in order.split(max(1, _SEGMENTS_AT_ONCE // batch_size) * batch_size):
        reckoned = _reckoned(chunk, block, inputs, augmentation, tta_view)
        pieces = [
            one.split(batch_size, stream.features.device) for one, stream in zip(reckoned, chunk.streams, strict=True)
        ]
        for index, *found in zip(chunk.index[block].split(batch_size), *pieces, strict=True):
            if inputs.fusion == "early":
                found[1:] = [_aligned(found[0], other) for other in found[1:]]
            streams = (_gathered(stream, one, device) for stream, one in zip(chunk.streams, found, strict=True))
            yield Batch(tuple(streams), index.to(device, non_blocking=True))


def _reckoned(
    chunk: Chunk,
    places: torch.Tensor,
    inputs: InputSettings,
    augmentation: Augmentation | None,
    tta_view: TtaView | None,
) -> list[_Rows]:
    """Give the rows of segments in each stream, as augmented; where sets are fused early, not yet aligned."""
    moves = None if augmentation is None else _draw_moves(len(places), augmentation)
    found = []
    for place, stream in enumerate(chunk.streams):
        # Of sets that are fused early, the first one says when a step is: the others follow it.
        follows = place > 0 and inputs.fusion == "early"
        clock = chunk.streams[0] if follows else stream
        if tta_view is not None and tta_view.shift:
            moves = _shifted(stream, places, tta_view.shift)
        one = _rows(chunk, stream, places, inputs, moves if clock.is_dense else None)
        if augmentation is not None and augmentation.step_dropout and not follows:
            one = _thinned(one, augmentation)
        view = 0 if tta_view is None else tta_view.views[place]
        found.append(_of_a_view(one, stream, view if augmentation is None else None))
    return found


def _of_a_view(one: _Rows, stream: Stream, view: int | None) -> _Rows:
    """Take a view, for each segment one at random where it is None: rows become places among all views."""
    num_views = stream.features.shape[1]
    if num_views == 1:
        return one
    chosen = torch.randint(num_views, (len(one.rows), 1)) if view is None else view
    return replace(one, rows=one.rows * num_views + chosen)


def _gathered(stream: Stream, one: _Rows, device: torch.device) -> Steps:
    """Gather features, (B, T, D) float16. index_select takes a quarter of the time that indexing by a tensor does."""
    dim = stream.features.shape[2]
    features = stream.features.view(-1, dim).index_select(0, one.rows.flatten()).view(*one.rows.shape, dim)
    parts = features, one.mask, one.seconds, one.within
    return (
        Steps(*parts) if features.device == device else Steps(*(part.to(device, non_blocking=True) for part in parts))
    )


@dataclass(frozen=True, eq=False)
class _Moves:
    """How the segments of a batch are changed in time, (B,) each.

    Attributes:
        start, stop: by what share of its length each end moves.
        speed: how much faster it runs.
    """

    start: torch.Tensor
    stop: torch.Tensor
    speed: torch.Tensor


def _draw_moves(num_segments: int, augmentation: Augmentation) -> _Moves | None:
    if not augmentation.jitter and not augmentation.speed:
        return None
    start, stop, speed = torch.rand(3, num_segments) * 2 - 1
    return _Moves(start * augmentation.jitter, stop * augmentation.jitter, 1 + speed * augmentation.speed)


def _shifted(stream: Stream, places: torch.Tensor, shift: int) -> _Moves:
    """Give a move of both ends by a twentieth of the segment's length, and a step at the least."""
    length = stream.inner_stop[places] - stream.inner_first[places]
    share = shift * torch.maximum(torch.tensor(_SHIFT), 1 / length)
    return _Moves(share, share, torch.ones(len(places)))


def _rows(chunk: Chunk, stream: Stream, places: torch.Tensor, inputs: InputSettings, moves: _Moves | None) -> _Rows:
    """Give the rows of each segment's window, thinned evenly where there are more than `max_steps`.

    Args:
        moves: how time changes; the steps of a set by segment stay, and only when they are changes.
    """
    first, stop, inner_first, inner_stop = (
        part.index_select(0, places) for part in (stream.first, stream.stop, stream.inner_first, stream.inner_stop)
    )
    if moves is not None and stream.is_dense:
        low, high = stream.video_first[places], stream.video_stop[places]
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
    count = count.clamp(max=inputs.max_steps)
    step = torch.arange(int(count.max()))
    mask = step < count[:, None]
    if torch.equal(count, length):
        rows = torch.where(mask, first[:, None] + step, first[:, None])
    else:
        # The middle of each of `count` equal parts of the window, in whole numbers: exact.
        rows = first[:, None] + (2 * step + 1) * length[:, None] // (2 * count[:, None])
        rows = torch.where(mask, rows, first[:, None])
        middle = (inner_first + inner_stop - 1) // 2
        own = (2 * (middle - first) + 1) * count // (2 * length)  # in whose part the segment's middle lies
        rows.scatter_(1, own[:, None], middle[:, None])  # so that thinning never takes all of a short segment
    seconds = stream.seconds.index_select(0, rows.flatten()).view(rows.shape) - chunk.middle_s[places, None]
    if moves is not None:
        seconds = seconds / moves.speed[:, None]
    return _Rows(
        rows=rows,
        mask=mask,
        seconds=torch.where(mask, seconds, 0.0),
        within=mask & (inner_first[:, None] <= rows) & (rows < inner_stop[:, None]),
    )


def _thinned(one: _Rows, augmentation: Augmentation) -> _Rows:
    """Leave out steps at random, but never all of a segment's own."""
    chance = torch.rand(one.mask.shape)
    kept = one.mask & (chance >= augmentation.step_dropout)
    spared = torch.where(one.within, chance, -1.0).argmax(dim=1, keepdim=True)
    kept.scatter_(1, spared, True)
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(kept.sum(dim=1).max())]
    moved = one.take(order)
    kept = kept.gather(1, order)
    return _Rows(moved.rows, kept, torch.where(kept, moved.seconds, 0.0), moved.within & kept)


def _aligned(clock: _Rows, other: _Rows) -> _Rows:
    """Give for each step of the clock the other stream's step that is nearest in time."""
    if torch.equal(clock.seconds, other.seconds) and torch.equal(clock.mask, other.mask):
        return _Rows(other.rows, clock.mask, clock.seconds, clock.within)
    distance = (clock.seconds[:, :, None] - other.seconds[:, None, :]).abs()  # (B, T, T of the other)
    nearest = distance.masked_fill(~other.mask[:, None, :], torch.inf).argmin(dim=2)
    return _Rows(other.rows.gather(1, nearest), clock.mask, clock.seconds, clock.within)


def statistics(split: Split) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Give mean and standard deviation (D,) float32 of the steps of a split, for each stream.

    1 stands for the deviation of a dimension that never changes. Summed in float64 and in pieces: 67,000 segments of
    16 steps are more than float32 sums hold to.
    """
    dims = [source.featureset.dim for source in split.sources]
    sums = [torch.zeros(2, dim, dtype=torch.float64) for dim in dims]
    counts = [0] * len(dims)
    for chunk, _ in split.chunks():
        for place, stream in enumerate(chunk.streams):
            rows = stream.features.view(-1, dims[place])
            counts[place] += len(rows)
            for piece in rows.split(65_536):
                values = piece.cpu().double()
                sums[place] += torch.stack([values.sum(dim=0), values.square().sum(dim=0)])
    return [_mean_std(*(total / count)) for total, count in zip(sums, counts, strict=True)]


def _mean_std(mean: torch.Tensor, mean_square: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    std = (mean_square - mean.square()).clamp(min=0).sqrt()
    std[std < 1e-6 * mean.abs().clamp(min=1)] = 1.0
    return mean.float(), std.float()
