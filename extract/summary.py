"""What a run has done so far: its counts, shown in the progress bar and in the status file, and its summary."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tqdm import tqdm

from extract.pipeline import WaitTimes
from extract.tasks.running import StatusWriter
from features.annotations import Segments


@dataclass(frozen=True)
class Summary:
    """What a run did, in segments; `done`, `kept` and `failed` add up to `segments`.

    Attributes:
        videos: how many videos the segments lie in.
        segments: how many segments the annotations ask for.
        done: extracted by this run.
        kept: extracted before this run.
        failed: without features; the reasons are recorded in failures/.
        failed_videos: the ids of the videos with a failed segment.
    """

    videos: int
    segments: int
    done: int
    kept: int
    failed: int
    failed_videos: tuple[str, ...]


class Account:
    """Counts the segments of a run, and shows its progress in the bar and in the status file."""

    def __init__(self, segments: Segments, bar: tqdm, wait_times: WaitTimes, status: StatusWriter) -> None:
        self.status = status
        self._bar = bar
        self._wait_times = wait_times
        counts = segments.table.video_id.value_counts()
        self._num_segments = {str(video_id): int(num) for video_id, num in counts.items()}
        self._clips_ended: Counter[str] = Counter()  # per video
        self._shown: Counter[str] = Counter()  # segments per video that the bar counts already
        self._counts: Counter[str] = Counter()
        self._failed_videos: set[str] = set()

    def clips_ended(self, video_id: str, num_clips: int, total: int) -> None:
        """Note clips that are computed or have failed; the bar counts the same share of the video's segments."""
        self._clips_ended[video_id] += num_clips
        self._bar.set_postfix_str(str(self._wait_times), refresh=False)
        self._show(video_id, self._num_segments[video_id] * self._clips_ended[video_id] // total)

    def video_ended(self, video_id: str, counts: Counter[str]) -> None:
        """Note how many segments of a video are done, kept and failed."""
        self.status.end(video_id)
        self._counts.update(counts)
        if counts["failed"]:
            self._failed_videos.add(video_id)
        self._show(video_id, self._num_segments[video_id])

    def _show(self, video_id: str, num_segments: int) -> None:
        self._bar.update(num_segments - self._shown[video_id])
        self._shown[video_id] = num_segments

    def summary(self) -> Summary:
        """Return what has been counted."""
        return Summary(
            videos=len(self._num_segments),
            segments=sum(self._num_segments.values()),
            done=self._counts["done"],
            kept=self._counts["kept"],
            failed=self._counts["failed"],
            failed_videos=tuple(sorted(self._failed_videos)),
        )
