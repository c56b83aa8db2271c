"""Videos in progress: decoded frames are put together into clips, and the steps of the clips are collected.

Knows no process, no batch and no backbone. A picture is kept only until the last clip that needs it is complete.

A clip has one or several views. Those that show the same part of a frame share its picture:

    frame 17   centre         -> centre, flip, randaugment1
               left           -> left
               augment1 of s  -> augment1 of the clips of segment s
               box of a hand  -> the hand's region of the clips with this frame

Each region is one more picture of a frame. Of a clip that lacks a region, the centre crop is taken instead.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from extract.decode.probing import VideoInfo
from extract.decode.sources import Source
from extract.sampling import VideoPlan, moved_clips
from extract.views import PLAIN_VIEW, Crop, View
from features.failures import FailureKind


@dataclass(frozen=True, eq=False)
class Request:
    """A video whose features are wanted.

    Attributes:
        plan: maps the (F,) seconds of the video's frames to its plan.
        copy: where to copy the source to before it is read; None to read the source itself. Messages always name the
            source.
        views: of each clip, V of them.
        is_dense: whether random views are drawn once for the whole video, and not for each segment.
        boxes: maps the (F,) seconds of the video's frames and its (C, L) clips to the box of each region in each clip,
            (C, R, 4); NaN where a clip lacks a region. None to take whole frames.
    """

    video_id: str
    source: Source
    plan: Callable[[np.ndarray], VideoPlan]
    copy: Path | None = None
    views: tuple[View, ...] = (PLAIN_VIEW,)
    is_dense: bool = False
    boxes: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


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
        steps: (C, P, V, D) float16; the rows of clips that failed hold no values. D counts all regions.
        failures: the clips that failed, in any view, by number.
        views: names of the V views.
        has_region: (C, R) bool, whether a clip has each region; None where whole frames are taken.
    """

    video_id: str
    info: VideoInfo
    plan: VideoPlan
    steps: np.ndarray
    failures: dict[int, ClipFailure]
    views: tuple[str, ...]
    has_region: np.ndarray | None = None


@dataclass(frozen=True)
class UnusableVideo:
    """A video that has no features at all, and why."""

    video_id: str
    error: FailureKind
    message: str


@dataclass(frozen=True)
class RegionPart:
    """The box of a region: its number, and the clip whose box it is; None where clips are single frames."""

    region: int
    clip: int | None


# Which part of a frame a picture shows: a plain crop; the name of a view and the name by which it is drawn; a region.
Part: TypeAlias = "Crop | tuple[str, str] | RegionPart"


class VideoInProgress:
    """A video whose clips are being computed.

    Attributes:
        steps: (C, P, V * R, d) float16, filled clip by clip: the regions of the first view, and so on; R is 1 where
            whole frames are taken.
        num_open: how many regions of views of clips have neither steps nor a failure yet.
        moved: (S * C, L) int64, the frames of the clips at each of the S shifts of its views, shift by shift.
    """

    def __init__(self, request: Request, info: VideoInfo, plan: VideoPlan, dim: int) -> None:
        self.request, self.info, self.plan = request, info, plan
        num_clips, num_steps = plan.seconds.shape
        self._boxes = None if request.boxes is None else request.boxes(info.seconds, plan.clips)  # (C, R, 4)
        self._has_region = None if self._boxes is None else ~np.isnan(self._boxes[..., 0])
        self._num_regions = 1 if self._boxes is None else self._boxes.shape[1]
        num_looks = len(request.views) * self._num_regions
        self.steps = np.empty((num_clips, num_steps, num_looks, dim), np.float16)
        self.num_open = num_clips * num_looks
        self.failures: dict[int, ClipFailure] = {}
        self._shifts = tuple(dict.fromkeys(view.shift for view in request.views))
        self.moved = np.concatenate([self._moved(shift) for shift in self._shifts])

    def _moved(self, shift: float) -> np.ndarray:
        return moved_clips(self.plan, self.info.seconds, shift) if shift else self.plan.clips

    @cached_property
    def draw_names(self) -> list[str]:
        """The name by which random views of each clip are drawn: of its segment, or of the video if it is dense."""
        if self.request.is_dense:
            return [self.request.video_id] * len(self.steps)
        num_clips = np.diff(self.plan.clip_range, axis=1)[:, 0]
        return np.repeat(self.plan.narration_id, num_clips).tolist()

    def view(self, look: int) -> View:
        """Return the view of a look: looks are the regions of the first view, then those of the second, and so on."""
        return self.request.views[look // self._num_regions]

    def looks_at(self, row: int) -> tuple[int, dict[int, Part]]:
        """Return the clip of a row of `moved`, and by number of each look there, the part that it shows."""
        shift, number = divmod(row, len(self.steps))
        looks = [look for look in range(self.steps.shape[2]) if self.view(look).shift == self._shifts[shift]]
        return number, {look: self._part(look, number) for look in looks}

    def _part(self, look: int, number: int) -> Part:
        view, region = self.view(look), look % self._num_regions
        if self._has_region is not None and self._has_region[number, region]:
            return RegionPart(region, number if self.moved.shape[1] > 1 else None)
        return (view.name, self.draw_names[number]) if view.kind == "augment" else view.crop

    @cached_property
    def _clip_of_frame(self) -> dict[int, int]:
        """A clip that shows each frame, where clips are single frames."""
        return dict(zip(self.plan.clips[:, 0].tolist(), range(len(self.plan.clips)), strict=True))

    def box(self, part: RegionPart, frame: int) -> list[float]:
        """Return the box of a region in a frame: left, top, right and bottom, in fractions of the picture."""
        assert self._boxes is not None
        return self._boxes[self._clip_of_frame[frame] if part.clip is None else part.clip, part.region].tolist()

    def features(self) -> ClipFeatures:
        """Return the result, once no view of a clip is open."""
        names = tuple(view.name for view in self.request.views)
        num_clips, num_steps, _, dim = self.steps.shape
        steps = self.steps.reshape(num_clips, num_steps, len(names), self._num_regions * dim)
        return ClipFeatures(self.request.video_id, self.info, self.plan, steps, self.failures, names, self._has_region)


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip of a video in one of its looks: its L pictures, each (3, h, w) uint8, or the reason why it has none.

    Attributes:
        number, look: of the clip, and of the look among those of the video.
    """

    video: VideoInProgress
    number: int
    look: int
    pictures: list[torch.Tensor]
    failure: ClipFailure | None = None


class Piece:
    """Puts the clips of one piece of a video together as its frames arrive.

    Args:
        rows: of `video.moved`, in the order of their last frames.
    """

    def __init__(self, video: VideoInProgress, rows: np.ndarray) -> None:
        self._video = video
        self._pending = deque(rows.tolist())
        # Per part: how many pending clips use it of each frame, and the pictures that have arrived.
        self._uses: dict[Part, Counter[int]] = {}
        self._pictures: dict[Part, dict[int, torch.Tensor]] = {}
        self._parts: dict[int, list[Part]] = {}  # of each frame
        for row in self._pending:
            for part in set(video.looks_at(row)[1].values()):
                self._uses.setdefault(part, Counter()).update(video.moved[row].tolist())
        for part, uses in self._uses.items():
            self._pictures[part] = {}
            for frame in uses:
                self._parts.setdefault(frame, []).append(part)

    @property
    def video(self) -> VideoInProgress:
        """The video that this is a piece of."""
        return self._video

    @property
    def request(self) -> Request:
        """The request of that video."""
        return self._video.request

    def wanted(self, frames: Sequence[int]) -> dict[Part, list[int]]:
        """Return the parts that are wanted of some frames, each with the positions of its frames among them."""
        parts: dict[Part, list[int]] = {}
        for position, frame in enumerate(frames):
            for part in self._parts.get(frame, ()):
                parts.setdefault(part, []).append(position)
        return parts

    def add(self, frame: int, pictures: Mapping[Part, torch.Tensor]) -> Iterator[Clip]:
        """Take the wanted parts of a frame, later than all before it; yield the clips that need no frame after it."""
        for part, picture in pictures.items():
            self._pictures[part][frame] = picture
        while self._pending and self._video.moved[self._pending[0], -1] <= frame:
            yield from self._complete(self._pending.popleft(), None)

    def end(self, failure: ClipFailure | None) -> Iterator[Clip]:
        """Yield the clips that are left when no more frames arrive.

        Args:
            failure: why no more frames arrive; None if decoding has reached the end of the piece.
        """
        while self._pending:
            yield from self._complete(self._pending.popleft(), failure)

    def _complete(self, row: int, failure: ClipFailure | None) -> Iterator[Clip]:
        number, parts = self._video.looks_at(row)
        frames = self._video.moved[row].tolist()
        for look, part in parts.items():
            pictures = self._pictures[part]
            missing = next((frame for frame in frames if frame not in pictures), None)
            if missing is not None:
                yield Clip(self._video, number, look, [], failure or self._lost(missing))
            elif self._video.view(look).flip:
                yield Clip(self._video, number, look, [pictures[frame].flip(-1) for frame in frames])
            else:
                yield Clip(self._video, number, look, [pictures[frame] for frame in frames])
        for part in set(parts.values()):
            self._release(part, frames)

    def _release(self, part: Part, frames: Sequence[int]) -> None:
        """Forget the pictures of a part that no pending clip needs."""
        uses = self._uses[part]
        uses.subtract(frames)
        for frame in frames:
            if not uses[frame]:
                self._pictures[part].pop(frame, None)

    def _lost(self, frame: int) -> ClipFailure:
        return ClipFailure(*self._video.info.why_lost(frame), frame)
