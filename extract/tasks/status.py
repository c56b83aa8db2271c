"""How far an extraction has come, over all of its tasks. Reads only the files of the feature set."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from extract.tasks.running import RunningTask, read_running_tasks
from features.annotations import Segments
from features.errors import DataError, unknown_name
from features.failures import failed_video_ids, read_failures
from features.featureset import FeatureSet, read_featureset
from features.intervals import segment_times
from features.store import held_segments, read_times, video_ids, video_path

# The rate is that of the last hour of work: long enough for many videos, short enough to follow changes.
_WINDOW_S = 3600.0


@dataclass(frozen=True)
class Status:
    """How many videos and segments are done, running, failed and missing; the four add up to the total.

    Attributes:
        done_videos: with features of all their segments.
        running_videos: that a task works on.
        failed_videos: with a failed segment.
        missing_videos: all others.
        running: the tasks that are running.
        segments_per_hour: in the last hour in which videos were finished; None with fewer than two such videos.
        hours_left: for the running and missing segments at that rate; None if the rate is not known.
        last_finished_s_ago: seconds since the last video was finished; None if there is none.
        views: names of the views that a segment needs to be done.
        view_segments: name of each view of the set -> how many segments have it.
    """

    videos: int
    done_videos: int
    running_videos: int
    failed_videos: int
    missing_videos: int
    segments: int
    done_segments: int
    running_segments: int
    failed_segments: int
    missing_segments: int
    running: tuple[RunningTask, ...]
    segments_per_hour: float | None
    hours_left: float | None
    last_finished_s_ago: float | None
    views: tuple[str, ...]
    view_segments: Mapping[str, int]


@dataclass(frozen=True)
class _VideoStatus:
    """One video: its state, and how many of its segments are done and how many are in that state.

    Attributes:
        finished: when its file was written, in seconds since the epoch; None if there is no file.
        views: of its file, and how many of the segments have them.
    """

    state: str  # done, running, failed or missing
    num_done: int
    num_in_state: int
    finished: float | None
    views: Mapping[str, int]


def read_status(
    root: Path, segments: Segments, *, views: Sequence[str] | None = None, now: float | None = None
) -> Status:
    """Return what a feature set holds of `segments`, while it is being made or after.

    Args:
        views: names of the views that a segment needs to be done; by default the first of the set.
        now: seconds since the epoch, by default the present.

    Raises:
        OptionError: the set has no such view.
        DataError: the folder is no feature set, or a file of it is damaged.
    """
    root = Path(root)
    featureset = read_featureset(root)
    needed = featureset.views[:1] if views is None else tuple(views)
    for view in needed:
        if view not in featureset.views:
            raise unknown_name("--views", f"view of {root}", view, featureset.views)
    now = time.time() if now is None else now
    tasks = read_running_tasks(root, now=now)
    running_ids = {video_id for task in tasks for video_id in task.videos}
    videos = _video_states(root, featureset, segments, needed, running=running_ids)
    num_videos = {state: sum(video.state == state for video in videos) for state in ("done", "running", "failed")}
    done = sum(video.num_done for video in videos)
    running, failed = (
        sum(video.num_in_state for video in videos if video.state == state) for state in ("running", "failed")
    )
    missing = len(segments) - done - running - failed
    finished = [(video.finished, video.num_done) for video in videos if video.finished is not None]
    rate = _rate(finished)
    return Status(
        videos=len(videos),
        done_videos=num_videos["done"],
        running_videos=num_videos["running"],
        failed_videos=num_videos["failed"],
        missing_videos=len(videos) - sum(num_videos.values()),
        segments=len(segments),
        done_segments=done,
        running_segments=running,
        failed_segments=failed,
        missing_segments=missing,
        running=tuple(tasks),
        segments_per_hour=rate,
        hours_left=(running + missing) / rate if rate else None,
        last_finished_s_ago=max(0.0, now - max(moment for moment, _ in finished)) if finished else None,
        views=needed,
        view_segments={view: sum(video.views.get(view, 0) for video in videos) for view in featureset.views},
    )


def _video_states(
    root: Path, featureset: FeatureSet, segments: Segments, views: Sequence[str], *, running: set[str]
) -> list[_VideoStatus]:
    """Return the status of each video, of which those with the ids `running` are being worked on."""
    with_file, with_failures = set(video_ids(root)), set(failed_video_ids(root))
    videos = []
    for video_id, rows in segments.by_video():
        requested = set(rows.narration_id)
        own_views: Mapping[str, int] = {}
        stored: set[str] = set()
        if video_id in with_file:
            times = read_times(root, video_id, digest=featureset.digest)
            held = held_segments(root, video_id, featureset, segment_times(rows), times=times)
            in_any_view = requested & set(held.narration_id)
            own_views = dict.fromkeys(times.views, len(in_any_view))
            stored = in_any_view if set(views) <= set(times.views) else set()
        failed: set[str] = set()
        if video_id in with_failures:
            failed = requested & {failure.narration_id for failure in read_failures(root, video_id)} - stored
        if stored == requested:
            state, num_in_state = "done", len(stored)
        elif video_id in running:
            state, num_in_state = "running", len(requested - stored)
        elif failed:
            state, num_in_state = "failed", len(failed)
        else:
            state, num_in_state = "missing", len(requested - stored)
        finished = video_path(root, video_id).stat().st_mtime if video_id in with_file else None
        videos.append(_VideoStatus(state, len(stored), num_in_state, finished, own_views))
    return videos


def _rate(finished: Sequence[tuple[float, int]]) -> float | None:
    """Return segments per hour from the first video of the window to the last; the first only starts the clock.

    Args:
        finished: per video, when it was finished, in seconds since the epoch, and how many segments it has.
    """
    if not finished:
        return None
    last = max(moment for moment, _ in finished)
    window = sorted((moment, num) for moment, num in finished if moment > last - _WINDOW_S)
    took_s = last - window[0][0]
    return 3600 * sum(num for _, num in window[1:]) / took_s if took_s > 0 else None


def queued_jobs() -> list[dict[str, str]]:
    """Return the user's waiting and running tasks of jobs/extract.sbatch: task, state, time and why, from squeue.

    Raises:
        DataError: there is no squeue, or it fails.
    """
    command = ["squeue", "--me", "--name=extract", "--noheader", "--array", "--format=%i|%T|%M|%R"]
    try:
        queue = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError as error:
        raise DataError("--slurm: there is no squeue on this machine.") from error
    except subprocess.TimeoutExpired as error:
        raise DataError("--slurm: squeue does not answer.") from error
    except subprocess.CalledProcessError as error:
        raise DataError(f"--slurm: squeue fails: {error.stderr.strip()}") from error
    return [
        dict(zip(("task", "state", "time", "why"), line.split("|"), strict=True)) for line in queue.stdout.splitlines()
    ]
