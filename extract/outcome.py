"""One video of a feature set: which segments are missing before a run, and what is written after it.

A file is replaced only by one with everything that it held, so features are never lost. Knows no pipeline's inside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from extract.clips import ClipFeatures, UnusableVideo
from extract.decode.sources import Source, path_of
from features.failures import Failure, FailureKind, read_failures, write_failures
from features.featureset import FeatureSet
from features.intervals import NO_SEGMENTS, SegmentTimes, need_same_times
from features.store import VideoFeatures, held_segments, read_video, video_path, write_video


@dataclass(frozen=True, eq=False)
class PendingVideo:
    """A video of a run, and what the feature set has of it so far.

    Attributes:
        source: None if there is none.
        requested: the segments of the run.
        stored: the segments that the video's file holds.
        missing: requested and not stored.
        other_failures: recorded failures of segments that are neither requested nor stored.
    """

    video_id: str
    source: Source | None
    requested: SegmentTimes
    stored: SegmentTimes
    missing: frozenset[str]
    other_failures: tuple[Failure, ...]

    @property
    def to_extract(self) -> SegmentTimes:
        """The segments to extract: a file is written whole, so those that it holds are extracted again."""
        return _union(self.requested, self.stored)

    @property
    def num_kept(self) -> int:
        """How many of the requested segments have features already."""
        return len(self.requested.narration_id) - len(self.missing)


def pending_video(
    out: Path, featureset: FeatureSet, video_id: str, source: Source | None, requested: SegmentTimes
) -> PendingVideo:
    """Return what the feature set in `out` has of a video that is read from `source`, and which segments it misses.

    Raises:
        DataError: the stored features are damaged, or were made with other settings or from other intervals.
    """
    stored = held_segments(out, video_id, featureset, requested)
    need_same_times(video_path(out, video_id), requested, stored)
    settled = set(requested.narration_id) | set(stored.narration_id)
    other_failures = tuple(failure for failure in read_failures(out, video_id) if failure.narration_id not in settled)
    missing = frozenset(requested.narration_id) - set(stored.narration_id)
    return PendingVideo(video_id, source, requested, stored, missing, other_failures)


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

    Returns None, and writes nothing, if another run has stored other segments of the video since it was looked up.

    Raises:
        DataError: the features cannot be written.
    """
    stored = held_segments(out, video.video_id, featureset, video.requested)
    if set(stored.narration_id) - set(video.requested.narration_id) - set(video.stored.narration_id):
        return None
    failures = _failures(video, result)
    failed = {failure.narration_id for failure in failures}
    if reason := _reason_to_keep(out, featureset, video, result, failed):
        failures = [Failure(name, FailureKind.KEPT_EARLIER, reason) for name in sorted(video.missing)]
        failed = set(video.missing)
    elif isinstance(result, ClipFeatures) and failed < set(video.to_extract.narration_id):
        is_dense = featureset.sampling.kind == "dense"
        write_video(out, _dense(result) if is_dense else _by_segment(video, result, failed), featureset)
    write_failures(out, video.video_id, [*video.other_failures, *failures])
    num_failed = len(video.missing & failed)
    return Counter(kept=video.num_kept, failed=num_failed, done=len(video.missing) - num_failed)


def _reason_to_keep(
    out: Path, featureset: FeatureSet, video: PendingVideo, result: ClipFeatures | UnusableVideo, failed: set[str]
) -> str | None:
    """Return why the stored file must stay: a new one would hold less. None if it would not."""
    if featureset.sampling.kind == "dense":
        num_gone, unit = _num_steps_gone(out, featureset, video, result), "steps"
    else:
        num_gone, unit = len(failed & set(video.stored.narration_id)), "segments"
    if not num_gone:
        return None
    file = path_of(video.source) if video.source else f"the missing file of video {video.video_id}"
    return (
        f"{file} no longer gives {num_gone} {unit} whose features are stored, so {video_path(out, video.video_id)} is "
        "kept as it is; bring back the whole video and run again"
    )


def _num_steps_gone(
    out: Path, featureset: FeatureSet, video: PendingVideo, result: ClipFeatures | UnusableVideo
) -> int:
    """Return how many steps fewer the file of a dense set would have."""
    if not video_path(out, video.video_id).is_file():
        return 0
    num_stored = len(read_video(out, video.video_id, digest=featureset.digest).seconds)
    num_new = len(result.steps) - len(result.failures) if isinstance(result, ClipFeatures) else 0
    return max(0, num_stored - num_new)


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
    """Return the steps of these clips, (C,), as a video of the feature set."""
    return VideoFeatures(
        video_id=result.video_id,
        fps=result.info.fps,
        features=result.steps[clips].reshape(-1, 1, result.steps.shape[-1]),
        seconds=result.plan.seconds[clips].reshape(-1),
        frame=result.plan.frame[clips].reshape(-1),
        narration_id=segments.narration_id,
        offset=offset,
        start_s=segments.start_s,
        stop_s=segments.stop_s,
    )
