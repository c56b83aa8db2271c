"""Videos to features: workers decode, pictures are scaled once, clips of all videos are batched for the backbone.

    requests -> probe -> plan -> pieces -> decode ->  scale  -> clips -> batches -> backbone -> steps    (of every view)
                [ worker processes ]     [ worker ]   [ this process, on the device            ]

Knows no registry, no annotations and no HDF5. Videos are started only as workers need them, so memory does not grow
with the length of a video or the number of videos. This process works per message of a worker and per batch, not per
frame or clip: `python benchmarks/bench_feeding.py` measures what that takes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from extract.clips import (
    ClipFailure,
    ClipFeatures,
    Clips,
    Completed,
    CroppedPart,
    DrawnPart,
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
from extract.pictures import gathered, on_device
from extract.preprocess import Preprocess, Scaler
from extract.transfer import Transfer, transfer_to
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
            it has in all; a clip counts once for each region of each of its views.
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
        self._batch: list[Clips] = []
        self._num_in_batch = 0
        self._in_flight: deque[tuple[list[Clips], PendingSteps]] = deque()
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
        with transfer_to(self._device, decoders.buffers()) as transfer:
            while True:
                _submit(requests, todo, decoders)
                if not decoders.num_open:
                    break
                for event in self._events(decoders, transfer):
                    key, result = event.key, event.result
                    if isinstance(key, Request):
                        if isinstance(result, VideoInfo):
                            todo.extend(self._planned(key, result))
                        elif isinstance(result, TaskFailure):
                            self._finished.append(_unusable(key, result))
                    elif isinstance(result, Frames):
                        self._take(key, result, transfer)
                    elif isinstance(result, (Finished, TaskFailure)):
                        self._end(key, result)
                yield from self._results()
        self._start_batch()
        while self._in_flight:
            self._collect()
        yield from self._results()

    def _events(self, decoders: Decoders[Request | Piece], transfer: Transfer) -> Iterator[Event[Request | Piece]]:
        """Yield what `decoders.events` yields, and count the time of waiting for it."""
        events = decoders.events(transfer.poll)
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

    def _take(self, piece: Piece, frames: Frames, transfer: Transfer) -> None:
        """Scale the parts that are wanted of some frames, and start every batch that is full."""
        scaler = Scaler(transfer.planes(frames.pictures), self._preprocess, self._device)

        def pictures(part: Part, positions: np.ndarray) -> torch.Tensor:
            if not isinstance(part, RegionPart):
                return _pictures(scaler, part, positions)
            boxes = piece.video.boxes_of(part, np.array(frames.frames)[positions])
            return scaler.boxed(positions.tolist(), boxes, flip=part.flip)

        completed = piece.take(frames.frames, pictures)
        transfer.release(frames)
        self._batch_up(completed)

    def _end(self, piece: Piece, result: Finished | TaskFailure) -> None:
        failure = None
        if isinstance(result, TaskFailure):
            failure = ClipFailure(result.error, _message(piece.request, result))
        self._batch_up(piece.end(failure))

    def _batch_up(self, completed: Completed) -> None:
        for number, failure in completed.failures:
            self._fail(completed.clips.video, number, failure)
        clips, start = completed.clips, 0
        while start < len(clips):
            stop = min(len(clips), start + self._batch_size - self._num_in_batch)
            self._batch.append(clips.part(start, stop))
            self._num_in_batch += stop - start
            start = stop
            if self._num_in_batch == self._batch_size:
                self._start_batch()

    def _start_batch(self) -> None:
        if not self._batch:
            return
        before = time.perf_counter()
        batch, self._batch, self._num_in_batch = self._batch, [], 0
        pictures = gathered([(clips.blocks, clips.pictures) for clips in batch])
        colours = [colour for clips in batch for colour in [clips.video.info.colour] * clips.pictures.size]
        started = self._forward.start(pictures, colours, batch[0].pictures.shape[1], _colour_changes(batch))
        self._in_flight.append((batch, started))
        self._wait_times.backbone += time.perf_counter() - before
        if len(self._in_flight) >= _BATCHES_IN_FLIGHT:
            self._collect()

    def _collect(self) -> None:
        """Wait for the oldest batch and copy its steps to their videos."""
        batch, pending = self._in_flight.popleft()
        before = time.perf_counter()
        steps = pending.get()  # (B, P, D) float32
        self._wait_times.backbone += time.perf_counter() - before
        for clips, rows in zip(batch, steps.split([len(clips) for clips in batch]), strict=True):
            video = clips.video
            steps_of_clips = _rounded(rows.unflatten(1, (video.steps.shape[1], -1)))
            # Infinite and NaN have all bits of the exponent set. numpy tests values of float16 one by one.
            is_finite = (steps_of_clips.view(np.uint16) & 0x7C00).max(axis=(1, 2)) < 0x7C00
            video.steps[clips.numbers, :, clips.looks] = steps_of_clips
            for number in clips.numbers[~is_finite].tolist():
                self._fail(video, number, _NOT_FINITE)
            self._count(video, int(is_finite.sum()))

    def _fail(self, video: VideoInProgress, number: int, failure: ClipFailure) -> None:
        video.failures.setdefault(number, failure)
        self._count(video, 1)

    def _count(self, video: VideoInProgress, num_clips: int) -> None:
        """Note that clips are done, each in one look."""
        if not num_clips:
            return
        video.num_open -= num_clips
        self._on_clips(video.request.video_id, num_clips, len(video.steps) * len(video.views))
        if not video.num_open:
            self._finished.append(video.features())

    def _results(self) -> Iterator[ClipFeatures | UnusableVideo]:
        while self._finished:
            yield self._finished.popleft()


_NOT_FINITE = ClipFailure(
    FailureKind.NOT_FINITE, "the backbone gave values that are NaN, infinite or beyond float16's 65504"
)


def _pictures(scaler: Scaler, part: CroppedPart | DrawnPart, positions: np.ndarray) -> torch.Tensor:
    """Return the pictures of a part of the frames at these positions: (k, 3, h, w)."""
    if isinstance(part, DrawnPart):
        return scaler.augmented(positions.tolist(), draw(part.view, part.name))
    crops = scaler.crop(part.crop, flip=part.flip)
    return crops if len(positions) == len(crops) else crops.index_select(0, on_device(positions, crops.device))


def _rounded(steps: torch.Tensor) -> np.ndarray:
    """Return the averages of runs of steps, (n, P, run, D) float32, as (n, P, D) float16; beyond 65504 is infinite."""
    averaged = steps[:, :, 0] if steps.shape[2] == 1 else torch.from_numpy(steps.numpy().mean(axis=2))
    return averaged.half().numpy()  # as numpy rounds, in a tenth of the time


def _colour_changes(batch: Sequence[Clips]) -> Iterator[tuple[list[int], ColourChange]]:
    """Yield which clips have their colours changed, and how; clips with the same draw together, as that is faster."""
    by_draw: dict[tuple[View, str], list[int]] = {}
    first = 0
    for clips in batch:
        views, names = clips.video.views, clips.video.draw_names
        is_changed = np.array([view.kind != "plain" for view in views])[clips.looks]
        for position in np.flatnonzero(is_changed).tolist():
            key = views[clips.looks[position]], names[clips.numbers[position]]
            by_draw.setdefault(key, []).append(first + position)
        first += len(clips)
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
