"""Videos to features: workers decode, pictures are scaled once, clips of all videos are batched for the backbone.

    requests -> probe -> plan -> pieces -> decode ->  scale  -> clips -> batches -> backbone -> steps
                [ worker processes ]     [ worker ]   [ this process, on the device            ]

Knows no registry, no annotations and no HDF5. A picture is kept only until the last clip that needs it has been put
together, and videos are begun only as workers need them, so memory does not grow with the length of a video or the
number of videos.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from extract.decode.decoders import Decoders, Frames, Lost
from extract.decode.pieces import pieces
from extract.decode.staging import Staged
from extract.decode.video import Reading, VideoInfo, reading
from extract.decode.worker import Finished
from extract.forward import Forward, Pending
from extract.preprocess import Preprocess, scaled
from extract.sampling import VideoPlan
from features.failures import FailureKind

# On CUDA: one batch is computed, one waits to be.
_BATCHES_IN_FLIGHT = 2


@dataclass(frozen=True, eq=False)
class Request:
    """A video to be done.

    Attributes:
        plan: turns (F,) seconds of its frames into its plan.
        copy: where to copy its file to before it is read, if anywhere. What is said of the video names its own path.
    """

    video_id: str
    path: Path
    plan: Callable[[np.ndarray], VideoPlan]
    copy: Path | None = None


@dataclass(frozen=True)
class Loss:
    """Why a clip has no steps.

    Attributes:
        frame: that could not be decoded, where it is that.
    """

    error: FailureKind
    message: str
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """What became of a video.

    Attributes:
        info, plan: None where the video cannot be used at all.
        steps: (C, P, D) float16; not filled for clips that are lost.
        lost: clip -> why.
        refused: why the video cannot be used; None where it can.
    """

    video_id: str
    info: VideoInfo | None
    plan: VideoPlan | None
    steps: np.ndarray
    lost: dict[int, Loss]
    refused: Loss | None = None

    @staticmethod
    def refusal(video_id: str, why: Loss) -> ClipFeatures:
        """Give the outcome of a video that cannot be used."""
        return ClipFeatures(video_id, None, None, np.empty((0, 0, 0), np.float16), {}, why)


@dataclass
class Waiting:
    """Where the time of a pipeline has gone, in seconds: waiting for decoded frames, and for the backbone."""

    decoding: float = 0.0
    backbone: float = 0.0
    since: float = field(default_factory=time.perf_counter)

    def __str__(self) -> str:
        total = max(time.perf_counter() - self.since, 1e-9)
        return f"waiting {self.decoding / total:.0%} for decoding, {self.backbone / total:.0%} for the backbone"


class Pipeline:
    """Takes videos and gives their features.

    Args:
        preprocess: as the backbone's.
        dim: D.
        batch_size: clips of a batch.
        waiting: is kept up to date.
        on_clips: told of which video how many clips have just been done or lost, out of how many.
    """

    def __init__(
        self,
        forward: Forward,
        *,
        preprocess: Preprocess,
        dim: int,
        device: torch.device,
        batch_size: int,
        waiting: Waiting,
        on_clips: Callable[[str, int, int], None],
    ) -> None:
        self._forward = forward
        self._preprocess = preprocess
        self._dim = dim
        self._device = device
        self._batch_size = batch_size
        self._on_clips = on_clips
        self._batch: list[_Clip] = []
        self._in_flight: deque[tuple[list[_Clip], Pending]] = deque()
        self._finished: deque[ClipFeatures] = deque()
        self._waiting = waiting

    def run(self, requests: Iterator[Request], decoders: Decoders) -> Iterator[ClipFeatures]:
        """Give the features of each video as soon as they are all there.

        Raises:
            DataError: no worker can be started.
        """
        todo: deque[tuple[_Piece, Reading]] = deque()
        while True:
            # Probing goes first while there is little left to decode.
            while decoders.wants_task():
                if len(todo) < 2 * decoders.num_workers and (request := next(requests, None)) is not None:
                    decoders.submit(request, Staged(request.path, request.copy) if request.copy else request.path)
                elif todo:
                    decoders.submit(*todo.popleft())
                else:
                    break
            if not decoders.num_open:
                break
            for key, what in self._events(decoders):
                if isinstance(what, VideoInfo):
                    todo.extend(self._planned(key, what))
                elif isinstance(what, Frames):
                    self._take(key, what)
                elif isinstance(key, _Piece):
                    self._end(key, what)
                elif isinstance(what, Lost):
                    message = (
                        what.message if what.error == FailureKind.UNREADABLE_VIDEO else f"{key.path}: {what.message}"
                    )
                    self._finished.append(ClipFeatures.refusal(key.video_id, Loss(what.error, message)))
            yield from self._results()
        self._start_batch()
        while self._in_flight:
            self._collect()
        yield from self._results()

    def _events(self, decoders: Decoders) -> Iterator[tuple[Request | _Piece, VideoInfo | Frames | Finished | Lost]]:
        events = decoders.events()
        while True:
            before = time.perf_counter()
            event = next(events, None)
            self._waiting.decoding += time.perf_counter() - before
            if event is None:
                return
            what = event.what
            if isinstance(what, Lost):
                request = event.key if isinstance(event.key, Request) else event.key.request
                if request.copy is not None:
                    what = replace(what, message=what.message.replace(str(request.copy), str(request.path)))
            yield event.key, what

    def _planned(self, request: Request, info: VideoInfo) -> Iterator[tuple[_Piece, Reading]]:
        plan = request.plan(info.seconds)
        num_clips, num_steps = plan.seconds.shape
        steps = np.empty((num_clips, num_steps, self._dim), np.float16)
        video = _Video(request, replace(info, path=request.path), plan, steps, num_clips)
        if not num_clips:
            self._finished.append(video.features())
        for numbers in pieces(info.packets, info.pts, plan.clips):
            yield _Piece(video, numbers), reading(info, np.unique(plan.clips[numbers]))

    def _take(self, piece: _Piece, found: Frames) -> None:
        """Scale the frames of a piece and start every batch that they make full."""
        pictures = scaled(found.pictures, self._preprocess, self._device)
        found.release()
        for frame, picture in zip(found.frames, pictures, strict=True):
            self._batch_up(piece, piece.passed(frame, picture))

    def _end(self, piece: _Piece, what: Finished | Lost) -> None:
        lost = Loss(what.error, what.message) if isinstance(what, Lost) else None
        self._batch_up(piece, piece.ended(lost))

    def _batch_up(self, piece: _Piece, clips: Iterator[_Clip]) -> None:
        for clip in clips:
            if clip.loss is not None:
                self._lose(clip.video, clip.number, clip.loss)
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
        self._in_flight.append((clips, self._forward.start(pictures, colours, len(clips[0].pictures))))
        self._waiting.backbone += time.perf_counter() - before
        if len(self._in_flight) >= _BATCHES_IN_FLIGHT:
            self._collect()

    def _collect(self) -> None:
        """Wait for the oldest batch and put its steps where they belong."""
        clips, pending = self._in_flight.popleft()
        before = time.perf_counter()
        steps = pending.get().numpy()  # (B, P, D) float32
        self._waiting.backbone += time.perf_counter() - before
        for clip, rows in zip(clips, steps, strict=True):
            video = clip.video
            averaged = rows.reshape(video.steps.shape[1], -1, self._dim).mean(axis=1)  # a dense set keeps one a clip
            with np.errstate(over="ignore"):  # beyond 65504 float16 is infinite, which is what is looked for
                video.steps[clip.number] = averaged
            if not np.isfinite(video.steps[clip.number]).all():
                self._lose(video, clip.number, _NOT_FINITE)
            else:
                self._count(video)

    def _lose(self, video: _Video, number: int, loss: Loss) -> None:
        video.lost[number] = loss
        self._count(video)

    def _count(self, video: _Video) -> None:
        video.open_clips -= 1
        self._on_clips(video.request.video_id, 1, len(video.steps))
        if not video.open_clips:
            self._finished.append(video.features())

    def _results(self) -> Iterator[ClipFeatures]:
        while self._finished:
            yield self._finished.popleft()


_NOT_FINITE = Loss(FailureKind.NOT_FINITE, "the backbone gave values that are NaN, infinite or beyond float16's 65504")


@dataclass(eq=False)
class _Video:
    """A video that is being done."""

    request: Request
    info: VideoInfo
    plan: VideoPlan
    steps: np.ndarray
    open_clips: int
    lost: dict[int, Loss] = field(default_factory=dict)

    def features(self) -> ClipFeatures:
        return ClipFeatures(self.request.video_id, self.info, self.plan, self.steps, self.lost)


@dataclass(frozen=True, eq=False)
class _Clip:
    video: _Video
    number: int
    pictures: list[torch.Tensor]  # L of (3, h, w) uint8
    loss: Loss | None = None


class _Piece:
    """Puts the clips of one piece of a video together as its frames come."""

    def __init__(self, video: _Video, numbers: np.ndarray) -> None:
        self._video = video
        self._clips = video.plan.clips
        self._pending = deque(numbers.tolist())  # by their last frame
        self._uses = Counter(self._clips[numbers].reshape(-1).tolist())
        self._pictures: dict[int, torch.Tensor] = {}

    @property
    def request(self) -> Request:
        """The video that it is a piece of."""
        return self._video.request

    def passed(self, frame: int, picture: torch.Tensor) -> Iterator[_Clip]:
        """Take a frame, later than those before; give the clips that need none after it."""
        self._pictures[frame] = picture
        while self._pending and self._clips[self._pending[0], -1] <= frame:
            yield self._put_together(self._pending.popleft(), None)

    def ended(self, loss: Loss | None) -> Iterator[_Clip]:
        """Give the clips that are left when no more frames come; the loss says why, if not for want of frames."""
        while self._pending:
            yield self._put_together(self._pending.popleft(), loss)

    def _put_together(self, number: int, loss: Loss | None) -> _Clip:
        frames = self._clips[number].tolist()
        missing = next((frame for frame in frames if frame not in self._pictures), None)
        pictures = [self._pictures[frame] for frame in frames] if missing is None else []
        self._uses.subtract(frames)
        for frame in frames:
            if not self._uses[frame]:
                self._pictures.pop(frame, None)
        if missing is None:
            return _Clip(self._video, number, pictures)
        if loss is None:
            second = self._video.info.seconds[missing]
            loss = Loss(FailureKind.UNDECODABLE, f"frame {missing} at {second:.2f} s cannot be decoded", missing)
        return _Clip(self._video, number, [], loss)
