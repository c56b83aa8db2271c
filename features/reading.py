"""A feature set from Python, as `features.open` gives it: arrays per video, segments as a torch Dataset. Read only."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from features.annotations import read_all_segments
from features.errors import unknown_name
from features.featureset import FeatureSet, read_featureset
from features.store import VideoFeatures, need_regions, read_video, video_ids, video_path

if TYPE_CHECKING:
    from features.segment_dataset import SegmentDataset


def open(root: str | PathLike[str], *, view: str | None = None) -> OpenFeatureSet:
    """Open a feature set for reading.

    >>> features = open("data/features/resnet50-seg16")                     # doctest: +SKIP
    >>> video = features["P01_101"]                                         # doctest: +SKIP
    >>> video.features, video.seconds                                       # doctest: +SKIP
    >>> dataset = features.dataset("data/annotations/EPIC_100_train.csv")   # doctest: +SKIP

    Args:
        root: the folder that `extract run --out` has written.
        view: the name of one view to read, such as "centre"; by default all views that a video's file has.

    Raises:
        DataError: the folder is not a feature set.
        OptionError: the feature set has no such view.
    """
    return OpenFeatureSet(Path(root), view=view)


class OpenFeatureSet:
    """A feature set that is read: its record, its videos by id, and its segments as a torch Dataset.

    It holds no open file, so it can be pickled, copied and used in several processes. Videos that are extracted later
    appear by themselves.

    Attributes:
        root: the folder.
        featureset: the record of what the features are: backbone, weights, sampling, views, dim and more.
        views: names of the views that the set has, or of the one that is read. A video may have fewer of them:
            `VideoFeatures.views` names its own.
    """

    def __init__(self, root: Path, *, view: str | None = None) -> None:
        self.root = root
        self.featureset: FeatureSet = read_featureset(root)
        if view is not None and view not in self.featureset.views:
            raise unknown_name("view", f"view of {root}", view, self.featureset.views)
        self.views: tuple[str, ...] = self.featureset.views if view is None else (view,)
        self._asked: tuple[str, ...] | None = None if view is None else (view,)

    def __repr__(self) -> str:
        width = f"{len(self.views)} view{'s' * (len(self.views) > 1)} x {self.featureset.dim}"
        return f"OpenFeatureSet({self.root}, {self.featureset.backbone}, {len(self)} videos, {width})"

    @property
    def video_ids(self) -> list[str]:
        """The ids of the videos that have features, sorted."""
        return video_ids(self.root)

    def __len__(self) -> int:
        """Return the number of videos that have features."""
        return len(self.video_ids)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids of the videos."""
        return iter(self.video_ids)

    def __contains__(self, video_id: object) -> bool:
        """Return whether a video has features."""
        return isinstance(video_id, str) and video_path(self.root, video_id).is_file()

    def __getitem__(self, video_id: str) -> VideoFeatures:
        """Read a video: features (N, V, D) float16, seconds (N,), frame (N,) and segments; has_region (N, cells) bool.

        The steps of segment s are rows offset[s]:offset[s + 1]; a dense set has no segments. `has_region` is None in a
        set without regions.

        Raises:
            DataError: the video has no features or not the view, its file is damaged, or the file was made with other
                settings.
        """
        video = read_video(self.root, video_id, digest=self.featureset.digest, views=self._asked)
        need_regions(video_path(self.root, video_id), self.featureset, video.has_region)
        return video

    def dataset(
        self, annotations: str | PathLike[str], *more: str | PathLike[str], allow_missing: bool = False
    ) -> SegmentDataset:
        """Return the segments of annotation files as a torch Dataset, in the order of the files.

        An item is described at `SegmentDataset`. Of the views, the first is read.

        Args:
            annotations, more: annotation CSVs, or the folder that holds them.
            allow_missing: leave out segments that have no features instead of raising an error.

        Raises:
            DataError: an annotation file is wrong, segments have no features, or they were extracted from other
                intervals than the annotations give.
        """
        from features.segment_dataset import SegmentDataset

        segments = read_all_segments(map(Path, (annotations, *more)))
        return SegmentDataset(self.root, self.featureset, segments, view=self.views[0], allow_missing=allow_missing)
