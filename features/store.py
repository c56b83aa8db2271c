"""A feature set on disk: a folder of videos, each an array of steps with their times.

    <root>/featureset.json      what the features are (features/featureset.py)
    <root>/P01_101.h5           features (N, V, D) float16, views (V,), seconds (N,), frame (N,), segments/...,
                                and has_region (N, cells) bool where the set has regions
    <root>/failures/P05_08.json which segments have no features, and why (features/failures.py)

A video's file exists whole or not at all. So every file that exists is complete, array tasks never share a file, and no
lock is needed. Knows no backbone, no head, no label.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np

from features.errors import DataError, UnreadableError
from features.failures import read_failures
from features.featureset import FeatureSet, read_featureset
from features.files import is_of_the_system, unreadable, written_whole
from features.intervals import NO_SEGMENTS, SegmentTimes, VideoTimes, covered, is_partition, need_same_times
from features.views import CENTRE

_ROWS_PER_CHUNK = 64
_SOURCE = "source_"
_SAME_S = 1e-6


@dataclass(frozen=True, eq=False)
class VideoFeatures:
    """The features of one video.

    Attributes:
        features: (N, V, D) float16.
        seconds: (N,) float64, the centre of each step in the video.
        frame: (N,) int32, the frame of the video at that time, counted from 0.
        narration_id: the ids of S segments; none in a dense set.
        offset: (S + 1,) int64; the steps of segment s are rows offset[s]:offset[s + 1].
        start_s, stop_s: (S,) float64, the interval from which each segment was sampled.
        views: names of the V views.
        source: where the frames, or the imported features, come from, in words; in the file, attributes `source_...`.
        has_region: (N, cells) bool, whether a step has the part of the picture that each cell is of, in all views;
            where it has not, the cell is of the plain centre crop. None in a set without regions.
    """

    video_id: str
    fps: float
    features: np.ndarray
    seconds: np.ndarray
    frame: np.ndarray
    narration_id: tuple[str, ...]
    offset: np.ndarray
    start_s: np.ndarray
    stop_s: np.ndarray
    views: tuple[str, ...] = (CENTRE,)
    source: Mapping[str, str] = field(default_factory=dict)
    has_region: np.ndarray | None = None

    def __post_init__(self) -> None:
        num_steps, num_segments = len(self.features), len(self.narration_id)
        if self.features.ndim != 3 or self.features.dtype != np.float16:
            raise DataError(
                f"{self.video_id}: features are {self.features.dtype} {self.features.shape}, not float16 (N, V, D)."
            )
        if len(self.views) != self.features.shape[1] or len(set(self.views)) < len(self.views):
            raise DataError(f"{self.video_id}: {self.features.shape[1]} views are named {', '.join(self.views)}.")
        shapes = {
            "seconds": (self.seconds.shape, (num_steps,)),
            "frame": (self.frame.shape, (num_steps,)),
            "offset": (self.offset.shape, (num_segments + 1,)),
            "start_s": (self.start_s.shape, (num_segments,)),
            "stop_s": (self.stop_s.shape, (num_segments,)),
        }
        for name, (shape, expected) in shapes.items():
            if shape != expected:
                raise DataError(f"{self.video_id}: {name} has shape {shape}, not {expected}.")
        if num_segments and not is_partition(self.offset, num_steps):
            raise DataError(f"{self.video_id}: offset does not cut {num_steps} steps into segments.")
        if self.has_region is not None and (self.has_region.dtype != bool or len(self.has_region) != num_steps):
            kind = f"{self.has_region.dtype} {self.has_region.shape}"
            raise DataError(f"{self.video_id}: has_region is {kind}, not bool ({num_steps}, cells).")

    @property
    def segments(self) -> SegmentTimes:
        """The ids and intervals of the segments."""
        return SegmentTimes(self.narration_id, self.start_s, self.stop_s)

    def __repr__(self) -> str:
        return f"VideoFeatures({self.video_id}, {self.features.shape}, {len(self.narration_id)} segments)"


def video_path(root: Path, video_id: str) -> Path:
    """Return the path of a video's file."""
    return Path(root) / f"{video_id}.h5"


def video_ids(root: Path) -> list[str]:
    """Return the ids of the videos that have features, sorted."""
    return sorted(path.stem for path in Path(root).glob("*.h5") if not path.name.startswith("."))


def write_video(root: Path, video: VideoFeatures, featureset: FeatureSet) -> None:
    """Write the features of a video, whole or not at all; an earlier file is replaced.

    Raises:
        DataError: the width differs from the set's, the set does not name a view, a value is not finite, `has_region`
            is missing in a set with regions (or is there in another), or the file cannot be written.
    """
    path = video_path(root, video.video_id)
    if video.features.shape[2] != featureset.dim:
        raise DataError(f"{video.video_id}: features are {video.features.shape[2]} wide, not {featureset.dim}.")
    if unnamed := [view for view in video.views if view not in featureset.views]:
        raise DataError(
            f"{video.video_id}: view {unnamed[0]!r} is none of the set's, which are {', '.join(featureset.views)}."
        )
    need_regions(path, featureset, video.has_region)
    if not len(video.features):
        raise DataError(f"{video.video_id}: no steps to write.")
    if not np.isfinite(video.features).all():
        raise DataError(f"{video.video_id}: features are not finite (or beyond float16's 65504).")
    with written_whole(path) as temporary:
        temporary.write_bytes(_packed(video, featureset))


def need_regions(path: Path, featureset: FeatureSet, has_region: np.ndarray | None) -> None:
    """Check that a video's file says which cells each step has, if its set has regions, and only then.

    Raises:
        DataError: it does not, or for another number of cells.
    """
    if featureset.regions is None:
        if has_region is not None:
            raise DataError(f"{path}: has a has_region, which only sets with regions have; {_REMEDY}.")
        return
    expected = f"bool (N, {len(featureset.cells)})"
    if has_region is None:
        raise DataError(f"{path}: lacks has_region {expected}, which a set with regions needs; {_REMEDY}.")
    if has_region.dtype != bool or has_region.ndim != 2 or has_region.shape[1] != len(featureset.cells):
        raise DataError(f"{path}: has_region is {has_region.dtype} {has_region.shape}, not {expected}; {_REMEDY}.")


def _packed(video: VideoFeatures, featureset: FeatureSet) -> bytes:
    """Return the bytes of a video's file.

    The file is made in memory: if the disk is full, HDF5 ends the process with a segmentation fault when it closes a
    file. v110, because older formats have no checksums for their own tables.
    """
    with h5py.File("in memory", "w", driver="core", backing_store=False, libver="v110") as file:
        _fill(file, video)
        file.attrs.update(
            {
                "video_id": video.video_id,
                "fps": video.fps,
                "digest": featureset.digest,
                "complete": 1,
                **{f"{_SOURCE}{name}": text for name, text in video.source.items()},
            }
        )
        file.flush()
        return file.id.get_file_image()


def _fill(file: h5py.File, video: VideoFeatures) -> None:
    num_steps, num_views, dim = video.features.shape
    # Without track_times and without further filters, the same features give the same bytes.
    checked = {"fletcher32": True, "track_times": False}
    chunk = min(num_steps, _ROWS_PER_CHUNK)
    file.create_dataset("features", data=video.features, chunks=(chunk, num_views, dim), **checked)
    file.create_dataset("seconds", data=video.seconds, chunks=(num_steps,), **checked)
    file.create_dataset("frame", data=video.frame, chunks=(num_steps,), **checked)
    if video.has_region is not None:
        file.create_dataset("has_region", data=video.has_region, chunks=video.has_region.shape, **checked)
    _put_names(file, "views", video.views)
    if video.narration_id:
        num_segments = len(video.narration_id)
        group = file.create_group("segments")
        _put_names(group, "narration_id", video.narration_id)
        group.create_dataset("offset", data=video.offset, chunks=(num_segments + 1,), **checked)
        group.create_dataset("start_s", data=video.start_s, chunks=(num_segments,), **checked)
        group.create_dataset("stop_s", data=video.stop_s, chunks=(num_segments,), **checked)


def _put_names(group: h5py.Group, name: str, names: tuple[str, ...]) -> None:
    """Write a dataset of names, as strings of fixed length: HDF5 has no checksums for strings of variable length."""
    encoded = [text.encode() for text in names]
    dtype = h5py.string_dtype("utf-8", max(map(len, encoded)))
    group.create_dataset(name, data=encoded, dtype=dtype, chunks=(len(names),), fletcher32=True, track_times=False)


def read_video(root: Path, video_id: str, *, digest: str, views: Sequence[str] | None = None) -> VideoFeatures:
    """Read the features of a video.

    Args:
        views: names of the views to read, in this order; by default all views of the file, in its order.

    Raises:
        DataError: the file does not exist, is damaged or incomplete, was made with other settings, or lacks a view;
            UnreadableError if it is locked, or the system does not let it be read for another reason.
    """
    path = video_path(root, video_id)
    with opened(path, digest) as file:
        times, offset = _segments_group(file)
        own = views_of(file, path)
        features = file["features"][:]
        if views is not None and tuple(views) != own:
            features, own = features[:, view_columns(path, own, views)], tuple(views)
        return VideoFeatures(
            video_id=video_id,
            fps=float(file.attrs["fps"]),
            features=features,
            seconds=file["seconds"][:],
            frame=file["frame"][:],
            narration_id=times.narration_id,
            offset=offset,
            start_s=times.start_s,
            stop_s=times.stop_s,
            views=own,
            source=_source(file),
            has_region=regions_of(file),
        )


def regions_of(file: h5py.File) -> np.ndarray | None:
    """Return what a video's open file says of the regions of its steps, (N, cells) bool; None if it says nothing."""
    return file["has_region"][:] if "has_region" in file else None


def with_views(video: VideoFeatures, other: VideoFeatures) -> VideoFeatures:
    """Return a video with the views that another record of it has besides, at the steps of the video.

    The other record must have every step of the video: `steps_in` says which it lacks.

    Raises:
        DataError: a step has other regions in the other record, which its features would then be of.
    """
    rows = steps_in(video, other)
    assert (rows >= 0).all()
    if not same_regions(video.has_region, None if other.has_region is None else other.has_region[rows]):
        raise DataError(
            f"{video.video_id}: the steps that are stored have other regions than those of {', '.join(other.views)}; "
            "extract into another folder (--out)."
        )
    lacking = [number for number, view in enumerate(other.views) if view not in video.views]
    features = np.concatenate([video.features, other.features[rows[:, None], lacking]], axis=1)
    return replace(video, features=features, views=(*video.views, *(other.views[number] for number in lacking)))


def same_regions(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    """Return whether two records say the same of the regions of their steps, (N, cells) bool or nothing."""
    if first is None or second is None:
        return first is second
    return np.array_equal(first, second)


def steps_in(video: VideoFeatures, other: VideoFeatures) -> np.ndarray:
    """Return the row that each step of a video has in another record of it, (N,) int64; -1 where that lacks the step.

    Steps are the same if they belong to the same segment and have the same time, except for rounding.
    """
    if video.narration_id:
        first = dict(zip(other.narration_id, other.offset.tolist(), strict=False))
        starts = np.array([first.get(name, len(other.seconds)) for name in video.narration_id])
        rows = np.repeat(starts - video.offset[:-1], np.diff(video.offset)) + np.arange(len(video.seconds))
    else:
        rows = np.searchsorted(other.seconds, video.seconds - _SAME_S)
    rows[rows >= len(other.seconds)] = -1
    return np.where(np.abs(other.seconds[rows] - video.seconds) <= _SAME_S, rows, -1)


def views_of(file: h5py.File, path: Path) -> tuple[str, ...]:
    """Return the names of the views that a video's open file holds.

    A file from before files listed their views holds those of its set at that time.
    """
    if "views" in file:
        return tuple(file["views"].asstr()[:])
    return read_featureset(path.parent).digest_views


def view_columns(path: Path, own: Sequence[str], views: Sequence[str]) -> list[int]:
    """Return where views are among those that a file holds.

    Raises:
        DataError: the file lacks one.
    """
    for view in views:
        if view not in own:
            raise DataError(f"{path}: has no view {view!r}, only {', '.join(own)}; extract it (--views {view}).")
    return [own.index(view) for view in views]


def read_times(root: Path, video_id: str, *, digest: str) -> VideoTimes:
    """Read what a video's file says of its steps (`VideoTimes`), without the features.

    Raises:
        DataError: as for `read_video`.
    """
    path = video_path(root, video_id)
    with opened(path, digest) as file:
        segments, offset = _segments_group(file)
        seconds, views, has_region = file["seconds"][:], views_of(file, path), regions_of(file)
    if segments.narration_id and not is_partition(offset, len(seconds)):
        raise DataError(f"{path}: offset does not cut {len(seconds)} steps into segments.")
    if has_region is not None and len(has_region) != len(seconds):
        raise DataError(f"{path}: has_region is of {len(has_region)} steps, not {len(seconds)}; {_REMEDY}.")
    return VideoTimes(segments, offset, seconds, views, has_region)


@dataclass(frozen=True, eq=False)
class Stored:
    """The features of a video as its file holds them: (N, V, D) float16, and the names of the V views."""

    features: np.ndarray
    views: tuple[str, ...]


def read_source(root: Path, video_id: str, *, digest: str) -> Mapping[str, str]:
    """Read where the content of a video's file comes from, in words, as in `VideoFeatures`.

    Raises:
        DataError: as for `read_video`.
    """
    with opened(video_path(root, video_id), digest) as file:
        return _source(file)


def _source(file: h5py.File) -> dict[str, str]:
    return {name[len(_SOURCE) :]: str(text) for name, text in file.attrs.items() if name.startswith(_SOURCE)}


def read_features(root: Path, video_id: str, *, digest: str, out: np.ndarray | None = None) -> Stored:
    """Read only the features of a video, all views.

    Args:
        out: an array that is filled and returned if its shape and type are those of the features.

    Raises:
        DataError: as for `read_video`.
    """
    path = video_path(root, video_id)
    with opened(path, digest) as file:
        stored, views = file["features"], views_of(file, path)
        if out is None or (stored.shape, stored.dtype) != (out.shape, out.dtype):
            return Stored(stored[:], views)
        stored.read_direct(out)
        return Stored(out, views)


def read_rows(root: Path, video_id: str, rows: slice, *, digest: str, view: str = CENTRE) -> np.ndarray:
    """Read some rows of one view of a video's features: (n, D) float16.

    Raises:
        DataError: as for `read_video`.
    """
    path = video_path(root, video_id)
    with opened(path, digest) as file:
        [column] = view_columns(path, views_of(file, path), [view])
        return file["features"][rows, column]


def held_segments(
    root: Path,
    video_id: str,
    featureset: FeatureSet,
    segments: SegmentTimes,
    *,
    views: Sequence[str] = (),
    times: VideoTimes | None = None,
) -> SegmentTimes:
    """Return the segments that have features in a video's file; none where there is no file, or it lacks a view.

    The file of a set sampled by segment lists its segments, and all of them are returned. The file of a dense set lists
    none: those of `segments` are returned for which it has every step and which are not recorded as failed.

    Args:
        views: names of views that are needed; by default any will do.
        times: what `read_times` returned, where that has been called already.

    Raises:
        DataError: as for `read_video`.
    """
    if times is None:
        if not video_path(root, video_id).is_file():
            return NO_SEGMENTS
        times = read_times(root, video_id, digest=featureset.digest)
    if not set(views) <= set(times.views):
        return NO_SEGMENTS
    every_s = featureset.sampling.every_s
    if featureset.sampling.kind == "segment" or every_s is None:
        return times.segments
    # A failure in some views alone is one of views that the file does not hold.
    failed = {failure.narration_id for failure in read_failures(root, video_id) if not failure.views}
    is_covered = covered(times.seconds, segments.start_s, segments.stop_s, every_s)
    rows = [row for row, name in enumerate(segments.narration_id) if is_covered[row] and name not in failed]
    names = tuple(segments.narration_id[row] for row in rows)
    return SegmentTimes(names, segments.start_s[rows], segments.stop_s[rows])


def read_held_segments(
    root: Path, video_id: str, featureset: FeatureSet, annotated: SegmentTimes, *, views: Sequence[str] = ()
) -> tuple[VideoTimes, SegmentTimes]:
    """Read the times of a video's steps; return them with the segments that have features, as `held_segments` does.

    Raises:
        DataError: as for `read_video` and `need_regions`, or a segment was extracted from another interval than
            `annotated` gives.
    """
    times = read_times(root, video_id, digest=featureset.digest)
    need_regions(video_path(root, video_id), featureset, times.has_region)
    held = held_segments(root, video_id, featureset, annotated, views=views, times=times)
    need_same_times(video_path(root, video_id), annotated, held)
    return times, held


def _segments_group(file: h5py.File) -> tuple[SegmentTimes, np.ndarray]:
    if "segments" not in file:
        return NO_SEGMENTS, np.zeros(1, dtype=np.int64)
    group = file["segments"]
    names = tuple(group["narration_id"].asstr()[:])
    return SegmentTimes(names, group["start_s"][:], group["stop_s"][:]), group["offset"][:]


_REMEDY = "delete it and run the extraction again"
_ERRNO = re.compile(r"errno = (\d+)")


@contextlib.contextmanager
def opened(path: Path, digest: str) -> Iterator[h5py.File]:
    """Open a video's file for reading; a DataError names the file if it is damaged."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; extract this video first.")
    try:
        with h5py.File(path, "r") as file:
            _need_complete(path, file.attrs, digest)
            yield file
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise _reading_error(path, error) from error


def _reading_error(path: Path, error: Exception) -> DataError:
    """Return what an error of h5py says of a file: HDF5 names the number of a system call's error."""
    match = _ERRNO.search(str(error))
    if match is None or not is_of_the_system(int(match[1])):
        # Errors of the first kinds: not HDF5, cut short, or a wrong checksum.
        kind = "damaged" if isinstance(error, (OSError, RuntimeError)) else "not of this schema"
        return DataError(f"{path}: {kind} ({error}); {_REMEDY}.")
    number = int(match[1])
    reason = os.strerror(number)
    if "unable to lock file" in str(error):
        return UnreadableError(
            f"{path}: locked ({reason}); close the program that has it open. If there is none, its file system knows "
            "no locks: set HDF5_USE_FILE_LOCKING=FALSE, and it is read without."
        )
    return unreadable(path, OSError(number, reason))


def _need_complete(path: Path, attrs: h5py.AttributeManager, digest: str) -> None:
    if attrs.get("video_id") != path.stem:
        raise DataError(f"{path}: holds video {attrs.get('video_id')!r}; the file was renamed. Give it its old name.")
    if attrs.get("complete") != 1:
        raise DataError(f"{path}: not marked complete; {_REMEDY}.")
    if attrs.get("digest") != digest:
        raise DataError(
            f"{path}: made with other settings than featureset.json (digest "
            f"{str(attrs.get('digest'))[:8]} against {digest[:8]}); delete the file, or extract into another "
            "folder."
        )
