"""Videos in progress: decoded frames are put together into clips, and the steps of the clips are collected.

Knows no process, no batch and no backbone. A picture is kept only until the last clip that needs it is complete.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from extract.decode.sources import Source
from extract.decode.video import VideoInfo
from extract.sampling import VideoPlan
from features.failures import FailureKind


@dataclass(frozen=True, eq=False)
class Request:
    """A video whose features are wanted.

    Attributes:
        plan: maps the (F,) seconds of the video's frames to its plan.
        copy: where to copy the source to before it is read; None to read the source itself. Messages always name the
            source.
    """

    video_id: str
    source: Source
    plan: Callable[[np.ndarray], VideoPlan]
    copy: Path | None = None


@dataclass(frozen=True)
class ClipFailure:
    """Why a clip has no steps.

    Attributes:
        frame: the frame that could not be decoded, if that is the reason.
    """

    error: FailureKind
    message: str
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """The features of a video's clips.

    Attributes:
        steps: (C, P, D) float16; the rows of clips that failed hold no values.
        failures: the clips that failed, by number.
    """

    video_id: str
    info: VideoInfo
    plan: VideoPlan
    steps: np.ndarray
    failures: dict[int, ClipFailure]


@dataclass(frozen=True)
class UnusableVideo:
    """A video that has no features at all, and why."""

    video_id: str
    error: FailureKind
    message: str


@dataclass(eq=False)
class VideoInProgress:
    """A video whose clips are being computed.

    Attributes:
        steps: (C, P, D) float16, filled clip by clip.
        open_clips: how many clips have neither steps nor a failure yet.
    """

    request: Request
    info: VideoInfo
    plan: VideoPlan
    steps: np.ndarray
    open_clips: int
    failures: dict[int, ClipFailure] = field(default_factory=dict)

    def features(self) -> ClipFeatures:
        """Return the result, once no clip is open."""
        return ClipFeatures(self.request.video_id, self.info, self.plan, self.steps, self.failures)


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip of a video: its number and its L pictures, each (3, h, w) uint8, or the reason why it has none."""

    video: VideoInProgress
    number: int
    pictures: list[torch.Tensor]
    failure: ClipFailure | None = None


class Piece:
    """Puts the clips of one piece of a video together as its frames arrive.

    Args:
        numbers: of the clips, in the order of their last frames.
    """

    def __init__(self, video: VideoInProgress, numbers: np.ndarray) -> None:
        self._video = video
        self._clips = video.plan.clips
        self._pending = deque(numbers.tolist())
        self._uses = Counter(self._clips[numbers].reshape(-1).tolist())  # of each frame, by clips that are pending
        self._pictures: dict[int, torch.Tensor] = {}

    @property
    def request(self) -> Request:
        """The request of the video that this is a piece of."""
        return self._video.request

    def add(self, frame: int, picture: torch.Tensor) -> Iterator[Clip]:
        """Take a frame, later than all before it; yield the clips that need no frame after it."""
        self._pictures[frame] = picture
        while self._pending and self._clips[self._pending[0], -1] <= frame:
            yield self._complete(self._pending.popleft(), None)

    def end(self, failure: ClipFailure | None) -> Iterator[Clip]:
        """Yield the clips that are left when no more frames arrive.

        Args:
            failure: why no more frames arrive; None if decoding has reached the end of the piece.
        """
        while self._pending:
            yield self._complete(self._pending.popleft(), failure)

    def _complete(self, number: int, failure: ClipFailure | None) -> Clip:
        frames = self._clips[number].tolist()
        missing = next((frame for frame in frames if frame not in self._pictures), None)
        pictures = [self._pictures[frame] for frame in frames] if missing is None else []
        self._uses.subtract(frames)
        for frame in frames:
            if not self._uses[frame]:
                self._pictures.pop(frame, None)
        if missing is None:
            return Clip(self._video, number, pictures)
        if failure is None:
            failure = ClipFailure(*self._video.info.why_lost(missing), missing)
        return Clip(self._video, number, [], failure)
