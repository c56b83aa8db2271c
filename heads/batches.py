"""Features of a split in memory, and batches of them. Knows no head.

Features stay float16 and are loaded once, onto the device where they fit; a batch is two index operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from features.annotations import Segments
from features.errors import DataError, first_few
from features.store import read_segments_of


@dataclass(frozen=True, eq=False)
class Split:
    """Segments with their features.

    Attributes:
        segments: those that have features, S of them.
        features: (N, D) float16, the steps of all segments, one after the other.
        offset: (S + 1,) int64; the steps of segment s are rows offset[s]:offset[s + 1].
        num_missing: how many segments of the annotations have no features.
    """

    segments: Segments
    features: torch.Tensor
    offset: torch.Tensor
    num_missing: int

    def __len__(self) -> int:
        return len(self.segments)

    def __repr__(self) -> str:
        return f"Split({len(self)} segments, features {tuple(self.features.shape)}, {self.num_missing} missing)"


@dataclass(frozen=True, eq=False)
class Batch:
    """B segments, padded to the longest of them.

    Attributes:
        features: (B, T, D) float32.
        mask: (B, T) bool, true where a step is one of the segment's.
        index: (B,) int64, which segments of the split these are.
    """

    features: torch.Tensor
    mask: torch.Tensor
    index: torch.Tensor


def load_split(root: Path, segments: Segments, *, allow_missing: bool, device: torch.device) -> Split:
    """Load the features of a split's segments.

    Args:
        allow_missing: go on with the segments that have features where some have none.

    Raises:
        DataError: segments have no features (all of them, or any without `allow_missing`), were extracted from
            another interval than the annotations say, or the feature set is damaged.
    """
    found = read_segments_of(root, segments)
    has = np.isin(segments.narration_id.astype(str), np.array(found.narration_id, dtype=str))
    missing = segments.narration_id[~has]
    if len(missing) and (not allow_missing or not has.any()):
        remedy = "extract them" + (", or --allow-missing to do without" if has.any() else "")
        raise DataError(
            f"{root}: no features for {len(missing)} of {len(segments)} segments of {segments.source} "
            f"({first_few(missing)}); {remedy}."
        )
    return Split(
        segments=segments.where(has),
        features=torch.from_numpy(found.features).to(device),
        offset=torch.from_numpy(found.offset).to(device),
        num_missing=len(missing),
    )


def statistics(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """Give mean and standard deviation (D,) float32 of a split's steps; 1 where a dimension never changes.

    Summed in float64 and in pieces: 67,000 segments of 16 steps are more than float32 sums hold to.
    """
    pieces = split.features.cpu().split(65_536)
    total = sum(piece.double().sum(dim=0) for piece in pieces)
    mean = total / len(split.features)
    variance = sum((piece.double() - mean).square().sum(dim=0) for piece in pieces) / len(split.features)
    std = variance.sqrt()
    std[std < 1e-6] = 1.0
    return mean.float(), std.float()


def batches(split: Split, order: torch.Tensor, batch_size: int) -> Iterator[Batch]:
    """Give the segments of a split in this order, `batch_size` at a time; the last batch may be smaller.

    Args:
        order: indices into the split, on the split's device.
    """
    for index in order.split(batch_size):
        start, stop = split.offset[index], split.offset[index + 1]
        length = stop - start
        time = torch.arange(int(length.max()), device=index.device)
        mask = time < length[:, None]  # (B, T)
        rows = torch.where(mask, start[:, None] + time, 0)
        yield Batch(split.features[rows].float(), mask, index)
