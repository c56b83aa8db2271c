"""A feature set on disk: a folder of videos, each an array of steps with their times. The only importer of h5py.

    <root>/featureset.json      what the features are (features/featureset.py)
    <root>/P01_101.h5           features (N, V, D) float16, seconds (N,), frame (N,), segments/...
    <root>/failures/P05_08.json what could not be had of a video (features/failures.py)

A video is there whole or not at all, so what is complete is what exists, array tasks never share a file, and
nothing needs a lock. Knows no backbone, no head, no label.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import h5py
import numpy as np

from features.annotations import Segments
from features.errors import DataError
from features.failures import read_failures
from features.featureset import FeatureSet
from features.files import written_whole

_ROWS_PER_CHUNK = 64
_CHECKSUM_BYTES = 4
_CHUNKS_AT_ONCE = 64  # two buffers each; a kernel takes 1024 of them, or 2 GB


@dataclass(frozen=True, eq=False)
class SegmentTimes:
    """Segments of one video: S ids, and the interval of each, (S,) float64 seconds of the video."""

    narration_id: tuple[str, ...]
    start_s: np.ndarray
    stop_s: np.ndarray


NO_SEGMENTS = SegmentTimes((), np.zeros(0), np.zeros(0))


def segment_times(segments: Segments) -> SegmentTimes:
    """Give ids and intervals of the segments of a video."""
    table = segments.table
    return SegmentTimes(tuple(segments.narration_id), table.start_s.to_numpy(), table.stop_s.to_numpy())


@dataclass(frozen=True, eq=False)
class VideoFeatures:
    """The features of one video.

    Attributes:
        features: (N, V, D) float16.
        seconds: (N,) float64, the centre of each step in the video.
        frame: (N,) int32, the same as a frame number of the video, counted from 0.
        narration_id: S ids; none in a dense set.
        offset: (S + 1,) int64; the steps of segment s are rows offset[s]:offset[s + 1].
        start_s, stop_s: (S,) float64, the interval each segment was sampled from.
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

    def __post_init__(self) -> None:
        num_steps, num_segments = len(self.features), len(self.narration_id)
        if self.features.ndim != 3 or self.features.dtype != np.float16:
            raise DataError(
                f"{self.video_id}: features are {self.features.dtype} {self.features.shape}, not float16 (N, V, D)."
            )
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
        if num_segments and not _is_partition(self.offset, num_steps):
            raise DataError(f"{self.video_id}: offset does not cut {num_steps} steps into segments.")

    def __repr__(self) -> str:
        return f"VideoFeatures({self.video_id}, {self.features.shape}, {len(self.narration_id)} segments)"


def _is_partition(offset: np.ndarray, num_steps: int) -> bool:
    return offset[0] == 0 and offset[-1] == num_steps and bool((np.diff(offset) > 0).all())


def video_path(root: Path, video_id: str) -> Path:
    """Give the place of a video's features."""
    return Path(root) / f"{video_id}.h5"


def video_ids(root: Path) -> list[str]:
    """Give the ids of the videos that are there, sorted."""
    return sorted(path.stem for path in Path(root).glob("*.h5") if not path.name.startswith("."))


def write_video(root: Path, video: VideoFeatures, featureset: FeatureSet) -> None:
    """Write the features of a video, whole or not at all; what stood there before is replaced.

    Raises:
        DataError: the features do not have the set's width or views, are not finite, or cannot be written.
    """
    expected = (len(video.features), len(featureset.views), featureset.dim)
    if video.features.shape != expected:
        raise DataError(f"{video.video_id}: features have shape {video.features.shape}, not {expected}.")
    if not len(video.features):
        raise DataError(f"{video.video_id}: no steps to write.")
    if not np.isfinite(video.features).all():
        raise DataError(f"{video.video_id}: features are not finite (or beyond float16's 65504).")
    with written_whole(video_path(root, video.video_id)) as temporary:
        temporary.write_bytes(_packed(video, featureset))


def _packed(video: VideoFeatures, featureset: FeatureSet) -> bytes:
    """Give the bytes of a video's file.

    They are made in memory: where a disk is full, HDF5 ends the process with a segmentation fault when it closes the
    file. v110 because older formats have no checksums over their own tables.
    """
    with h5py.File("in memory", "w", driver="core", backing_store=False, libver="v110") as file:
        _fill(file, video)
        file.attrs.update(
            {
                "video_id": video.video_id,
                "fps": video.fps,
                "digest": featureset.digest,
                "complete": 1,
            }
        )
        file.flush()
        return file.id.get_file_image()


def _fill(file: h5py.File, video: VideoFeatures) -> None:
    num_steps, num_views, dim = video.features.shape
    # track_times off and no further filters: the same features give the same bytes.
    checked = {"fletcher32": True, "track_times": False}
    chunk = min(num_steps, _ROWS_PER_CHUNK)
    file.create_dataset("features", data=video.features, chunks=(chunk, num_views, dim), **checked)
    file.create_dataset("seconds", data=video.seconds, chunks=(num_steps,), **checked)
    file.create_dataset("frame", data=video.frame, chunks=(num_steps,), **checked)
    if video.narration_id:
        num_segments = len(video.narration_id)
        group = file.create_group("segments")
        # Strings of fixed length, which unlike HDF5's variable ones can carry a checksum.
        length = max(len(name.encode()) for name in video.narration_id)
        group.create_dataset(
            "narration_id",
            data=[name.encode() for name in video.narration_id],
            dtype=h5py.string_dtype("utf-8", length),
            chunks=(num_segments,),
            **checked,
        )
        group.create_dataset("offset", data=video.offset, chunks=(num_segments + 1,), **checked)
        group.create_dataset("start_s", data=video.start_s, chunks=(num_segments,), **checked)
        group.create_dataset("stop_s", data=video.stop_s, chunks=(num_segments,), **checked)


def read_video(root: Path, video_id: str, *, digest: str) -> VideoFeatures:
    """Read the features of a video, all views.

    Raises:
        DataError: there is no such file, it is damaged or incomplete, or it was made with other settings.
    """
    path = video_path(root, video_id)
    with _opened(path, digest) as file:
        times, offset = _segments_group(file)
        return VideoFeatures(
            video_id=video_id,
            fps=float(file.attrs["fps"]),
            features=file["features"][:],
            seconds=file["seconds"][:],
            frame=file["frame"][:],
            narration_id=times.narration_id,
            offset=offset,
            start_s=times.start_s,
            stop_s=times.stop_s,
        )


def read_segment_times(root: Path, video_id: str, *, digest: str) -> SegmentTimes:
    """Read which segments a video's file holds, without its features.

    Raises:
        DataError: as for `read_video`.
    """
    with _opened(video_path(root, video_id), digest) as file:
        return _segments_group(file)[0]


@dataclass(frozen=True, eq=False)
class VideoTimes:
    """What a video's file says of its steps, but for the features themselves.

    Attributes:
        segments: K of them; none in a dense set.
        offset: (K + 1,) int64; the steps of segment k are rows offset[k]:offset[k + 1].
        seconds: (N,) float64, the centre of each step in the video.
    """

    segments: SegmentTimes
    offset: np.ndarray
    seconds: np.ndarray


def read_times(root: Path, video_id: str, *, digest: str) -> VideoTimes:
    """Read when a video's steps are and whose they are, but no features.

    Raises:
        DataError: as for `read_video`.
    """
    with _opened(video_path(root, video_id), digest) as file:
        segments, offset = _segments_group(file)
        seconds = file["seconds"][:]
    if segments.narration_id and not _is_partition(offset, len(seconds)):
        raise DataError(f"{video_path(root, video_id)}: offset does not cut {len(seconds)} steps into segments.")
    return VideoTimes(segments, offset, seconds)


def read_features(root: Path, video_id: str, *, digest: str, out: np.ndarray | None = None) -> np.ndarray:
    """Read the features of a video alone, all views: (N, V, D) float16.

    Args:
        out: where to put them, and what to give back, if they have its shape and type.

    Raises:
        DataError: as for `read_video`.
    """
    with _opened(video_path(root, video_id), digest) as file:
        stored = file["features"]
        if out is None or (stored.shape, stored.dtype) != (out.shape, out.dtype):
            return stored[:]
        stored.read_direct(out)
        return out


@dataclass(frozen=True)
class FeaturesPlace:
    """Where the features of a video lie in its file: in chunks of rows with a checksum behind each.

    Attributes:
        state: tells whether the file has been written since.
        shape: (N, V, D), of float16.
        rows: in a chunk.
        runs: (first byte, first chunk, number of chunks) of those that lie one after the other.
    """

    path: Path
    state: tuple[int, int, int]
    shape: tuple[int, int, int]
    rows: int
    runs: tuple[tuple[int, int, int], ...]


def find_features(root: Path, video_id: str, *, digest: str) -> FeaturesPlace | None:
    """Find where in a video's file its features lie; None where they do not lie as `write_video` puts them.

    Raises:
        DataError: as for `read_video`.
    """
    path = video_path(root, video_id)
    with _opened(path, digest) as file:
        state, stored = _state_of(path), file["features"]
        filters = stored.id.get_create_plist().get_nfilters()
        if stored.dtype != np.float16 or not stored.fletcher32 or filters != 1 or stored.chunks[1:] != stored.shape[1:]:
            return None
        chunks = [stored.id.get_chunk_info(number) for number in range(stored.id.get_num_chunks())]
        starts = {chunk.chunk_offset[0] // stored.chunks[0]: chunk.byte_offset for chunk in chunks}
        size = math.prod(stored.chunks) * stored.dtype.itemsize + _CHECKSUM_BYTES
        is_whole = sorted(starts) == list(range(-(-len(stored) // stored.chunks[0])))
        if not is_whole or any(chunk.size != size for chunk in chunks):  # what HDF5 fills in, or left unchecked
            return None
        return FeaturesPlace(path, state, stored.shape, stored.chunks[0], _runs(starts, size))


def _runs(starts: dict[int, int], size: int) -> tuple[tuple[int, int, int], ...]:
    """Join chunks that lie one after the other; HDF5 puts tables of its own between some."""
    runs: list[tuple[int, int, int]] = []
    for number, start in sorted(starts.items()):
        offset, first, count = runs[-1] if runs else (0, 0, _CHUNKS_AT_ONCE)
        if count < _CHUNKS_AT_ONCE and (number, start) == (first + count, offset + count * size):
            runs[-1] = (offset, first, count + 1)
        else:
            runs.append((start, number, 1))
    return tuple(runs)


def _state_of(file: Path | int) -> tuple[int, int, int]:
    found = os.stat(file)
    return found.st_ino, found.st_size, found.st_ctime_ns


def read_unchanged(place: FeaturesPlace, *, out: np.ndarray | None = None) -> np.ndarray | None:
    """Read features whose file has been read before, without its checksums: (N, V, D) float16; None if it has changed.

    HDF5 takes longer to compare checksums than to read, and keeps Python's other threads waiting meanwhile.

    Args:
        out: where to put them, and what to give back, if it has their shape.
    """
    if out is None or out.shape != place.shape:
        out = np.empty(place.shape, dtype=np.float16)
    checksum = bytearray(_CHECKSUM_BYTES)
    try:
        with open(place.path, "rb", buffering=0) as file:
            if _state_of(file.fileno()) != place.state:
                return None
            for offset, first, count in place.runs:
                rows = range(first * place.rows, (first + count) * place.rows, place.rows)
                buffers = [buffer for row in rows for buffer in (out[row : row + place.rows], checksum)]
                file.seek(offset)
                if os.readv(file.fileno(), buffers) != sum(memoryview(one).nbytes for one in buffers):
                    return None
    except OSError:
        return None  # whoever reads it in full says what is wrong
    return out


# How far a segment may pass the steps of a dense set at either end. A video's own ends are never exactly at a step.
_EDGE_S = 1.0


def covered_segments(root: Path, video_id: str, asked: SegmentTimes, *, digest: str, every_s: float) -> SegmentTimes:
    """Give those of the segments asked for over which a video's file of a dense set has every step.

    Segments that are recorded as failed are not among them.

    Raises:
        DataError: as for `read_video`.
    """
    seconds = read_times(root, video_id, digest=digest).seconds
    failed = {one.narration_id for one in read_failures(root, video_id)}
    whole = covered(seconds, asked.start_s, asked.stop_s, every_s)
    kept = [index for index, name in enumerate(asked.narration_id) if whole[index] and name not in failed]
    return SegmentTimes(tuple(asked.narration_id[index] for index in kept), asked.start_s[kept], asked.stop_s[kept])


def covered(seconds: np.ndarray, start_s: np.ndarray, stop_s: np.ndarray, every_s: float) -> np.ndarray:
    """Tell for each interval whether none of the steps that belong to it is missing, (S,) bool.

    Each step stands for `every_s` seconds round it, and an interval has the steps for all of its moments.

    Args:
        seconds: (N,) float64, at least one, `every_s` apart or a multiple of that.

    >>> covered(np.array([0.1, 0.3, 0.9, 1.1]), np.array([0.05, 0.35]), np.array([0.35, 1.0]), 0.2).tolist()
    [True, False]
    """
    start, stop = seconds[0] - every_s / 2, seconds[-1] + every_s / 2
    there = np.zeros(round((stop - start) / every_s) + 1, dtype=np.int64)
    there[np.round((seconds - seconds[0]) / every_s).astype(int) + 1] = 1
    before = np.cumsum(there)  # steps before each part
    num_parts = len(there) - 1
    # Borders of segments and of steps often coincide, but for rounding.
    first = np.clip(np.floor((start_s - start) / every_s + 1e-6), 0, num_parts - 1).astype(int)
    last = np.clip(np.ceil((stop_s - start) / every_s - 1e-6), first + 1, num_parts).astype(int)
    within = (start_s >= start - _EDGE_S) & (stop_s <= stop + max(_EDGE_S, every_s))
    return within & (before[last] - before[first] == last - first)


def _segments_group(file: h5py.File) -> tuple[SegmentTimes, np.ndarray]:
    if "segments" not in file:
        return NO_SEGMENTS, np.zeros(1, dtype=np.int64)
    group = file["segments"]
    names = tuple(group["narration_id"].asstr()[:])
    return SegmentTimes(names, group["start_s"][:], group["stop_s"][:]), group["offset"][:]


def need_same_times(path: Path, asked: SegmentTimes, stored: SegmentTimes) -> None:
    """Check that the segments a file holds were sampled from the intervals they are asked for with.

    Raises:
        DataError: the annotations have changed since; the message names the first such segment.
    """
    there = {name: interval for name, *interval in zip(*astuple(stored), strict=True)}
    for name, *interval in zip(*astuple(asked), strict=True):
        if there.get(name, interval) != interval:
            was, now = (f"{start:.2f} to {stop:.2f} s" for start, stop in (there[name], interval))
            raise DataError(
                f"{path}: segment {name} was extracted from {was}, the annotations now say {now}; delete the "
                "file to extract it again, or extract into a folder of its own."
            )


_REMEDY = "delete it and run the extraction again"


@contextlib.contextmanager
def _opened(path: Path, digest: str) -> Iterator[h5py.File]:
    """Open a video's file for reading, and say of any damage which file it is."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; extract this video first.")
    try:
        with h5py.File(path, "r") as file:
            _need_complete(path, file.attrs, digest)
            yield file
    except (OSError, RuntimeError) as error:  # not HDF5, cut short, or a checksum that does not hold
        raise DataError(f"{path}: damaged ({error}); {_REMEDY}.") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: not of this schema ({error}); {_REMEDY}.") from error


def _need_complete(path: Path, attrs: h5py.AttributeManager, digest: str) -> None:
    if attrs.get("video_id") != path.stem:
        raise DataError(f"{path}: holds video {attrs.get('video_id')!r}; it was renamed. Give it back its name.")
    if attrs.get("complete") != 1:
        raise DataError(f"{path}: not marked complete; {_REMEDY}.")
    if attrs.get("digest") != digest:
        raise DataError(
            f"{path}: made with other settings than featureset.json (digest "
            f"{str(attrs.get('digest'))[:8]} against {digest[:8]}); delete the file, or extract into a "
            "folder of its own."
        )
