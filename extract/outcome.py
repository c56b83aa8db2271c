"""One video of a feature set: what it lacks before a run, and what is written of it after. Knows no pipeline's inside.

What is there is never made less: a file is replaced only by one with everything that it held.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from extract.decode.video import VideoInfo
from extract.pipeline import ClipFeatures
from extract.sampling import VideoPlan
from features.failures import Failure, read_failures, write_failures
from features.featureset import FeatureSet
from features.intervals import SegmentTimes, need_same_times
from features.store import VideoFeatures, held_segments, read_video, video_path, write_video


@dataclass(frozen=True, eq=False)
class Lack:
    """What a feature set lacks of a video.

    Attributes:
        asked: the segments that a run asks for.
        stored: those that the video's file holds.
        missing: asked for and not stored.
        others: failures recorded of segments that this run does not ask for.
    """

    video_id: str
    path: Path | None
    asked: SegmentTimes
    stored: SegmentTimes
    missing: frozenset[str]
    others: tuple[Failure, ...]

    @property
    def wanted(self) -> SegmentTimes:
        """The segments to extract: a file is written whole, so what it holds already comes again."""
        return _union(self.asked, self.stored)

    @property
    def already(self) -> int:
        """How many of the segments asked for are there."""
        return len(self.asked.narration_id) - len(self.missing)


def look_up(out: Path, featureset: FeatureSet, video_id: str, path: Path | None, asked: SegmentTimes) -> Lack:
    """See what a feature set lacks of a video, whose file is at `path` (None: nowhere).

    Raises:
        DataError: what is there is damaged, of other settings, or of other intervals.
    """
    stored = held_segments(out, video_id, featureset, asked)
    need_same_times(video_path(out, video_id), asked, stored)
    settled = set(asked.narration_id) | set(stored.narration_id)
    others = tuple(one for one in read_failures(out, video_id) if one.narration_id not in settled)
    missing = frozenset(asked.narration_id) - set(stored.narration_id)
    return Lack(video_id, path, asked, stored, missing, others)


def _union(asked: SegmentTimes, stored: SegmentTimes) -> SegmentTimes:
    """Put both together in order of time, so that a file does not depend on the order of the annotations."""
    rows = {
        name: (start, stop, name)
        for times in (stored, asked)
        for name, start, stop in zip(*astuple(times), strict=True)
    }
    start_s, stop_s, narration_id = zip(*sorted(rows.values()), strict=True)
    return SegmentTimes(narration_id, np.array(start_s), np.array(stop_s))


def write_nothing_new(out: Path, lack: Lack) -> Counter[str]:
    """Note that a video lacks nothing; count its segments."""
    write_failures(out, lack.video_id, lack.others)
    return Counter(already=lack.already)


def write_outcome(out: Path, featureset: FeatureSet, lack: Lack, result: ClipFeatures) -> Counter[str] | None:
    """Write what has been extracted of a video and record what could not be; count its segments.

    None, and nothing is written, where another run has written other segments of the video in the meantime.

    Raises:
        DataError: it cannot be written.
    """
    there = held_segments(out, lack.video_id, featureset, lack.asked)
    if set(there.narration_id) - set(lack.asked.narration_id) - set(lack.stored.narration_id):
        return None
    failures = _failures(lack, result)
    failed = {one.narration_id for one in failures}
    dense = featureset.sampling.kind == "dense"
    gone = f"{len(failed & set(lack.stored.narration_id))} segments"
    if dense:
        gone = f"{_num_gone(out, featureset, lack, result)} steps"
    if not gone.startswith("0 "):
        file = lack.path or f"the file of video {lack.video_id}, which has gone,"
        reason = (
            f"{file} no longer gives {gone} whose features are there, so "
            f"{video_path(out, lack.video_id)} is kept as it is; bring back the whole video and run again"
        )
        failures = [Failure(name, "KeptEarlier", reason) for name in sorted(lack.missing)]
        failed = set(lack.missing)
    elif failed < set(lack.wanted.narration_id):
        features = _dense(lack, result) if dense else _by_segment(lack, result, failed)
        write_video(out, features, featureset)
    write_failures(out, lack.video_id, [*lack.others, *failures])
    num_failed = len(lack.missing & failed)
    return Counter(already=lack.already, failed=num_failed, done=len(lack.missing) - num_failed)


def _num_gone(out: Path, featureset: FeatureSet, lack: Lack, result: ClipFeatures) -> int:
    """Give how many steps of a dense set's file there would be fewer."""
    if not video_path(out, lack.video_id).is_file():
        return 0
    there = len(read_video(out, lack.video_id, digest=featureset.digest).seconds)
    return max(0, there - (len(result.steps) - len(result.lost)))


def _failures(lack: Lack, result: ClipFeatures) -> list[Failure]:
    wanted = lack.wanted
    if result.refused is not None:
        return [Failure(name, result.refused.error, result.refused.message) for name in wanted.narration_id]
    return _out_of_reach(result.info, result.plan) + _lost(result)


def _out_of_reach(info: VideoInfo, plan: VideoPlan) -> list[Failure]:
    truncated = " (the file is truncated: its index lists more frames)" if info.is_truncated else ""
    beyond_end = [
        Failure(name, "BeyondEnd", f"{info.path}, segment {name}: {what}{truncated}")
        for name, what in plan.beyond_end.items()
    ]
    return beyond_end + [
        Failure(name, "NoFrames", f"{info.path}, segment {name}: {what}") for name, what in plan.in_gap.items()
    ]


def _lost(result: ClipFeatures) -> list[Failure]:
    failures = []
    for name, (first, stop) in zip(result.plan.narration_id, result.plan.clip_range.tolist(), strict=True):
        loss = next((result.lost[clip] for clip in range(first, stop) if clip in result.lost), None)
        if loss is not None:
            message = f"{result.info.path}, segment {name}: {loss.message}"
            failures.append(Failure(name, loss.error, message, frame=loss.frame))
    return failures


def _by_segment(lack: Lack, result: ClipFeatures, failed: set[str]) -> VideoFeatures:
    plan = result.plan
    kept = [index for index, name in enumerate(plan.narration_id) if name not in failed]
    names = tuple(plan.narration_id[index] for index in kept)
    clips = np.concatenate([np.arange(*plan.clip_range[index]) for index in kept])
    num_steps = np.diff(plan.clip_range[kept], axis=1)[:, 0] * plan.seconds.shape[1]
    rows = [lack.wanted.narration_id.index(name) for name in names]
    return VideoFeatures(
        **_steps(lack.video_id, result, clips),
        narration_id=names,
        offset=np.concatenate([[0], np.cumsum(num_steps)]),
        start_s=lack.wanted.start_s[rows],
        stop_s=lack.wanted.stop_s[rows],
    )


def _dense(lack: Lack, result: ClipFeatures) -> VideoFeatures:
    clips = np.array([clip for clip in range(len(result.steps)) if clip not in result.lost], dtype=np.int64)
    return VideoFeatures(
        **_steps(lack.video_id, result, clips),
        narration_id=(),
        offset=np.zeros(1, dtype=np.int64),
        start_s=np.zeros(0),
        stop_s=np.zeros(0),
    )


def _steps(video_id: str, result: ClipFeatures, clips: np.ndarray) -> dict[str, object]:
    return {
        "video_id": video_id,
        "fps": result.info.fps,
        "features": result.steps[clips].reshape(-1, 1, result.steps.shape[-1]),
        "seconds": result.plan.seconds[clips].reshape(-1),
        "frame": result.plan.frame[clips].reshape(-1),
    }
