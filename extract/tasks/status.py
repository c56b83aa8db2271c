"""How far an extraction has come, over all of its tasks: told from the files of the set alone."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from extract.tasks.running import Note, read_notes
from features.annotations import Segments
from features.errors import DataError
from features.failures import failed_video_ids, read_failures
from features.featureset import read_featureset
from features.intervals import segment_times
from features.store import held_segments, video_ids, video_path

# The rate is that of the last hour of work: long enough for many videos, short enough to follow what changes.
_WINDOW_S = 3600.0


@dataclass(frozen=True)
class Status:
    """How many videos and segments are done, running, failed and missing, of those asked about; the four add up.

    Attributes:
        done_videos: with all of their segments. running_videos: that a run is at. failed_videos: with a failure.
            missing_videos: the others.
        running: what each run says of itself.
        segments_per_hour: in the last hour in which videos were finished; None with fewer than two of them.
        hours_left: for what is running or missing, at that rate; None where it is not known.
        last_finished_s_ago: since the last video was finished; None where there is none.
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
    running: tuple[Note, ...]
    segments_per_hour: float | None
    hours_left: float | None
    last_finished_s_ago: float | None


def read_status(root: Path, segments: Segments, *, now: float | None = None) -> Status:
    """Count what a feature set holds of `segments`, while it is being made or after.

    Args:
        now: seconds since the epoch, by default the present.

    Raises:
        DataError: it is no feature set, or a file of it is damaged.
    """
    root = Path(root)
    featureset = read_featureset(root)
    now = time.time() if now is None else now
    notes = read_notes(root, now=now)
    begun = {video_id for note in notes for video_id in note.videos}
    there, with_failures = set(video_ids(root)), set(failed_video_ids(root))
    done_videos = running_videos = failed_videos = done = running = failed = 0
    finished: list[tuple[float, int]] = []  # when, and how many segments
    for video_id, rows in segments.by_video():
        asked = set(rows.narration_id)
        have = asked & set(held_segments(root, video_id, featureset, segment_times(rows)).narration_id)
        lost: set[str] = set()
        if video_id in with_failures:
            lost = (asked & {one.narration_id for one in read_failures(root, video_id)}) - have
        done += len(have)
        if have == asked:
            done_videos += 1
        elif video_id in begun:
            running_videos, running = running_videos + 1, running + len(asked - have)
        elif lost:
            failed_videos, failed = failed_videos + 1, failed + len(lost)
        if video_id in there:
            finished.append((video_path(root, video_id).stat().st_mtime, len(have)))
    num_videos, missing = segments.table.video_id.nunique(), len(segments) - done - running - failed
    rate = _rate(finished)
    return Status(
        videos=num_videos,
        done_videos=done_videos,
        running_videos=running_videos,
        failed_videos=failed_videos,
        missing_videos=num_videos - done_videos - running_videos - failed_videos,
        segments=len(segments),
        done_segments=done,
        running_segments=running,
        failed_segments=failed,
        missing_segments=missing,
        running=tuple(notes),
        segments_per_hour=rate,
        hours_left=(running + missing) / rate if rate else None,
        last_finished_s_ago=max(0.0, now - max(when for when, _ in finished)) if finished else None,
    )


def _rate(finished: list[tuple[float, int]]) -> float | None:
    """Give segments an hour from the first video of the window to the last; the first one only starts the clock."""
    if not finished:
        return None
    last = max(when for when, _ in finished)
    window = sorted(one for one in finished if one[0] > last - _WINDOW_S)
    took_s = last - window[0][0]
    return 3600 * sum(num for _, num in window[1:]) / took_s if took_s > 0 else None


def queued_jobs() -> list[dict[str, str]]:
    """Give the user's waiting and running tasks of jobs/extract.sbatch: task, state, time and why, as squeue has them.

    Raises:
        DataError: there is no squeue, or it fails.
    """
    command = ["squeue", "--me", "--name=extract", "--noheader", "--array", "--format=%i|%T|%M|%R"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError as error:
        raise DataError("--slurm: there is no squeue on this machine.") from error
    except subprocess.TimeoutExpired as error:
        raise DataError("--slurm: squeue does not answer.") from error
    except subprocess.CalledProcessError as error:
        raise DataError(f"--slurm: squeue fails: {error.stderr.strip()}") from error
    return [
        dict(zip(("task", "state", "time", "why"), line.split("|"), strict=True)) for line in ran.stdout.splitlines()
    ]
