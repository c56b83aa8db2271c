"""Estimate what an extraction costs, without doing it.

Reads every packet of the videos and decodes none; or reads no video at all, and goes by the published list of videos.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from extract.backbones import Backbone, get
from extract.backbones.tokens import choose_tokens
from extract.decode.decoders import Decoders, TaskFailure, num_workers_for
from extract.decode.frames import FramesInfo
from extract.decode.packets import needed_packets
from extract.decode.probing import VideoInfo
from extract.decode.sources import Source, needed_until
from extract.regions.crops import num_regions
from extract.sampling import END_TOLERANCE_S, VideoPlan, choose_clip, choose_sampling, moved_clips, plan_video
from extract.tasks.sharding import DECODED_PER_S, deal_videos
from extract.videos import find_videos
from extract.views import choose_views
from features.annotations import Segments, find_csv, read_video_info
from features.errors import OptionError
from features.failures import FailureKind
from features.featureset import Sampling
from features.intervals import segment_times
from features.progress import progress
from features.views import CENTRE

_VIDEO_INFO = "EPIC_100_video_info.csv"


@dataclass(frozen=True)
class Estimate:
    """What an extraction reads, computes and writes.

    Attributes:
        videos, hours: number and total length of the videos that can be read.
        segments: how many segments the annotations ask for.
        failed: kind of failure -> how many segments will have no features because of it.
        frames: of all videos.
        wanted_frames: distinct frames that a clip shows.
        decoded_frames: frames that must be decoded for them.
        views: names of the views of each clip.
        clips, clip_frames: C clips of L frames, counted once for each region of each view.
        clip_fps: frames per second within a clip; None for single frames, and for frames that are spread over segments.
        clip_gflops: billions of multiply-adds per clip.
        steps, dim: N rows of D values.
        size_bytes: of the features on disk, apart from some kilobytes per video.
        task_cost: per array task, frames that are decoded plus frames that the backbone sees.
    """

    videos: int
    hours: float
    segments: int
    failed: Mapping[FailureKind, int]
    frames: int
    wanted_frames: int
    decoded_frames: int
    views: tuple[str, ...]
    clips: int
    clip_frames: int
    clip_fps: float | None
    clip_gflops: float
    steps: int
    dim: int
    size_bytes: int
    task_cost: tuple[int, ...]

    @property
    def imbalance(self) -> float:
        """The cost of the heaviest task divided by the mean; 1 if there is nothing to do."""
        return max(self.task_cost) * len(self.task_cost) / max(sum(self.task_cost), 1) or 1.0

    def gpu_hours(self, tflops: float) -> float:
        """Return how long the backbone's arithmetic takes at so many TFLOP/s, of which a multiply-add counts two."""
        return self.clips * self.clip_gflops * 2e9 / (tflops * 1e12) / 3600


@dataclass(frozen=True)
class _VideoEstimate:
    """What one video adds to the estimate."""

    seconds: float
    frames: int
    wanted: int
    decoded: int
    clips: int
    steps: int
    cost: int


def estimate_extraction(
    segments: Segments,
    videos: Path | pd.DataFrame,
    *,
    backbone: str,
    num_frames: int = 16,
    every_s: float | None = None,
    clip: str | float | None = None,
    tasks: int = 8,
    workers: int | None = None,
    tokens: str | None = None,
    layers: str | Sequence[int | str] | None = None,
    views: str | Sequence[str] = CENTRE,
    input_form: str | None = None,
    frames_fps: float | None = None,
    regions: str | None = None,
) -> Estimate:
    """Return what the extraction of segments costs, and how even its work is over array tasks.

    Args:
        videos: their folder; or the table of `read_video_info`, by whose lengths and frame rates frames are counted
            then. How many frames must be decoded is estimated from the length alone in that case.
        tasks: how many array tasks the videos are dealt to.

    The other arguments are those of `extract_videos`.

    Raises:
        OptionError: there is no such backbone, or a number makes no sense.
        DataError: `videos` is no folder.
    """
    entry = get(backbone)
    chosen = choose_views(views, entry.preprocess)
    dim = entry.dim * len(choose_tokens(tokens, layers, entry).cells) * num_regions(regions)
    num_looks = len(chosen) * num_regions(regions)
    shape = choose_clip(clip, entry.clip, every_s)
    sampling = choose_sampling(num_frames, every_s, shape)
    if tasks < 1:
        raise OptionError("--tasks", f"{tasks} is not a number of tasks above 0.")
    workers = num_workers_for(workers)
    rows = dict(segments.by_video())
    known: Iterable[tuple[str, VideoInfo | TaskFailure | np.ndarray]]
    if isinstance(videos, pd.DataFrame):
        known = _listed(videos, rows)
    else:
        found = find_videos(videos, segments.table.video_id, form=input_form, frames_fps=frames_fps)
        last_s = {name: float(rows[name].table.stop_s.max()) - END_TOLERANCE_S for name in rows}
        sources = {name: needed_until(source, last_s[name]) for name, source in found.items() if source is not None}
        known = _probed(sources, workers)
    failed: Counter[FailureKind] = Counter({FailureKind.MISSING_VIDEO: 0})
    missing, estimates = set(rows), dict[str, _VideoEstimate]()
    for video_id, info in known:
        missing.remove(video_id)
        if isinstance(info, TaskFailure):
            failed[info.error] += len(rows[video_id])
            continue
        seconds = info if isinstance(info, np.ndarray) else info.seconds
        plan = plan_video(seconds, segment_times(rows[video_id]), sampling, shape)
        failed.update({FailureKind.BEYOND_END: len(plan.beyond_end), FailureKind.NO_FRAMES: len(plan.in_gap)})
        if isinstance(info, FramesInfo):
            failed[FailureKind.NO_FRAMES] += _num_lacking(info, plan)
        shifts = {view.shift for view in chosen}
        wanted = np.unique(np.concatenate([moved_clips(plan, seconds, shift) for shift in shifts]))
        decoded = _num_decoded(info, wanted, DECODED_PER_S[sampling.kind])
        estimates[video_id] = _VideoEstimate(
            seconds=float(seconds[-1] - seconds[0]),
            frames=len(seconds),
            wanted=len(wanted),
            decoded=decoded,
            clips=len(plan.clips) * num_looks,
            steps=plan.seconds.size,
            cost=decoded + len(plan.clips) * num_looks * entry.clip.num_frames,
        )
    failed[FailureKind.MISSING_VIDEO] = sum(len(rows[video_id]) for video_id in missing)
    dealt = deal_videos(segments, sampling, shape, tasks, num_looks=num_looks)
    task_cost = tuple(sum(estimates[name].cost for name in task if name in estimates) for task in dealt)
    names = tuple(view.name for view in chosen)
    return _total(list(estimates.values()), segments, failed, entry, sampling, dim, names, task_cost)


def _total(
    estimates: Sequence[_VideoEstimate],
    segments: Segments,
    failed: Mapping[FailureKind, int],
    entry: Backbone,
    sampling: Sampling,
    dim: int,
    views: tuple[str, ...],
    task_cost: tuple[int, ...],
) -> Estimate:
    steps = sum(video.steps for video in estimates)
    return Estimate(
        videos=len(estimates),
        hours=sum(video.seconds for video in estimates) / 3600,
        segments=len(segments),
        failed={kind: num for kind, num in failed.items() if num},
        frames=sum(video.frames for video in estimates),
        wanted_frames=sum(video.wanted for video in estimates),
        decoded_frames=sum(video.decoded for video in estimates),
        views=views,
        clips=sum(video.clips for video in estimates),
        clip_frames=sampling.clip_frames,
        clip_fps=sampling.clip_fps,
        clip_gflops=entry.gflops,
        steps=steps,
        dim=dim,
        size_bytes=steps * (len(views) * dim * 2 + 8 + 4),  # float16 features, float64 seconds, int32 frame
        task_cost=task_cost,
    )


def video_info_beside(annotations: Sequence[Path]) -> pd.DataFrame:
    """Return the published list of videos, EPIC_100_video_info.csv, from a folder of annotations or beside a CSV.

    Raises:
        OptionError: it is not there.
    """
    folders = [path if path.is_dir() else path.parent for path in map(Path, annotations)]
    file = next((found for folder in folders if (found := find_csv(folder, _VIDEO_INFO))), None)
    if file is None:
        raise OptionError("--videos", f"is missing; without it, {_VIDEO_INFO} must lie beside the annotations.")
    return read_video_info(file)


def _listed(videos: pd.DataFrame, video_ids: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each video's id and the (F,) seconds that its frames have by the list of videos."""
    for video_id in video_ids:
        if video_id in videos.index:
            video = videos.loc[video_id]
            yield video_id, np.arange(max(1, round(video.duration_s * video.fps))) / video.fps


def _probed(sources: Mapping[str, Source], workers: int) -> Iterator[tuple[str, VideoInfo | TaskFailure]]:
    """Yield each video's id and what is known of it, in the order in which the workers finish."""
    todo = list(sources.items())[::-1]
    with Decoders[str](workers) as decoders, progress(total=len(todo), unit="videos", label="read packets") as bar:
        while todo or decoders.num_open:
            while todo and decoders.wants_task():
                decoders.submit(*todo.pop())
            for event in decoders.events():
                if isinstance(event.result, (VideoInfo, TaskFailure)):
                    bar.update()
                    yield event.key, event.result


def _num_lacking(info: FramesInfo, plan: VideoPlan) -> int:
    """Return how many segments have a clip with a JPEG frame that is missing."""
    is_whole = info.is_there[plan.clips].all(axis=1)
    return sum(not is_whole[first:stop].all() for first, stop in plan.clip_range)


def _num_decoded(info: VideoInfo | np.ndarray, wanted: np.ndarray, decoded_per_s: float) -> int:
    """Return how many frames must be decoded: exactly, or by the length of a video that is only listed."""
    if isinstance(info, VideoInfo):
        return int(needed_packets(info.packets, info.pts[wanted]).sum())
    expected = round(float(info[-1]) * decoded_per_s)
    return min(max(len(wanted), expected), len(info)) if len(wanted) else 0
