"""What an extraction would do, without doing it. Reads every packet of the videos, and decodes none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from extract.backbones import Backbone, get, grid_of
from extract.decode.decoders import Decoders, Lost, num_workers_for
from extract.decode.packets import needed
from extract.decode.video import VideoInfo
from extract.sampling import VideoPlan, choose_sampling, plan_video
from extract.tasks.sharding import deal_videos
from extract.videos import find_videos
from features.annotations import Segments
from features.errors import OptionError
from features.failures import FailureKind
from features.intervals import segment_times
from features.progress import progress


@dataclass(frozen=True)
class Plan:
    """What an extraction takes and gives.

    Attributes:
        videos: that can be read; `hours` is how long they are together.
        segments: asked for.
        failed: why segments cannot be had -> how many.
        frames: of all videos.
        wanted_frames: distinct frames that a clip shows.
        decoded_frames: packets that must be decoded for them.
        clips, clip_frames: C clips of L frames.
        steps, dim: N rows of D values.
        size_bytes: of the features on disk, but for some kilobytes a video.
        task_cost: of each array task, as its videos are dealt to it, in frames decoded and frames seen by the backbone.
    """

    videos: int
    hours: float
    segments: int
    failed: Mapping[FailureKind, int]
    frames: int
    wanted_frames: int
    decoded_frames: int
    clips: int
    clip_frames: int
    steps: int
    dim: int
    size_bytes: int
    task_cost: tuple[int, ...]

    @property
    def imbalance(self) -> float:
        """The heaviest task's cost over the mean; 1 where there is nothing to do."""
        return max(self.task_cost) * len(self.task_cost) / max(sum(self.task_cost), 1) or 1.0


@dataclass(frozen=True)
class _Share:
    """What one video adds."""

    seconds: float
    frames: int
    wanted: int
    decoded: int
    clips: int
    steps: int
    cost: int


def plan_extraction(
    segments: Segments,
    videos: Path,
    *,
    backbone: str,
    num_frames: int = 16,
    every_s: float | None = None,
    tasks: int = 8,
    workers: int | None = None,
    tokens: str = "mean",
) -> Plan:
    """Plan the extraction of segments, and how its videos are dealt to array tasks.

    Raises:
        OptionError: there is no such backbone, or a number makes no sense.
        DataError: `videos` is no folder.
    """
    entry = get(backbone)
    dim = entry.dim * grid_of(tokens, entry) ** 2
    sampling = choose_sampling(num_frames, every_s, entry.clip)
    if tasks < 1:
        raise OptionError("--tasks", f"{tasks} is not a number of tasks above 0.")
    workers = num_workers_for(workers)
    files = find_videos(videos, segments.table.video_id)
    rows = dict(segments.by_video())
    failed = Counter({FailureKind.MISSING_VIDEO: sum(len(rows[name]) for name, path in files.items() if path is None)})
    shares: dict[str, _Share] = {}
    for video_id, info in _probed({name: path for name, path in files.items() if path is not None}, workers):
        if isinstance(info, Lost):
            failed[info.error] += len(rows[video_id])
            continue
        plan = plan_video(info.seconds, segment_times(rows[video_id]), sampling, entry.clip)
        failed.update({FailureKind.BEYOND_END: len(plan.beyond_end), FailureKind.NO_FRAMES: len(plan.in_gap)})
        shares[video_id] = _share(info, plan, entry)
    dealt = deal_videos(segments, sampling, entry.clip, tasks)
    task_cost = tuple(sum(shares[video].cost for video in videos if video in shares) for videos in dealt)
    return _summed(list(shares.values()), segments, failed, entry, dim, task_cost)


def _summed(
    shares: Sequence[_Share],
    segments: Segments,
    failed: Mapping[FailureKind, int],
    entry: Backbone,
    dim: int,
    task_cost: tuple[int, ...],
) -> Plan:
    steps = sum(share.steps for share in shares)
    return Plan(
        videos=len(shares),
        hours=sum(share.seconds for share in shares) / 3600,
        segments=len(segments),
        failed={why: num for why, num in failed.items() if num},
        frames=sum(share.frames for share in shares),
        wanted_frames=sum(share.wanted for share in shares),
        decoded_frames=sum(share.decoded for share in shares),
        clips=sum(share.clips for share in shares),
        clip_frames=entry.clip.num_frames,
        steps=steps,
        dim=dim,
        size_bytes=steps * (dim * 2 + 8 + 4),  # float16 features, float64 seconds, int32 frame
        task_cost=task_cost,
    )


def _probed(files: Mapping[str, Path], workers: int) -> Iterator[tuple[str, VideoInfo | Lost]]:
    """Probe videos in as many processes; give each video's id and what was found, as they come."""
    todo = list(files.items())[::-1]
    with Decoders(workers) as decoders, progress(total=len(todo), unit="videos", label="read packets") as bar:
        while todo or decoders.num_open:
            while todo and decoders.wants_task():
                decoders.submit(*todo.pop())
            for event in decoders.events():
                if isinstance(event.what, (VideoInfo, Lost)):
                    bar.update()
                    yield event.key, event.what


def _share(info: VideoInfo, plan: VideoPlan, entry: Backbone) -> _Share:
    decoded = int(needed(info.packets, info.pts[plan.wanted]).sum())
    return _Share(
        seconds=float(info.seconds[-1] - info.seconds[0]),
        frames=len(info.pts),
        wanted=len(plan.wanted),
        decoded=decoded,
        clips=len(plan.clips),
        steps=plan.seconds.size,
        cost=decoded + len(plan.clips) * entry.clip.num_frames,
    )
