"""One video of published features becomes one of a feature set, once it agrees with the annotations.

What the set holds already is not read again.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import DataError
from features.failures import Failure, FailureKind, write_failures
from features.featureset import FILE_NAME, FeatureSet, create_featureset, read_featureset
from features.formats.source import Rows, Source, WrongRowsError
from features.intervals import NO_SEGMENTS, SegmentTimes, covered, need_same_times
from features.merging import joined
from features.store import VideoFeatures, read_source, read_times, read_video, video_path, write_video
from features.views import CENTRE

# Extracted frames exceed a video's published length by a fraction of a second.
_END_TOLERANCE_S = 1.0


class VideoImporter:
    """Writes the videos of a source into a set.

    Args:
        record: the record of the set, but for `dim`, which the first array tells.
        path: what the user named, for messages.
        video_info: video_id -> length in seconds, and frames per second.

    Attributes:
        others: what else the videos that were gone through hold, as their files say: features of other files.
    """

    def __init__(
        self, out: Path, source: Source, record: FeatureSet, path: Path, video_info: Mapping[str, Any]
    ) -> None:
        self._out, self._source, self._record, self._path, self._info = out, source, record, path, video_info
        self._places = {str(place) for file in set(source.files.values()) for place in (file, file.parent)}
        self.others: set[str] = set()
        self._featureset: FeatureSet | None = None
        if (out / FILE_NAME).is_file():
            self._featureset = create_featureset(out, replace(record, dim=read_featureset(out).dim))

    @property
    def has_lengths(self) -> bool:
        """Whether the lengths of videos are known."""
        return bool(self._info)

    def import_video(self, video_id: str, annotated: SegmentTimes) -> Counter[str]:
        """Import what the set lacks of a video, record what fails, and return how many segments did what."""
        if self._is_stored(video_id):
            self._note_source(video_id)
        import_kind = self._import_dense if self._source.is_dense else self._import_segments
        kept, failures = import_kind(video_id, annotated)
        write_failures(self._out, video_id, failures)
        num_kept, num_failed = kept, len(failures)
        return Counter(kept=num_kept, failed=num_failed, done=len(annotated.narration_id) - num_kept - num_failed)

    def _import_dense(self, video_id: str, annotated: SegmentTimes) -> tuple[int, list[Failure]]:
        is_stored = self._is_stored(video_id)
        if is_stored:
            assert self._featureset is not None
            seconds = read_times(self._out, video_id, digest=self._featureset.digest).seconds
        else:
            try:
                rows = self._read(video_id)
                assert rows.seconds is not None
                self._need_times(video_id, rows.seconds)
            except WrongRowsError as error:
                return 0, [Failure(name, FailureKind.WRONG_ROWS, str(error)) for name in annotated.narration_id]
            seconds = rows.seconds
            self._write(self._video(video_id, rows.features, seconds, NO_SEGMENTS, np.zeros(1, dtype=np.int64)))
        every_s = self._source.sampling.every_s
        assert every_s is not None
        is_covered = covered(seconds, annotated.start_s, annotated.stop_s, every_s)
        failures = [
            Failure(
                name,
                FailureKind.NOT_IN_SOURCE,
                f"{self._source.files[video_id]}, segment {name}: it lasts from {start:.2f} to {stop:.2f} s, and the "
                f"rows from {seconds[0]:.2f} to {seconds[-1]:.2f} s do not cover it",
            )
            for name, start, stop, has_rows in zip(
                annotated.narration_id, annotated.start_s, annotated.stop_s, is_covered, strict=True
            )
            if not has_rows
        ]
        return (len(annotated.narration_id) - len(failures)) * is_stored, failures

    def _import_segments(self, video_id: str, annotated: SegmentTimes) -> tuple[int, list[Failure]]:
        stored = None
        if self._is_stored(video_id):
            assert self._featureset is not None
            stored = read_times(self._out, video_id, digest=self._featureset.digest).segments
            need_same_times(video_path(self._out, video_id), annotated, stored)
        has_features = set() if stored is None else set(stored.narration_id)
        num_kept = len(has_features.intersection(annotated.narration_id))
        parts, failures = [], []
        for name, start, stop in zip(annotated.narration_id, annotated.start_s, annotated.stop_s, strict=True):
            if name in has_features:
                continue
            if name not in self._source.files:
                message = f"{self._path}: holds no features of segment {name}"
                failures.append(Failure(name, FailureKind.NOT_IN_SOURCE, message))
                continue
            try:
                parts.append((name, start, stop, self._rows_of_segment(video_id, name, start, stop)))
            except WrongRowsError as error:
                failures.append(Failure(name, FailureKind.WRONG_ROWS, str(error)))
        if parts:
            self._write(self._joined(video_id, sorted(parts, key=lambda part: (part[1], part[2], part[0])), stored))
        return num_kept, failures

    def _rows_of_segment(
        self, video_id: str, name: str, start_s: float, stop_s: float
    ) -> tuple[np.ndarray, np.ndarray]:
        features, seconds = self._read(name)
        if seconds is None:
            seconds = self._source.spread(len(features), start_s, stop_s)
        where = f"{self._source.files[name]}, segment {name}"
        if not np.isfinite(seconds).all() or (np.diff(seconds) < 0).any():
            raise WrongRowsError(f"{where}: the seconds of its rows do not ascend.")
        self._need_within(video_id, seconds, where)
        return features, seconds

    def _joined(self, video_id: str, parts: list[Any], stored: SegmentTimes | None) -> VideoFeatures:
        """Return the video with the segments that were read, and with those that it has already."""
        names, start_s, stop_s, rows = zip(*parts, strict=True)
        video = self._video(
            video_id,
            np.concatenate([features for features, _ in rows]),
            np.concatenate([seconds for _, seconds in rows]),
            SegmentTimes(names, np.array(start_s), np.array(stop_s)),
            np.cumsum([0, *[len(seconds) for _, seconds in rows]], dtype=np.int64),
        )
        if stored is None:
            return video
        assert self._featureset is not None
        existing = read_video(self._out, video_id, digest=self._featureset.digest)
        return joined(existing, video, video_path(self._out, video_id))

    def _note_source(self, video_id: str) -> None:
        assert self._featureset is not None
        text = read_source(self._out, video_id, digest=self._featureset.digest).get("file", "")
        if text and not any(f" {place}, " in f" {text}" for place in self._places):
            self.others.add(text)

    def _is_stored(self, video_id: str) -> bool:
        return self._featureset is not None and video_path(self._out, video_id).is_file()

    def _read(self, name: str) -> Rows:
        """Return the rows of an id; the first ones tell the width of the set, and those of more views name more."""
        rows = self._source.read(name)
        _, num_views, dim = rows.features.shape
        if self._featureset is None or num_views > len(self._featureset.views):
            record = replace(self._record, dim=dim, views=_view_names(num_views))
            self._featureset = create_featureset(self._out, record)
        if dim != self._featureset.dim:
            raise DataError(
                f"{self._source.files[name]}, {name}: {dim} values per row, not {self._featureset.dim} as in the set."
            )
        return rows

    def _need_times(self, video_id: str, seconds: np.ndarray) -> None:
        """Raise WrongRowsError unless the rows of a dense video ascend in time and lie within it."""
        where = f"{self._source.files[video_id]}, video {video_id}"
        if not np.isfinite(seconds).all() or (np.diff(seconds) <= 0).any() or seconds[0] < 0:
            raise WrongRowsError(f"{where}: the seconds of its rows do not ascend from 0.")
        self._need_within(video_id, seconds, where)

    def _need_within(self, video_id: str, seconds: np.ndarray, where: str) -> None:
        """Raise WrongRowsError if rows lie past the end of their video, as far as its length is known."""
        length_s, _ = self._info.get(video_id, (np.inf, None))
        num_beyond = int((seconds > length_s + _END_TOLERANCE_S).sum())
        if num_beyond:
            raise WrongRowsError(
                f"{where}: {num_beyond} of its {len(seconds)} rows lie past the end of the video: the last one at "
                f"{seconds[-1]:.2f} s, and it lasts {length_s:.2f} s."
            )

    def _video(
        self, video_id: str, features: np.ndarray, seconds: np.ndarray, segments: SegmentTimes, offset: np.ndarray
    ) -> VideoFeatures:
        _, fps = self._info.get(video_id, (None, self._source.fps))
        names = segments.narration_id if segments.narration_id else (video_id,)
        return VideoFeatures(
            video_id=video_id,
            fps=float(fps),
            features=features,
            seconds=seconds,
            frame=np.floor(seconds * fps).astype(np.int32),
            narration_id=segments.narration_id,
            offset=offset,
            start_s=segments.start_s,
            stop_s=segments.stop_s,
            views=_view_names(features.shape[1]),
            source={"file": _source_of({self._source.files[name] for name in names})},
        )

    def _write(self, video: VideoFeatures) -> None:
        assert self._featureset is not None
        write_video(self._out, video, self._featureset)


def _view_names(num_views: int) -> tuple[str, ...]:
    """Return the names of published views: the first is that of evaluation, others are random augmentations."""
    return (CENTRE, *(f"augment{number}" for number in range(1, num_views)))


def _source_of(paths: set[Path]) -> str:
    """Return which files features came from: name, size and date, or how many of a folder."""
    stats = [path.stat() for path in paths]
    date = datetime.datetime.fromtimestamp(max(stat.st_mtime for stat in stats), datetime.timezone.utc)
    size = f"{sum(stat.st_size for stat in stats)} bytes of {date.isoformat(timespec='seconds')}"
    if len(paths) == 1:
        return f"{next(iter(paths))}, {size}"
    folders = sorted({str(path.parent) for path in paths})
    return f"{len(paths)} files in {', '.join(folders)}, {size}"
