"""The loop of stage 1: each video is decoded once, its clips go through the backbone, its features are written.

Knows no command line and no environment variable.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from extract.backbone_input import ClipShape
from extract.backbones import get
from extract.backbones.tokens import choose_tokens
from extract.clips import ClipFeatures, Piece, Request, UnusableVideo
from extract.decode.decoders import Decoders, num_workers_for
from extract.decode.sources import Source, needed_until, path_of
from extract.decode.staging import remove_copy, staging_folder
from extract.decode.worker import CHUNK_BYTES, CHUNK_BYTES_FOR_GPU
from extract.forward import Forward, choose_precision
from extract.outcome import PendingVideo, pending_video, write_nothing_new, write_outcome
from extract.pipeline import Pipeline, WaitTimes
from extract.provenance import of_regions, provenance
from extract.regions.crops import MIN_SCORE, Regions, boxes_of_clips, choose_regions
from extract.regions.source import BoxFiles, BoxReader, find_boxes
from extract.sampling import (
    END_TOLERANCE_S,
    VideoPlan,
    choose_clip,
    choose_sampling,
    frames_per_segment,
    plan_video,
)
from extract.summary import Account, Summary
from extract.tasks.running import StatusWriter
from extract.tasks.sharding import segments_of_task
from extract.videos import find_videos, missing_message
from extract.views import choose_views, stored_views
from extract.weights.load import load_backbone
from features.annotations import Segments, read_all_segments
from features.device import choose_device
from features.errors import OptionError
from features.failures import FailureKind
from features.featureset import FeatureSet, create_featureset
from features.intervals import segment_times
from features.progress import progress
from features.views import CENTRE

# Enough to keep a device busy. 64 pictures of 224 x 224 are 39 MB; on a CPU a larger batch is no faster per picture.
_FRAMES_PER_BATCH = {"cpu": 64, "mps": 64, "cuda": 512}
# Videos whose features wait to be written: a slow file system then delays the backbone instead of filling the memory.
_WRITES_IN_FLIGHT = 4


def run(
    *,
    annotations: str | Path | Sequence[str | Path],
    videos: str | Path,
    backbone: str,
    out: str | Path,
    frames: int | None = None,
    every: float | None = None,
    clip: str | float | None = None,
    tokens: str | None = None,
    layers: str | Sequence[int | str] | None = None,
    views: str | Sequence[str] = CENTRE,
    weights: str | Path = "default",
    weights_dir: str | Path | None = None,
    fetch: bool = False,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    shard: tuple[int, int] | None = None,
    stage: str | Path | None = None,
    stream: int | None = None,
    input_form: str | None = None,
    frames_fps: float | None = None,
    regions: str | None = None,
    boxes: str | Path | None = None,
    min_score: float = MIN_SCORE,
) -> Summary:
    """Extract the features of annotated segments into a feature set; features that it has already are kept.

    This is what `extract run` calls. An interrupted run continues when it is called again.

        import extract

        summary = extract.run(
            annotations="data/annotations",
            videos="data/videos",
            backbone="videomae",
            out="data/features/videomae-seg16",
        )
        print(summary.done, summary.failed)

    Args:
        annotations: an annotation CSV, the folder that holds the published ones, or several of these.
        videos: folder of the videos, in any of the forms and layouts that `find_videos` knows.
        backbone: name or short name of a backbone, as `extract backbones` lists them.
        out: folder of the feature set.
        frames: T, frames spread over each segment; 16 by default.
        every: instead of `frames`, seconds from one clip to the next over the whole of each video.
        clip: frames per second within a clip, or "spread" to spread the frames of a clip evenly over the segment; by
            default what the backbone's authors use.
        tokens: what a step keeps: "mean", "cls", "grid2", "grid4", or several of them such as "mean+cls"; by default
            what the backbone's authors use.
        layers: numbers of layers, counted from 0, or "last", in a list or joined by commas; by default the last one.
        views: views of each clip, in a list or joined by commas: "centre", "left" and "right" (crops at the ends of the
            longer side), "flip", "early" and "late" (moved by a quarter of the sampling's interval), "augment:K" and
            "randaugment:K" (K random augmentations). Views that the set has already are kept.
        weights: "default" for the published weights, "random:SEED", or the path of a file or folder.
        weights_dir: folder of the published weights; by default the caches of torch.hub and of the Hugging Face hub.
        fetch: whether published weights that are missing may be fetched.
        device: "auto", "cpu", "cuda" or "mps"; "auto" is the best that this machine has.
        precision: of the backbone's arithmetic: "float32", "bfloat16", "float16" or "auto" (half precision on CUDA).
        batch_size: clips per batch; the default depends on the device.
        workers: processes that decode; by default one per CPU that this process may use.
        shard: (task, number of tasks), to do only the share of one task of a job array, counted from 0.
        stage: folder on a disk of this machine, to which each video is copied before it is read.
        stream: number of the video stream to take in each file; by default the one that a player shows.
        input_form: "video", "frames" or "chunks": which form of a video is read if `videos` holds it in several.
        frames_fps: frames per second of JPEG frames; by default those of the published frames.
        regions: "hands" or "hands+objects", to see these parts of the frames instead of whole ones.
        boxes: where the regions are: the folder of the published detections, or a table (extract/regions/tables.py).
        min_score: the least score of a hand or an object that counts.

    Raises:
        OptionError: there is no such backbone, or another value makes no sense.
        DataError: the annotations cannot be read, `out` holds other features or cannot be written, or `videos` is no
            folder. A problem with a single video does not end the run: it is recorded in failures/ and counted.
    """
    num_frames = frames_per_segment(frames, every)
    paths = [annotations] if isinstance(annotations, (str, Path)) else annotations
    return extract_videos(
        read_all_segments([Path(path) for path in paths]),
        Path(videos),
        Path(out),
        backbone=backbone,
        weights=str(weights),
        num_frames=num_frames,
        every_s=every,
        clip=clip,
        device=choose_device(device),
        precision=precision,
        workers=workers,
        batch_size=batch_size,
        tokens=tokens,
        layers=layers,
        views=views,
        weights_dir=None if weights_dir is None else Path(weights_dir),
        fetch=fetch,
        shard=shard,
        stage=None if stage is None else Path(stage),
        stream=stream,
        input_form=input_form,
        frames_fps=frames_fps,
        regions=regions,
        boxes=None if boxes is None else Path(boxes),
        min_score=min_score,
    )


def extract_videos(
    segments: Segments,
    videos: Path,
    out: Path,
    *,
    backbone: str,
    weights: str = "default",
    num_frames: int = 16,
    every_s: float | None = None,
    clip: str | float | None = None,
    device: torch.device | None = None,
    precision: str = "auto",
    workers: int | None = None,
    batch_size: int | None = None,
    tokens: str | None = None,
    layers: str | Sequence[int | str] | None = None,
    views: str | Sequence[str] = CENTRE,
    weights_dir: Path | None = None,
    fetch: bool = False,
    shard: tuple[int, int] | None = None,
    stage: Path | None = None,
    stream: int | None = None,
    input_form: str | None = None,
    frames_fps: float | None = None,
    regions: str | None = None,
    boxes: Path | None = None,
    min_score: float = MIN_SCORE,
) -> Summary:
    """Extract the features of segments that have been read already. Arguments and errors are those of `run`.

    Args:
        num_frames, every_s: the `frames` and `every` of `run`; `every_s` goes first.
        device: the CPU by default.
    """
    entry = get(backbone)
    kept = choose_tokens(tokens, layers, entry)
    chosen = choose_views(views, entry.preprocess)
    seen = choose_regions(regions, chosen, boxes, min_score)
    num_looks = len(chosen) * (1 if seen is None else len(seen.names))
    device = device or torch.device("cpu")
    shape = choose_clip(clip, entry.clip, every_s)
    sampling = choose_sampling(num_frames, every_s, shape)
    precision = choose_precision(precision, device)
    workers = num_workers_for(workers)
    if batch_size is not None and batch_size < 1:
        raise OptionError("--batch-size", f"{batch_size} is not a number of clips above 0.")
    known_ids = segments.table.video_id.unique()
    if shard is not None:
        share = segments_of_task(segments, sampling, shape, shard, num_looks=num_looks)
        if share is None:
            return Summary(videos=0, segments=0, done=0, kept=0, failed=0, failed_videos=())
        segments = share
    sources = find_videos(videos, segments.table.video_id, known_ids=known_ids, form=input_form, frames_fps=frames_fps)
    files = None
    if boxes is not None and seen is not None:
        files = find_boxes(boxes, known_ids, min_score=min_score)
    network, loaded = load_backbone(entry, weights, folder=weights_dir, fetch=fetch)
    record = provenance(entry, loaded, sampling, precision, kept, chosen)
    if files is not None and seen is not None:
        record = of_regions(record, seen, files.name)
    featureset = create_featureset(out, record)
    wait_times = WaitTimes()
    with progress(total=len(segments), unit="segments", label=f"extract {entry.name}") as bar:
        account = Account(segments, bar, wait_times, StatusWriter(out, shard))
        pipeline = Pipeline(
            Forward(network, entry.preprocess, device, precision, kept),
            preprocess=entry.preprocess,
            dim=entry.dim * len(kept.cells),
            device=device,
            batch_size=batch_size or usual_batch_size(device, shape),
            wait_times=wait_times,
            on_clips=account.clips_ended,
        )
        names = tuple(view.name for view in chosen)
        pending = _pending_videos(out, featureset, segments, sources, input_form, names, files, account)
        if pending:
            staging = contextlib.nullcontext() if stage is None else staging_folder(stage)
            with (
                staging as copies,
                account.status,
                Decoders[Request | Piece](workers, chunk_bytes=usual_chunk_bytes(device), stream=stream) as decoders,
                ThreadPoolExecutor(1, "writer") as writer,
                contextlib.nullcontext() if files is None else BoxReader(files, max(1, workers // 4)) as reader,
            ):
                while pending:
                    requests = _requests(pending, featureset, shape, copies, seen, reader, account)
                    results = _without_copies(pipeline.run(requests, decoders), pending, copies)
                    pending = _write_results(out, featureset, pending, results, writer, account)
    return account.summary()


def usual_batch_size(device: torch.device, clip: ClipShape) -> int:
    """Return how many clips make a batch that suits a device."""
    return max(1, _FRAMES_PER_BATCH[device.type] // clip.num_frames)


def usual_chunk_bytes(device: torch.device) -> int:
    """Return how many bytes of pictures a worker hands over at once for a device."""
    return CHUNK_BYTES_FOR_GPU if device.type == "cuda" else CHUNK_BYTES


def _pending_videos(
    out: Path,
    featureset: FeatureSet,
    segments: Segments,
    sources: Mapping[str, Source | None],
    form: str | None,
    views: tuple[str, ...],
    boxes: BoxFiles | None,
    account: Account,
) -> dict[str, PendingVideo]:
    """Return the videos to extract, by id.

    Videos that miss no segment in any view, have no source, or lack boxes end here.
    """
    pending = {}
    for video_id, rows in segments.by_video():
        own_boxes = boxes.fingerprint(video_id) if boxes is not None and video_id in boxes else None
        video = pending_video(out, featureset, video_id, sources[video_id], segment_times(rows), views, own_boxes)
        if not video.missing:
            account.video_ended(video_id, write_nothing_new(out, video))
        elif (unusable := _unusable(video, form, boxes)) is not None:
            counts = write_outcome(out, featureset, video, unusable)
            account.video_ended(video_id, counts or Counter(kept=video.num_kept, failed=len(video.missing)))
        else:
            pending[video_id] = video
    return pending


def _unusable(video: PendingVideo, form: str | None, boxes: BoxFiles | None) -> UnusableVideo | None:
    """Return why a video cannot be extracted, as far as that is known before it is read."""
    if video.source is None:
        return UnusableVideo(video.video_id, FailureKind.MISSING_VIDEO, missing_message(video.video_id, form))
    if boxes is not None and video.boxes is None:
        return UnusableVideo(video.video_id, FailureKind.NO_BOXES, boxes.missing_message(video.video_id))
    return None


def _requests(
    pending: Mapping[str, PendingVideo],
    featureset: FeatureSet,
    clip: ClipShape,
    copies: Path | None,
    regions: Regions | None,
    reader: BoxReader | None,
    account: Account,
) -> Iterator[Request]:
    """Yield what the pipeline needs to know of each video, and note that the video begins."""

    def planner(video: PendingVideo) -> Callable[[np.ndarray], VideoPlan]:
        return lambda frame_seconds: plan_video(frame_seconds, video.to_extract, featureset.sampling, clip)

    def boxes_of(video: PendingVideo) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
        if reader is None or regions is None:
            return None
        read = reader.start(video.video_id)
        return lambda frame_seconds, clips: boxes_of_clips(read(), frame_seconds, clips, regions)

    for video in pending.values():
        assert video.source is not None
        account.status.begin(video.video_id)
        yield Request(
            video.video_id,
            needed_until(video.source, float(video.to_extract.stop_s.max()) - END_TOLERANCE_S),
            planner(video),
            _copy_path(copies, video),
            stored_views(video.views_to_extract, video.video_id),
            is_dense=featureset.sampling.kind == "dense",
            boxes=boxes_of(video),
        )


def _copy_path(copies: Path | None, video: PendingVideo) -> Path | None:
    """Return where a video is copied to, if it is."""
    if copies is None or video.source is None:
        return None
    return copies / f"{video.video_id}{path_of(video.source).suffix}"


def _without_copies(
    results: Iterable[ClipFeatures | UnusableVideo], pending: Mapping[str, PendingVideo], copies: Path | None
) -> Iterator[ClipFeatures | UnusableVideo]:
    """Yield results, and remove the copy of each video that has one."""
    for result in results:
        if (copy := _copy_path(copies, pending[result.video_id])) is not None:
            remove_copy(copy)
        yield result


def _write_results(
    out: Path,
    featureset: FeatureSet,
    pending: Mapping[str, PendingVideo],
    results: Iterable[ClipFeatures | UnusableVideo],
    writer: ThreadPoolExecutor,
    account: Account,
) -> dict[str, PendingVideo]:
    """Have results written while the next ones are computed.

    Returns:
        The videos to do again, because another run has changed their files since they were looked up.
    """
    again: dict[str, PendingVideo] = {}
    writes: deque[tuple[PendingVideo, Future[Counter[str] | None]]] = deque()

    def end_first() -> None:
        video, write = writes.popleft()
        counts = write.result()
        if counts is not None:
            account.video_ended(video.video_id, counts)
        else:
            again[video.video_id] = pending_video(
                out, featureset, video.video_id, video.source, video.requested, video.requested_views, video.boxes
            )

    for result in results:
        video = pending[result.video_id]
        writes.append((video, writer.submit(write_outcome, out, featureset, video, result)))
        while writes and (len(writes) > _WRITES_IN_FLIGHT or writes[0][1].done()):
            end_first()
    while writes:
        end_first()
    return again
