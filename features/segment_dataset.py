"""The segments of a feature set as a torch Dataset, for training loops of one's own. Knows no head and no batch.

The project's own heads are trained through heads/data instead, which keeps features in memory and is faster.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset

from features.annotations import Segments
from features.errors import DataError, first_few
from features.featureset import FeatureSet
from features.intervals import segment_times
from features.store import read_held_segments, read_rows, video_ids
from features.windows import windows_by_time


class _Steps(TypedDict):
    features: torch.Tensor
    seconds: torch.Tensor
    narration_id: str


class SegmentItem(_Steps, total=False):
    """One segment: features (T, D) float32, seconds (T,) float64, narration_id, and its labels where the split has any.

    In a set with regions, has_region (T, cells) bool says which cells each step has. It is missing, not None, in other
    sets, and so are verb_class and noun_class where the annotations withhold them, so that torch's default collate
    function takes these items as well.
    """

    has_region: torch.Tensor
    verb_class: int
    noun_class: int


class SegmentDataset(Dataset[SegmentItem]):
    """Segments with their steps; item i is the i-th segment, as `SegmentItem` describes it.

    T is the same for all segments of a set sampled by segment. In a dense set T grows with the length of the segment,
    so a DataLoader needs a `collate_fn` that pads, such as one that calls `torch.nn.utils.rnn.pad_sequence`.

    A file is opened, read and closed within the call for an item, that is, in the DataLoader's worker: an HDF5 file
    that was opened before the worker started would give wrong data there (pytorch #11887, #11929).

    Args:
        view: the name of the view that is read; by default the first of the set.
        allow_missing: leave out segments that have no features.

    Attributes:
        segments: those that have features, one per item.
        num_missing: how many segments were left out.

    Raises:
        DataError: segments have no features, or they were extracted from other intervals than the annotations give.
    """

    def __init__(
        self,
        root: Path,
        featureset: FeatureSet,
        segments: Segments,
        *,
        view: str | None = None,
        allow_missing: bool = False,
    ) -> None:
        self._root = root
        self._digest = featureset.digest
        self._view = featureset.views[0] if view is None else view
        located: dict[str, _Location] = {}
        available = set(video_ids(root))
        for video_id, rows in segments.by_video():
            if video_id in available:
                located.update(_locate(root, featureset, video_id, rows, self._view))
        has_features = np.array([name in located for name in segments.narration_id])
        if not has_features.any() or not (has_features.all() or allow_missing):
            names = segments.narration_id[~has_features]
            remedy = "extract them" + (", or leave them out with allow_missing=True" if has_features.any() else "")
            raise DataError(
                f"{root}: no features for {len(names)} of {len(segments)} segments of {segments.source} "
                f"({first_few(names)}); {remedy}."
            )
        self.segments = segments.where(has_features)
        self.num_missing = int((~has_features).sum())
        self._names = [str(name) for name in self.segments.narration_id]
        self._locations = [located[name] for name in self._names]
        self._labels: list[tuple[int, int]] | None = None
        if self.segments.is_labelled:
            self._labels = list(zip(self.segments.verb_class.tolist(), self.segments.noun_class.tolist(), strict=True))

    def __len__(self) -> int:
        """Return the number of segments."""
        return len(self._names)

    def __getitem__(self, index: int) -> SegmentItem:
        """Read one segment.

        Raises:
            DataError: the video's file is gone, damaged, or was made with other settings.
        """
        video_id, rows, seconds, has_region = self._locations[index]
        features = read_rows(self._root, video_id, rows, digest=self._digest, view=self._view)
        item: SegmentItem = {
            "features": torch.from_numpy(features.astype(np.float32)),
            "seconds": torch.from_numpy(seconds.copy()),
            "narration_id": self._names[index],
        }
        if has_region is not None:
            item["has_region"] = torch.from_numpy(has_region.copy())
        if self._labels is not None:
            item["verb_class"], item["noun_class"] = self._labels[index]
        return item


class _Location(NamedTuple):
    """Where the steps of a segment lie: rows of a video's file, and the seconds and regions of these rows."""

    video_id: str
    rows: slice
    seconds: np.ndarray
    has_region: np.ndarray | None


def _locate(root: Path, featureset: FeatureSet, video_id: str, segments: Segments, view: str) -> dict[str, _Location]:
    """Return where the steps of a video's segments lie, by narration_id, for the segments that have the view."""
    times, held = read_held_segments(root, video_id, featureset, segment_times(segments), views=[view])
    if featureset.sampling.kind == "dense":
        windows = windows_by_time(times.seconds, held)
        runs = zip(windows.inner_first.tolist(), windows.inner_stop.tolist(), strict=True)
    else:
        runs = zip(times.offset[:-1].tolist(), times.offset[1:].tolist(), strict=True)
    regions = times.has_region
    return {
        name: _Location(
            video_id, slice(first, stop), times.seconds[first:stop], None if regions is None else regions[first:stop]
        )
        for name, (first, stop) in zip(held.narration_id, runs, strict=True)
    }
