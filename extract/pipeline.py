"""Videos to features: workers decode, pictures are scaled once, clips of all videos are batched for the backbone.

    requests -> probe -> plan -> pieces -> decode ->  scale  -> clips -> batches -> backbone -> steps    (of every view)
                [ worker processes ]     [ worker ]   [ this process, on the device            ]

Knows no registry, no annotations and no HDF5. Videos are started only as workers need them, so memory does not grow
with the length of a video or the number of videos.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from extract.clips import (
    Clip,
    ClipFailure,
    ClipFeatures,
    Part,
    Piece,
    RegionPart,
    Request,
    UnusableVideo,
    VideoInProgress,
)
from extract.colour_changes import ColourChange, colour_change
from extract.decode.decoders import Decoders, Event, Frames, TaskFailure
from extract.decode.pieces import pieces
from extract.decode.probing import VideoInfo
from extract.decode.reading import AnyTask, decode_task
from extract.decode.sources import base_of, path_of
from extract.decode.staging import Staged
from extract.decode.worker import Finished
from extract.forward import Forward, PendingSteps
from extract.preprocess import Preprocess, Scaler
from extract.views import View, draw
from features.errors import DataError
from features.failures import FailureKind

# On CUDA, one batch is computed while the next one waits.
_BATCHES_IN_FLIGHT = 2


@dataclass
class WaitTimes:
    """Seconds that a pipeline has spent waiting, for decoded frames and for the backbone."""

    decoding: float = 0.0
    backbone: float = 0.0
    since: float = field(default_factory=time.perf_counter)

    def __str__(self) -> str:
        total = max(time.perf_counter() - self.since, 1e-9)
        return f"waiting {self.decoding / total:.0%} for decoding, {self.backbone / total:.0%} for the backbone"


class Pipeline:
    """Takes requests for videos and yields their features.

    Args:
        preprocess: of the backbone.
        dim: d, values of a step in one region; D where whole frames are taken.
        batch_size: clips per batch.
        wait_times: is kept up to date.
        on_clips: called with a video's id, how many of its clips have just been computed or have failed, and how many
            it has in all; a clip counts once for each of its views.
    """

    def __init__(
        self,
        forward: Forward,
        *,
        preprocess: Preprocess,
        dim: int,
        device: torch.device,
        batch_size: int,
        wait_times: WaitTimes,
        on_clips: Callable[[str, int, int], None],
    ) -> None:
        self._forward = forward
        self._preprocess = preprocess
        self._dim = dim
        self._device = device
        self._batch_size = batch_size
        self._on_clips = on_clips
        self._batch: list[Clip] = []
        self._in_flight: deque[tuple[list[Clip], PendingSteps]] = deque()
        self._finished: deque[ClipFeatures | UnusableVideo] = deque()
        self._wait_times = wait_times

    def run(
        self, requests: Iterator[Request], decoders: Decoders[Request | Piece]
    ) -> Iterator[ClipFeatures | UnusableVideo]:
        """Yield the features of each video as soon as they are complete.

        Raises:
            DataError: no worker can be started.
        """
        todo: deque[tuple[Piece, AnyTask]] = deque()
        while True:
            _submit(requests, todo, decoders)
            if not decoders.num_open:
                break
            for event in self._events(decoders):
                key, result = event.key, event.result
                if isinstance(key, Request):
                    if isinstance(result, VideoInfo):
                        todo.extend(self._planned(key, result))
                    elif isinstance(result, TaskFailure):
                        self._finished.append(_unusable(key, result))
                elif isinstance(result, Frames):
                    self._take(key, result)
                elif isinstance(result, (Finished, TaskFailure)):
                    self._end(key, result)
            yield from self._results()
        self._start_batch()
        while self._in_flight:
            self._collect()
        yield from self._results()

    def _events(self, decoders: Decoders[Request | Piece]) -> Iterator[Event[Request | Piece]]:
        """Yield what `decoders.events` yields, and count the time of waiting for it."""
        events = decoders.events()
        while True:
            before = time.perf_counter()
            event = next(events, None)
            self._wait_times.decoding += time.perf_counter() - before
            if event is None:
                return
            yield event

    def _planned(self, request: Request, info: VideoInfo) -> Iterator[tuple[Piece, AnyTask]]:
        """Plan the clips of a video that has been probed, and yield its pieces with their tasks."""
        plan = request.plan(info.seconds)
        try:
            video = VideoInProgress(request, replace(info, path=path_of(request.source)), plan, self._dim)
        except DataError as error:  # of its boxes
            self._finished.append(UnusableVideo(request.video_id, FailureKind.NO_BOXES, str(error)))
            return
        if not video.num_open:
            self._finished.append(video.features())
        for rows in pieces(info.packets, info.pts, video.moved):
            yield Piece(video, rows), decode_task(info, np.unique(video.moved[rows]))

    def _take(self, piece: Piece, frames: Frames) -> None:
        """Scale the parts that are wanted of some frames, and start every batch that is full."""
        scaler = Scaler(frames.pictures, self._preprocess, self._device)
        pictures: list[dict[Part, torch.Tensor]] = [{} for _ in frames.frames]
        for part, positions in piece.wanted(frames.frames).items():
            if isinstance(part, str):
                crops = scaler.crop(part)[positions] if len(positions) < len(pictures) else scaler.crop(part)
            elif isinstance(part, RegionPart):
                boxes = [piece.video.box(part, frames.frames[position]) for position in positions]
                crops = scaler.boxed(positions, boxes)
            else:
                crops = scaler.augmented(positions, draw(*part))
            for position, picture in zip(positions, crops, strict=True):
                pictures[position][part] = picture
        frames.release()
        for frame, parts in zip(frames.frames, pictures, strict=True):
            self._batch_up(piece.add(frame, parts))

    def _end(self, piece: Piece, result: Finished | TaskFailure) -> None:
        failure = None
        if isinstance(result, TaskFailure):
            failure = ClipFailure(result.error, _message(piece.request, result))
        self._batch_up(piece.end(failure))

    def _batch_up(self, clips: Iterator[Clip]) -> None:
        for clip in clips:
            if clip.failure is not None:
                self._fail(clip.video, clip.number, clip.failure)
                continue
            self._batch.append(clip)
            if len(self._batch) == self._batch_size:
                self._start_batch()

    def _start_batch(self) -> None:
        if not self._batch:
            return
        before = time.perf_counter()
        clips, self._batch = self._batch, []
        pictures = [picture for clip in clips for picture in clip.pictures]
        colours = [clip.video.info.colour for clip in clips for _ in clip.pictures]
        started = self._forward.start(pictures, colours, len(clips[0].pictures), _colour_changes(clips))
        self._in_flight.append((clips, started))
        self._wait_times.backbone += time.perf_counter() - before
        if len(self._in_flight) >= _BATCHES_IN_FLIGHT:
            self._collect()

    def _collect(self) -> None:
        """Wait for the oldest batch and copy its steps to their videos."""
        clips, pending = self._in_flight.popleft()
        before = time.perf_counter()
        steps = pending.get().numpy()  # (B, P, D) float32
        self._wait_times.backbone += time.perf_counter() - before
        for clip, rows in zip(clips, steps, strict=True):
            video = clip.video
            averaged = rows.reshape(video.steps.shape[1], -1, self._dim).mean(axis=1)  # a dense set: one step per clip
            steps_of_clip = video.steps[clip.number, :, clip.look]
            with np.errstate(over="ignore"):  # values beyond 65504 become infinite in float16, and are found below
                steps_of_clip[:] = averaged
            if not np.isfinite(steps_of_clip).all():
                self._fail(video, clip.number, _NOT_FINITE)
            else:
                self._count(video)

    def _fail(self, video: VideoInProgress, number: int, failure: ClipFailure) -> None:
        video.failures.setdefault(number, failure)
        self._count(video)

    def _count(self, video: VideoInProgress) -> None:
        video.num_open -= 1
        self._on_clips(video.request.video_id, 1, len(video.steps) * video.steps.shape[2])
        if not video.num_open:
            self._finished.append(video.features())

    def _results(self) -> Iterator[ClipFeatures | UnusableVideo]:
        while self._finished:
            yield self._finished.popleft()


_NOT_FINITE = ClipFailure(
    FailureKind.NOT_FINITE, "the backbone gave values that are NaN, infinite or beyond float16's 65504"
)


def _colour_changes(clips: Sequence[Clip]) -> Iterator[tuple[list[int], ColourChange]]:
    """Yield which clips have their colours changed, and how; clips with the same draw together, as that is faster."""
    by_draw: dict[tuple[View, str], list[int]] = {}
    for number, clip in enumerate(clips):
        view = clip.video.view(clip.look)
        if view.kind != "plain":
            by_draw.setdefault((view, clip.video.draw_names[clip.number]), []).append(number)
    for (view, name), numbers in by_draw.items():
        yield numbers, colour_change(view, name)


def _submit(
    requests: Iterator[Request], todo: deque[tuple[Piece, AnyTask]], decoders: Decoders[Request | Piece]
) -> None:
    """Hand the workers as many tasks as they take: videos to probe while little is left to decode, otherwise pieces."""
    while decoders.wants_task():
        if len(todo) < 2 * decoders.num_workers and (request := next(requests, None)) is not None:
            decoders.submit(request, Staged(request.source, request.copy) if request.copy else request.source)
        elif todo:
            decoders.submit(*todo.popleft())
        else:
            break


def _unusable(request: Request, failure: TaskFailure) -> UnusableVideo:
    message = _message(request, failure)
    if failure.error != FailureKind.UNREADABLE_VIDEO:  # whose message names the file already
        message = f"{path_of(request.source)}: {message}"
    return UnusableVideo(request.video_id, failure.error, message)


def _message(request: Request, failure: TaskFailure) -> str:
    """Return the message of a failure, with the path of the video in place of that of its copy."""
    if request.copy is None:
        return failure.message
    return failure.message.replace(str(request.copy), str(base_of(request.source)))
