"""The loop of stage 1: each video is decoded once, its clips go through the backbone, its features are written.

Knows no command line and no environment variable.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable
from dataclasses import astuple, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from extract.backbones import Backbone, get
from extract.pipeline import ClipFeatures, clip_features
from extract.sampling import VideoPlan, plan_segments, segment_sampling
from extract.video import VideoError, VideoInfo, probe
from extract.videos import find_videos
from extract.weights import load_backbone
from features.annotations import Segments
from features.errors import OptionError
from features.featureset import FeatureSet, Weights, create_featureset
from features.progress import progress
from features.store import (
    NO_SEGMENTS,
    Failure,
    SegmentTimes,
    VideoFeatures,
    need_same_times,
    read_failures,
    read_segment_times,
    segment_times,
    video_path,
    write_failures,
    write_video,
)


@dataclass(frozen=True)
class Summary:
    """What a run did, in segments; done, already and failed add up to asked.

    Attributes:
        videos: how many videos the segments lie in.
        done: extracted by this run.
        already: there before.
        failed: without features; recorded in failures/.
        failed_videos: the ids of the videos with a failure.
    """

    videos: int
    asked: int
    done: int
    already: int
    failed: int
    failed_videos: tuple[str, ...]


def extract_videos(
    segments: Segments,
    videos: Path,
    out: Path,
    *,
    backbone: str,
    weights: str = "default",
    num_frames: int = 16,
    device: torch.device | None = None,
) -> Summary:
    """Extract the features of segments into the feature set `out`; what is there already is kept.

    Args:
        videos: folder of the video files, in any of the layouts that `find_videos` knows.
        weights: as for `load_backbone`.
        num_frames: T, frames spread over each segment.
        device: CPU by default.

    Raises:
        OptionError: there is no such backbone, or `weights` or `num_frames` make no sense.
        DataError: `out` holds other features or cannot be written, or `videos` is no folder. What is wrong with one
            video does not end the run: it is recorded in `out`/failures and counted.
    """
    entry = get(backbone)
    if num_frames < 1:
        raise OptionError(f"--frames: {num_frames} is not a number of frames above 0.")
    files = find_videos(videos, segments.table.video_id)
    network, loaded = load_backbone(entry, weights)
    device = device or torch.device("cpu")
    featureset = create_featureset(out, _provenance(entry, loaded, num_frames))
    job = _Job(entry, network.to(device), num_frames, device, out, featureset)
    counts: Counter[str] = Counter()
    failed_videos = []
    with progress(total=len(segments), unit="segments", label=f"extract {entry.name}") as bar:
        for video_id, rows in segments.by_video():
            before = bar.n
            outcome = _bring_up_to_date(job, video_id, files[video_id], segment_times(rows), bar.update)
            counts.update(outcome)
            if outcome["failed"]:
                failed_videos.append(video_id)
            bar.update(before + len(rows) - bar.n)
    return Summary(
        videos=len(files),
        asked=len(segments),
        done=counts["done"],
        already=counts["already"],
        failed=counts["failed"],
        failed_videos=tuple(failed_videos),
    )


@dataclass(frozen=True, eq=False)
class _Job:
    """What stays the same from video to video."""

    entry: Backbone
    network: nn.Module
    num_frames: int
    device: torch.device
    out: Path
    featureset: FeatureSet


def _provenance(entry: Backbone, weights: Weights, num_frames: int) -> FeatureSet:
    packages = ("epic-heads", "torch", "torchvision", "av")
    return FeatureSet(
        backbone=entry.name,
        weights=weights,
        preprocess=entry.preprocess.as_json(),
        sampling=segment_sampling(num_frames, entry.clip),
        dim=entry.dim,
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _bring_up_to_date(
    job: _Job, video_id: str, path: Path | None, asked: SegmentTimes, on_segments: Callable[[int], None]
) -> Counter[str]:
    """Extract what a video's file lacks of the segments asked for; count them as done, already or failed.

    A file with other segments of the video is replaced by one with both, so that features never get fewer.
    """
    there = video_path(job.out, video_id)
    stored = _stored(job, video_id)
    need_same_times(there, asked, stored)
    missing = set(asked.narration_id) - set(stored.narration_id)
    already = len(asked.narration_id) - len(missing)
    # What an earlier run recorded of segments that this one does not ask for, and that are still not there.
    settled = set(asked.narration_id) | set(stored.narration_id)
    others = [one for one in read_failures(job.out, video_id) if one.narration_id not in settled]
    if not missing:
        write_failures(job.out, video_id, others)
        return Counter(already=already)
    features, failures = _extract(job, video_id, path, _union(asked, stored), on_segments)
    if set(_stored(job, video_id).narration_id) - settled:
        # Another run has written other segments of this video in the meantime: take these in as well.
        return _bring_up_to_date(job, video_id, path, asked, on_segments)
    gone = {one.narration_id for one in failures} & set(stored.narration_id)
    if gone:
        reason = (
            f"{path or f'the file of video {video_id}, which has gone,'} no longer gives {len(gone)} segments whose "
            f"features are there, so {there} is kept as it is; bring back the whole video and run again"
        )
        failures = [Failure(name, "KeptEarlier", reason) for name in sorted(missing)]
    elif features is not None:
        write_video(job.out, features, job.featureset)
    write_failures(job.out, video_id, others + failures)
    failed = len(missing & {one.narration_id for one in failures})
    return Counter(already=already, failed=failed, done=len(missing) - failed)


def _stored(job: _Job, video_id: str) -> SegmentTimes:
    if not video_path(job.out, video_id).is_file():
        return NO_SEGMENTS
    return read_segment_times(job.out, video_id, digest=job.featureset.digest)


def _union(asked: SegmentTimes, stored: SegmentTimes) -> SegmentTimes:
    """Put both together in order of time, so that a file does not depend on the order of the annotations."""
    rows = {
        name: (start, stop, name)
        for times in (stored, asked)
        for name, start, stop in zip(*astuple(times), strict=True)
    }
    start_s, stop_s, narration_id = zip(*sorted(rows.values()), strict=True)
    return SegmentTimes(narration_id, np.array(start_s), np.array(stop_s))


def _extract(
    job: _Job,
    video_id: str,
    path: Path | None,
    wanted: SegmentTimes,
    on_segments: Callable[[int], None],
) -> tuple[VideoFeatures | None, list[Failure]]:
    """Give the features of the segments of a video that can be had, None if none can, and the others' failures."""
    if path is None:
        message = f"no file named {video_id}.mp4 (whatever the case) below the folder of videos"
        return None, [Failure(name, "MissingVideo", message) for name in wanted.narration_id]
    clip = job.entry.clip
    try:
        info = probe(path)
        plan = plan_segments(info.seconds, wanted, num_frames=job.num_frames, clip=clip)
        result = clip_features(
            info,
            plan,
            job.network,
            preprocess=job.entry.preprocess,
            dim=job.entry.dim,
            device=job.device,
            on_clips=_in_segments(plan, on_segments),
        )
    except VideoError as error:
        return None, [Failure(name, "UnreadableVideo", str(error)) for name in wanted.narration_id]
    failures = _out_of_reach(info, plan) + _undecodable(info, plan, result) + _not_finite(plan, result)
    failed = {one.narration_id for one in failures}
    kept = [index for index, name in enumerate(plan.narration_id) if name not in failed]
    return (_assemble(video_id, info, plan, result, wanted, kept) if kept else None), failures


def _in_segments(plan: VideoPlan, on_segments: Callable[[int], None]) -> Callable[[int], None]:
    """Turn a count of clips done into one of segments, all of which have as many clips."""
    clips_done = 0
    per_segment = int(plan.clip_offset[1]) if plan.narration_id else 1

    def on_clips(num_clips: int) -> None:
        nonlocal clips_done
        before, clips_done = clips_done, clips_done + num_clips
        on_segments(clips_done // per_segment - before // per_segment)

    return on_clips


def _out_of_reach(info: VideoInfo, plan: VideoPlan) -> list[Failure]:
    truncated = " (the file is truncated: its index lists more frames)" if info.is_truncated else ""
    beyond_end = [
        Failure(name, "BeyondEnd", f"{info.path}, segment {name}: {what}{truncated}")
        for name, what in plan.beyond_end.items()
    ]
    return beyond_end + [
        Failure(name, "NoFrames", f"{info.path}, segment {name}: {what}") for name, what in plan.in_gap.items()
    ]


def _undecodable(info: VideoInfo, plan: VideoPlan, result: ClipFeatures) -> list[Failure]:
    failures = []
    for index, name in enumerate(plan.narration_id):
        lost = result.lost_frame[plan.clip_offset[index] : plan.clip_offset[index + 1]]
        if (lost >= 0).any():
            frame = int(lost[lost >= 0][0])
            second = info.seconds[frame]
            message = f"{info.path}, segment {name}: frame {frame} at {second:.2f} s cannot be decoded"
            failures.append(Failure(name, "Undecodable", message, frame=frame))
    return failures


def _not_finite(plan: VideoPlan, result: ClipFeatures) -> list[Failure]:
    with np.errstate(over="ignore"):  # beyond 65504 float16 is infinite, which is what is looked for
        finite = np.isfinite(result.steps.astype(np.float16)).all(axis=(1, 2))
    finite |= result.lost_frame >= 0  # not filled, and reported as undecodable
    message = "the backbone gave values that are NaN, infinite or beyond float16's 65504"
    return [
        Failure(name, "NotFinite", f"segment {name}: {message}")
        for index, name in enumerate(plan.narration_id)
        if not finite[plan.clip_offset[index] : plan.clip_offset[index + 1]].all()
    ]


def _assemble(
    video_id: str,
    info: VideoInfo,
    plan: VideoPlan,
    result: ClipFeatures,
    wanted: SegmentTimes,
    kept: list[int],
) -> VideoFeatures:
    clips = [clip for index in kept for clip in range(plan.clip_offset[index], plan.clip_offset[index + 1])]
    steps = result.steps[clips].astype(np.float16)  # (K, P, D)
    names = tuple(plan.narration_id[index] for index in kept)
    rows = [wanted.narration_id.index(name) for name in names]
    return VideoFeatures(
        video_id=video_id,
        fps=info.fps,
        features=steps.reshape(-1, 1, steps.shape[-1]),
        seconds=plan.seconds[clips].reshape(-1),
        frame=plan.frame[clips].reshape(-1),
        narration_id=names,
        offset=np.arange(len(kept) + 1, dtype=np.int64) * (len(steps) * steps.shape[1] // len(kept)),
        start_s=wanted.start_s[rows],
        stop_s=wanted.stop_s[rows],
    )
