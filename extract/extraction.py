"""The loop of stage 1: each video is decoded once, its clips go through the backbone, its features are written.

Knows no command line and no environment variable.
"""

from __future__ import annotations

import contextlib
import platform
from collections import Counter, deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from extract.backbones import Backbone, get, grid_of
from extract.decode.decoders import Decoders, num_workers_for
from extract.decode.staging import staging_folder
from extract.forward import Forward, choose_precision
from extract.outcome import Lack, look_up, write_nothing_new, write_outcome
from extract.pipeline import ClipFeatures, Loss, Pipeline, Request, Waiting
from extract.sampling import ClipShape, VideoPlan, choose_sampling, plan_video
from extract.tasks.running import Notekeeper
from extract.tasks.sharding import of_shard
from extract.videos import find_videos
from extract.weights.load import load_backbone
from extract.weights.supervision import supervision_of
from features.annotations import Segments
from features.errors import OptionError
from features.failures import FailureKind
from features.featureset import FeatureSet, Sampling, Weights, create_featureset
from features.intervals import segment_times
from features.progress import progress

# Enough to keep a device busy; 64 pictures of 224 x 224 are 39 MB, and on a CPU more of them are no faster each.
_FRAMES_PER_BATCH = {"cpu": 64, "mps": 64, "cuda": 512}
# Features waiting to be written; a slow file system holds the backbone up, and not the memory.
_WRITES_IN_FLIGHT = 4


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
    every_s: float | None = None,
    device: torch.device | None = None,
    precision: str = "auto",
    workers: int | None = None,
    batch_size: int | None = None,
    tokens: str = "mean",
    weights_dir: Path | None = None,
    fetch: bool = False,
    shard: tuple[int, int] | None = None,
    stage: Path | None = None,
) -> Summary:
    """Extract the features of segments into the feature set `out`; what is there already is kept.

    Decoding happens in processes of their own, which multiprocessing spawns: a script that calls this needs the usual
    `if __name__ == "__main__":`.

    Args:
        videos: folder of the video files, in any of the layouts that `find_videos` knows.
        weights: as for `load_backbone`.
        num_frames: T, frames spread over each segment.
        every_s: seconds from one clip to the next over the whole of each video, instead of `num_frames`.
        device: CPU by default.
        precision: of the backbone's arithmetic, as for `choose_precision`.
        workers: processes that decode; by default one for each CPU that this process may use.
        batch_size: clips of a batch; by default as suits the device.
        tokens: what is kept of a map, as for `grid_of`.
        shard: task and number of tasks, to do only the videos that `of_shard` deals to this one.
        stage: folder on a disk of this machine, to which each video is copied before it is read.
        weights_dir, fetch: where published weights lie, and whether they may be fetched, as for `load_backbone`.

    Raises:
        OptionError: there is no such backbone, or `weights` or a number make no sense.
        DataError: `out` holds other features or cannot be written, or `videos` is no folder. What is wrong with one
            video does not end the run: it is recorded in `out`/failures and counted.
    """
    entry = get(backbone)
    grid = grid_of(tokens, entry)
    device = device or torch.device("cpu")
    sampling = choose_sampling(num_frames, every_s, entry.clip)
    precision = choose_precision(precision, device)
    workers = num_workers_for(workers)
    if batch_size is not None and batch_size < 1:
        raise OptionError("--batch-size", f"{batch_size} is not a number of clips above 0.")
    batch_size = batch_size or usual_batch_size(device, entry.clip)
    if shard is not None:
        dealt = of_shard(segments, sampling, entry.clip, shard)
        if dealt is None:
            return Summary(videos=0, asked=0, done=0, already=0, failed=0, failed_videos=())
        segments = dealt
    files = find_videos(videos, segments.table.video_id)
    network, loaded = load_backbone(entry, weights, folder=weights_dir, fetch=fetch)
    featureset = create_featureset(out, _provenance(entry, loaded, sampling, precision, tokens))
    with progress(total=len(segments), unit="segments", label=f"extract {entry.name}") as bar:
        waiting = Waiting()
        notes = Notekeeper(out, shard)
        run = _Run(out, featureset, entry.clip, bar, waiting, notes)
        pipeline = Pipeline(
            Forward(network, entry.preprocess, device, precision, grid),
            preprocess=entry.preprocess,
            dim=featureset.dim,
            device=device,
            batch_size=batch_size,
            waiting=waiting,
            on_clips=run.show_clips,
        )
        lacking = run.look_up((video_id, files[video_id], rows) for video_id, rows in segments.by_video())
        if lacking:
            place = contextlib.nullcontext() if stage is None else staging_folder(stage)
            with place as copies, notes, Decoders(workers) as decoders, ThreadPoolExecutor(1, "writer") as writer:
                while lacking:
                    results = pipeline.run((run.request(lack, copies) for lack in lacking), decoders)
                    lacking = run.write(results, writer)
    return Summary(
        videos=len(files),
        asked=len(segments),
        done=run.counts["done"],
        already=run.counts["already"],
        failed=run.counts["failed"],
        failed_videos=tuple(sorted(run.failed_videos)),
    )


def usual_batch_size(device: torch.device, clip: ClipShape) -> int:
    """Give how many clips suit a device."""
    return max(1, _FRAMES_PER_BATCH[device.type] // clip.num_frames)


def _provenance(entry: Backbone, weights: Weights, sampling: Sampling, precision: str, tokens: str) -> FeatureSet:
    packages = ("epic-heads", "torch", "torchvision", "transformers", "av")
    return FeatureSet(
        backbone=entry.name,
        weights=weights,
        preprocess=entry.preprocess.as_json(),
        precision=precision,
        sampling=sampling,
        dim=entry.dim * grid_of(tokens, entry) ** 2,
        tokens=tokens,
        supervision=supervision_of(entry, weights),
        versions={
            "python": platform.python_version(),
            **{name: found for name in packages if (found := _version(name)) is not None},
        },
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # transformers, which not every backbone needs
        return None


class _Run:
    """One run's account of its videos: what they lack, how far they are, what has been written."""

    def __init__(
        self, out: Path, featureset: FeatureSet, clip: ClipShape, bar: tqdm, waiting: Waiting, notes: Notekeeper
    ) -> None:
        self._out = out
        self._featureset = featureset
        self._clip = clip
        self._bar = bar
        self._waiting = waiting
        self._notes = notes
        self._copies: dict[str, Path] = {}
        self._lacks: dict[str, Lack] = {}
        self._clips_done: Counter[str] = Counter()
        self._shown: Counter[str] = Counter()  # segments
        self.counts: Counter[str] = Counter()
        self.failed_videos: set[str] = set()

    def look_up(self, asked: Iterable[tuple[str, Path | None, Segments]]) -> list[Lack]:
        """Give what videos lack, less those that lack nothing or have no file: these are settled at once."""
        lacking = []
        for video_id, path, rows in asked:
            lack = look_up(self._out, self._featureset, video_id, path, segment_times(rows))
            self._lacks[video_id] = lack
            if not lack.missing:
                self._settle(lack, write_nothing_new(self._out, lack))
            elif path is None:
                message = f"no file named {video_id}.mp4 (whatever the case) below the folder of videos"
                lost = ClipFeatures.refusal(video_id, Loss(FailureKind.MISSING_VIDEO, message))
                self._settle(lack, write_outcome(self._out, self._featureset, lack, lost))
            else:
                lacking.append(lack)
        return lacking

    def request(self, lack: Lack, copies: Path | None) -> Request:
        """Give what the pipeline needs to know of a video that begins; `copies` is a folder for copies of videos."""

        def plan(frame_seconds: np.ndarray) -> VideoPlan:
            return plan_video(frame_seconds, lack.wanted, self._featureset.sampling, self._clip)

        self._notes.begin(lack.video_id)
        if copies is not None:
            self._copies[lack.video_id] = copies / f"{lack.video_id}{lack.path.suffix}"
        return Request(lack.video_id, lack.path, plan, self._copies.get(lack.video_id))

    def write(self, results: Iterable[ClipFeatures], writer: ThreadPoolExecutor) -> list[Lack]:
        """Have results written while others are made; give those of which another run has changed the file since."""
        again: list[Lack] = []
        writes: deque[tuple[Lack, Future]] = deque()

        def settle_first() -> None:
            lack, write = writes.popleft()
            counted = write.result()
            if counted is not None:
                self._settle(lack, counted)
            else:
                again.append(look_up(self._out, self._featureset, lack.video_id, lack.path, lack.asked))

        for result in results:
            if result.video_id in self._copies:
                self._copies[result.video_id].unlink(missing_ok=True)
            lack = self._lacks[result.video_id]
            writes.append((lack, writer.submit(write_outcome, self._out, self._featureset, lack, result)))
            while writes and (len(writes) > _WRITES_IN_FLIGHT or writes[0][1].done()):
                settle_first()
        while writes:
            settle_first()
        self._lacks.update({lack.video_id: lack for lack in again})
        return again

    def show_clips(self, video_id: str, num_clips: int, total: int) -> None:
        """Note clips that are done or lost; of all segments of a video, as large a share is shown as done."""
        self._clips_done[video_id] += num_clips
        self._bar.set_postfix_str(str(self._waiting), refresh=False)
        self._show(video_id, len(self._lacks[video_id].asked.narration_id) * self._clips_done[video_id] // total)

    def _show(self, video_id: str, segments: int) -> None:
        self._bar.update(segments - self._shown[video_id])
        self._shown[video_id] = segments

    def _settle(self, lack: Lack, counted: Counter[str]) -> None:
        self._notes.end(lack.video_id)
        self.counts.update(counted)
        if counted["failed"]:
            self.failed_videos.add(lack.video_id)
        self._show(lack.video_id, len(lack.asked.narration_id))
