"""Reading the features of one video into memory, and checking them once."""

from __future__ import annotations

import numpy as np

from features.annotations import Segments
from features.direct import FeaturesLocation, find_features, read_unchanged
from features.errors import DataError
from features.store import Stored, read_features, video_path, view_columns
from features.windows import Windows
from heads.data.layout import Source, VideoLayout

_NOT_FINITE = 0x7C00  # the exponent bits of a float16 that is infinite or NaN


class VideoReader:
    """Reads the features of videos, and checks those of each file until it changes.

    Args:
        segments: the segments of the split, for error messages.
        reads_again: whether files are read more than once. Then their layout is remembered after the first time, so
            that they can be read without HDF5.
    """

    def __init__(self, segments: Segments, sources: tuple[Source, ...], *, reads_again: bool) -> None:
        self._segments, self._sources, self._reads_again = segments, sources, reads_again
        # (number of the source, video_id) -> where the features lie in a file that was read and checked.
        self._checked: dict[tuple[int, str], FeaturesLocation | None] = {}

    def read(self, number: int, video: VideoLayout, out: np.ndarray) -> None:
        """Read the rows of a video that are used from source `number` into `out` (N, V, D) float16.

        V are the views of the source. Where a video lacks one, its first view stands in the place.

        Raises:
            DataError: the file is damaged, or a value is not finite.
        """
        source, windows, key = self._sources[number], video.windows[number], (number, video.video_id)
        file_layout = self._checked.get(key)
        if file_layout is not None and (features := read_unchanged(file_layout, out=out)) is not None:
            _copy_used(Stored(features, file_layout.views), out, source, windows.rows)
            return
        digest = source.featureset.digest
        file_layout = find_features(source.root, video.video_id, digest=digest) if self._reads_again else None
        stored = read_features(source.root, video.video_id, digest=digest, out=out)
        features, num_views, dim = stored.features, len(stored.views), source.featureset.dim
        if (
            features.dtype != np.float16
            or features.shape[1:] != (num_views, dim)
            or len(features) <= windows.rows.max()
        ):
            path = video_path(source.root, video.video_id)
            raise DataError(
                f"{path}: features are {features.dtype} {features.shape}, not float16 "
                f"({windows.rows.max() + 1} or more, {num_views}, {dim}); delete the file and run the extraction again."
            )
        view_columns(video_path(source.root, video.video_id), stored.views, video.views[number])
        _copy_used(stored, out, source, windows.rows)
        self._need_finite(source, video, windows, out)
        self._checked[key] = file_layout

    def _need_finite(self, source: Source, video: VideoLayout, windows: Windows, features: np.ndarray) -> None:
        bad = (features.view(np.int16) & _NOT_FINITE) == _NOT_FINITE
        if not bad.any():
            return
        row = int(np.flatnonzero(bad.any(axis=(1, 2)))[0])
        names = self._segments.narration_id[video.index[(windows.inner_first <= row) & (row < windows.inner_stop)]]
        owner = f"segment {names[0]}" if len(names) else f"step {windows.rows[row]}"
        raise DataError(
            f"{video_path(source.root, video.video_id)}: features of {owner} are not finite; delete the file and run "
            "the extraction again."
        )


def _copy_used(stored: Stored, out: np.ndarray, source: Source, rows: np.ndarray) -> None:
    """Copy the rows and views that are used into `out`, unless the file has no others and was read into it."""
    features, own = stored.features, stored.views
    is_all = source.views == own and np.array_equal(rows, np.arange(len(features)))
    if features is not out or not is_all:
        columns = [own.index(view if view in own else source.views[0]) for view in source.views]
        out[:] = features[rows[:, None], columns]
