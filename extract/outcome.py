"""One video of a feature set: which segments are missing before a run, and what is written after it.

A file is replaced only by one with everything that it held, so features are never lost. Knows no pipeline's inside.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np

from extract.clips import ClipFeatures, UnusableVideo
from extract.decode.sources import Source, path_of
from features.errors import DataError
from features.failures import Failure, FailureKind, read_failures, write_failures
from features.featureset import FeatureSet, read_featureset
from features.files import folder_locked
from features.intervals import NO_SEGMENTS, SegmentTimes, need_same_times
from features.store import (
    VideoFeatures,
    held_segments,
    read_source,
    read_times,
    read_video,
    steps_in,
    video_path,
    with_views,
    write_video,
)

# The source that says which boxes a video's regions are from.
_BOXES = "boxes"


@dataclass(frozen=True, eq=False)
class PendingVideo:
    """A video of a run, and what the feature set has of it so far.

    Attributes:
        source: None if there is none.
        requested: the segments of the run.
        requested_views: names of the views of the run.
        stored: the segments that the video's file holds.
        stored_views: names of the views that it holds; none if there is no file.
        missing: requested, and not stored in all of the requested views.
        other_failures: recorded failures of segments that are neither requested nor stored, or in other views.
        boxes: the fingerprint of the boxes of its regions; None where whole frames are taken, or it has none.
    """

    video_id: str
    source: Source | None
    requested: SegmentTimes
    requested_views: tuple[str, ...]
    stored: SegmentTimes
    stored_views: tuple[str, ...]
    missing: frozenset[str]
    other_failures: tuple[Failure, ...]
    boxes: str | None = None

    @property
    def adds_views(self) -> bool:
        """Whether the file holds all requested segments, and lacks only views of them."""
        return bool(self.stored_views) and set(self.requested.narration_id) <= set(self.stored.narration_id)

    @property
    def to_extract(self) -> SegmentTimes:
        """The segments to extract: a file is written whole, so those that it holds are extracted again."""
        return _union(self.requested, self.stored)

    @property
    def views_to_extract(self) -> tuple[str, ...]:
        """The views to extract: those that the file lacks; if it lacks segments, also those that it holds."""
        lacking = tuple(view for view in self.requested_views if view not in self.stored_views)
        return lacking if self.adds_views else (*self.stored_views, *lacking)

    @property
    def num_kept(self) -> int:
        """How many of the requested segments have features already, in all of the requested views."""
        return len(self.requested.narration_id) - len(self.missing)


def pending_video(
    out: Path,
    featureset: FeatureSet,
    video_id: str,
    source: Source | None,
    requested: SegmentTimes,
    views: tuple[str, ...],
    boxes: str | None = None,
) -> PendingVideo:
    """Return what the feature set in `out` has of a video that is read from `source`, and which segments it misses.

    Args:
        views: names of the views that are wanted of each segment.
        boxes: the fingerprint of the video's boxes, if there are any.

    Raises:
        DataError: the stored features are damaged, or were made with other settings or boxes, or from other intervals.
    """
    stored, stored_views = _stored(out, featureset, video_id, requested)
    if stored_views and boxes is not None:
        _need_same_boxes(out, featureset, video_id, boxes)
    need_same_times(video_path(out, video_id), requested, stored)
    settled = set(requested.narration_id) | set(stored.narration_id)
    has_views = set(views) <= set(stored_views)
    other_failures = tuple(
        failure
        for failure in read_failures(out, video_id)
        if failure.narration_id not in settled or not set(failure.views) <= {*views, *stored_views}
    )
    missing = frozenset(requested.narration_id) - (set(stored.narration_id) if has_views else set())
    return PendingVideo(video_id, source, requested, views, stored, stored_views, missing, other_failures, boxes)


def _need_same_boxes(out: Path, featureset: FeatureSet, video_id: str, boxes: str) -> None:
    stored = read_source(out, video_id, digest=featureset.digest).get(_BOXES)
    if stored != boxes:
        raise DataError(
            f"{video_path(out, video_id)}: made with other boxes than those of --boxes ({stored} there, {boxes} now); "
            "give the boxes that it was made with, or extract into another folder (--out)."
        )


def _stored(
    out: Path, featureset: FeatureSet, video_id: str, requested: SegmentTimes
) -> tuple[SegmentTimes, tuple[str, ...]]:
    """Return the segments and the views that a video's file holds; none if there is no file."""
    if not video_path(out, video_id).is_file():
        return NO_SEGMENTS, ()
    times = read_times(out, video_id, digest=featureset.digest)
    return held_segments(out, video_id, featureset, requested, times=times), times.views


def _union(requested: SegmentTimes, stored: SegmentTimes) -> SegmentTimes:
    """Return all segments of both in order of time, so that a file does not depend on the order of the annotations."""
    rows = {
        name: (start, stop, name)
        for times in (stored, requested)
        for name, start, stop in zip(*astuple(times), strict=True)
    }
    start_s, stop_s, narration_id = zip(*sorted(rows.values()), strict=True)
    return SegmentTimes(narration_id, np.array(start_s), np.array(stop_s))


def write_nothing_new(out: Path, video: PendingVideo) -> Counter[str]:
    """Record that a video misses no segment, and return how many segments were kept."""
    write_failures(out, video.video_id, video.other_failures)
    return Counter(kept=video.num_kept)


def write_outcome(
    out: Path, featureset: FeatureSet, video: PendingVideo, result: ClipFeatures | UnusableVideo
) -> Counter[str] | None:
    """Write the features of a video and record its failures; return how many segments are done, kept and failed.

    Returns None, and writes nothing, if another run has stored other segments of the video since it was looked up, or
    views that a new file would not hold. Views that another run has added to a file with the same segments are kept.

    Raises:
        DataError: the features cannot be written.
    """
    has_file = video_path(out, video.video_id).is_file()
    # Two runs may add views to a file at once; the second has to see those of the first.
    with folder_locked(out) if has_file else contextlib.nullcontext():
        stored, stored_views = _stored(out, featureset, video.video_id, video.requested)
        if set(stored.narration_id) - set(video.requested.narration_id) - set(video.stored.narration_id):
            return None
        if not video.adds_views and set(stored_views) - set(video.views_to_extract):
            return None
        failures = _failures(video, result)
        new = _new_features(featureset, video, result, {failure.narration_id for failure in failures})
        old = read_video(out, video.video_id, digest=featureset.digest) if stored_views else None
        if old is not None and (reason := _reason_to_keep(out, video, old, new)):
            failures = _kept(video, failures, reason)
        elif new is not None and old is not None and video.adds_views:
            write_video(out, with_views(old, new), read_featureset(out))  # it may name views of other runs by now
        elif new is not None:
            write_video(out, new, featureset)
        write_failures(out, video.video_id, [*video.other_failures, *failures])
    num_failed = len(video.missing & {failure.narration_id for failure in failures})
    return Counter(kept=video.num_kept, failed=num_failed, done=len(video.missing) - num_failed)


def _new_features(
    featureset: FeatureSet, video: PendingVideo, result: ClipFeatures | UnusableVideo, failed: set[str]
) -> VideoFeatures | None:
    """Return the features of the segments that did not fail; None if all of them did."""
    if isinstance(result, UnusableVideo) or failed >= set(video.to_extract.narration_id):
        return None
    new = _dense(result) if featureset.sampling.kind == "dense" else _by_segment(video, result, failed)
    if result.has_region is None:
        return new
    assert video.boxes is not None
    assert new.has_region is not None
    num_cells = len(featureset.cells) // new.has_region.shape[1]  # of a region, side by side
    has_region = new.has_region.repeat(num_cells, axis=1)
    return replace(new, has_region=has_region, source={**new.source, _BOXES: video.boxes})


def _reason_to_keep(out: Path, video: PendingVideo, old: VideoFeatures, new: VideoFeatures | None) -> str | None:
    """Return why the stored file must stay: a new one would hold less. None if it would not."""
    num_gone = _num_gone(video, old, new)
    if not num_gone:
        return None
    unit = "segments" if old.narration_id else "steps"
    file = path_of(video.source) if video.source else f"the missing file of video {video.video_id}"
    views = f", without {', '.join(video.views_to_extract)}" if video.adds_views else ""
    return (
        f"{file} no longer gives {num_gone} {unit} whose features are stored, so {video_path(out, video.video_id)} is "
        f"kept as it is{views}; bring back the whole video and run again"
    )


def _num_gone(video: PendingVideo, old: VideoFeatures, new: VideoFeatures | None) -> int:
    """Return how many segments of the stored file have no new features; of a dense set, how many steps."""
    if new is None:
        return len(old.narration_id or old.seconds)
    if video.adds_views:  # at the very steps of the file
        is_gone = steps_in(old, new) < 0
        return int(is_gone.sum() if not old.narration_id else np.logical_or.reduceat(is_gone, old.offset[:-1]).sum())
    if old.narration_id:
        return len(set(old.narration_id) - set(new.narration_id))
    return max(0, len(old.seconds) - len(new.seconds))


def _kept(video: PendingVideo, failures: Sequence[Failure], reason: str) -> list[Failure]:
    """Return the failures of a video whose earlier file is kept: each missing segment has one.

    Where views are added, a segment's own failure says more than that the file was kept because of it.
    """
    if not video.adds_views:
        return [Failure(name, FailureKind.KEPT_EARLIER, reason) for name in sorted(video.missing)]
    own = {failure.narration_id: failure for failure in failures}
    kept = {name: Failure(name, FailureKind.KEPT_EARLIER, reason) for name in sorted(video.missing)}
    return [replace(failure, views=video.views_to_extract) for failure in (kept | own).values()]


def _failures(video: PendingVideo, result: ClipFeatures | UnusableVideo) -> list[Failure]:
    if isinstance(result, UnusableVideo):
        return [Failure(name, result.error, result.message) for name in video.to_extract.narration_id]
    return [*_out_of_reach(result), *_failures_of_clips(result)]


def _out_of_reach(result: ClipFeatures) -> Iterable[Failure]:
    """Yield the failures of segments that the plan leaves out: beyond the end of the video, or in a gap."""
    info, plan = result.info, result.plan
    for name, reason in plan.beyond_end.items():
        yield Failure(name, FailureKind.BEYOND_END, f"{info.path}, segment {name}: {reason}{info.remark}")
    for name, reason in plan.in_gap.items():
        yield Failure(name, FailureKind.NO_FRAMES, f"{info.path}, segment {name}: {reason}{info.remark}")


def _failures_of_clips(result: ClipFeatures) -> Iterable[Failure]:
    """Yield the failures of segments of which a clip failed; the first such clip gives the reason."""
    for name, (first, stop) in zip(result.plan.narration_id, result.plan.clip_range.tolist(), strict=True):
        failure = next((result.failures[clip] for clip in range(first, stop) if clip in result.failures), None)
        if failure is not None:
            message = f"{result.info.path}, segment {name}: {failure.message}"
            yield Failure(name, failure.error, message, frame=failure.frame)


def _by_segment(video: PendingVideo, result: ClipFeatures, failed: set[str]) -> VideoFeatures:
    """Return the features of the segments that did not fail, segment by segment."""
    plan = result.plan
    kept = [index for index, name in enumerate(plan.narration_id) if name not in failed]
    names = tuple(plan.narration_id[index] for index in kept)
    clips = np.concatenate([np.arange(*plan.clip_range[index]) for index in kept])
    num_steps = np.diff(plan.clip_range[kept], axis=1)[:, 0] * plan.seconds.shape[1]
    times = video.to_extract
    rows = [times.narration_id.index(name) for name in names]
    return _video_features(
        result,
        clips,
        SegmentTimes(names, times.start_s[rows], times.stop_s[rows]),
        offset=np.concatenate([[0], np.cumsum(num_steps)]),
    )


def _dense(result: ClipFeatures) -> VideoFeatures:
    """Return the features of all clips that did not fail."""
    clips = np.array([clip for clip in range(len(result.steps)) if clip not in result.failures], dtype=np.int64)
    return _video_features(result, clips, NO_SEGMENTS, offset=np.zeros(1, dtype=np.int64))


def _video_features(
    result: ClipFeatures, clips: np.ndarray, segments: SegmentTimes, *, offset: np.ndarray
) -> VideoFeatures:
    """Return the steps of these clips, (C,), as a video of the feature set; `has_region` is (N, R), of the regions."""
    num_steps = result.steps.shape[1]  # of a clip
    return VideoFeatures(
        video_id=result.video_id,
        fps=result.info.fps,
        features=result.steps[clips].reshape(-1, *result.steps.shape[2:]),
        seconds=result.plan.seconds[clips].reshape(-1),
        frame=result.plan.frame[clips].reshape(-1),
        narration_id=segments.narration_id,
        offset=offset,
        start_s=segments.start_s,
        stop_s=segments.stop_s,
        source=result.info.source,
        views=result.views,
        has_region=None if result.has_region is None else result.has_region[clips].repeat(num_steps, axis=0),
    )
