"""Videos in progress: decoded frames are put together into clips, and the steps of the clips are collected.

Knows no process, no batch and no backbone. Pictures are kept only until the last clip that needs them is complete.

A clip has one or several views. Those that show the same part of a frame share its picture:

    frame 17   centre           -> centre, randaugment1
               centre, mirrored -> flip
               left             -> left
               augment1 of s    -> augment1 of the clips of segment s
               box of a region  -> that region in the clips with this frame

Where the hands and the objects in them are wanted, a clip has a picture of each region in each view. A clip that lacks
a region has the plain crop instead.

Nothing here takes time per frame or per clip: what belongs to the frames of a message, or to the clips that it
completes, is one operation on arrays. A GPU takes 10,000 frames per second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from extract.decode.probing import VideoInfo
from extract.decode.sources import Source
from extract.pictures import Blocks, BlockStore
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
class CroppedPart:
    """A plain crop of a resized frame, mirrored or not."""

    crop: Crop
    flip: bool = False


@dataclass(frozen=True)
class DrawnPart:
    """A random crop: the name of a view, and the name by which it is drawn."""

    view: str
    name: str


@dataclass(frozen=True)
class RegionPart:
    """The box of a region, mirrored or not.

    Attributes:
        region: its number.
        clip: the clip whose box it is; None where clips are single frames, each with a box of its own.
    """

    region: int
    clip: int | None
    flip: bool = False


# Which part of a frame a picture shows. The pictures of a part of some frames are made together.
Part: TypeAlias = "CroppedPart | DrawnPart | RegionPart"


class VideoInProgress:
    """A video whose clips are being computed.

    Attributes:
        views: of each look: of the R regions of the first view, of those of the second, and so on, V * R in all. R is 1
            where whole frames are taken.
        steps: (C, P, V * R, d) float16, filled clip by clip.
        num_open: how many looks at clips have neither steps nor a failure yet.
        moved: (S * C, L) int64, the frames of the clips at each of the S shifts of its views, shift by shift.
    """

    def __init__(self, request: Request, info: VideoInfo, plan: VideoPlan, dim: int) -> None:
        self.request, self.info, self.plan = request, info, plan
        num_clips, num_steps = plan.seconds.shape
        self._boxes = None if request.boxes is None else request.boxes(info.seconds, plan.clips)  # (C, R, 4)
        self._has_region = None if self._boxes is None else ~np.isnan(self._boxes[..., 0])
        self._num_regions = 1 if self._boxes is None else self._boxes.shape[1]
        self.views = tuple(view for view in request.views for _ in range(self._num_regions))
        self.steps = np.empty((num_clips, num_steps, len(self.views), dim), np.float16)
        self.num_open = num_clips * len(self.views)
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

    @cached_property
    def parts(self) -> tuple[tuple[Part, ...], np.ndarray]:
        """The distinct parts of frames that are shown, and which of them a look at a clip shows: (V * R, C) int64."""
        numbers: dict[Part, int] = {}
        shown = np.empty((len(self.views), len(self.steps)), np.int64)
        for look, (view, row) in enumerate(zip(self.views, shown, strict=True)):
            if view.kind == "augment":
                row[:] = [numbers.setdefault(DrawnPart(view.name, name), len(numbers)) for name in self.draw_names]
            else:
                row[:] = numbers.setdefault(CroppedPart(view.crop, view.flip), len(numbers))
            if self._has_region is not None:
                region = look % self._num_regions
                is_there = self._has_region[:, region]
                clips = np.flatnonzero(is_there).tolist() if self.moved.shape[1] > 1 else [None] * is_there.sum()
                row[is_there] = [
                    numbers.setdefault(RegionPart(region, clip, view.flip), len(numbers)) for clip in clips
                ]
        return tuple(numbers), shown

    def looks(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the looks at some rows of `moved`, row by row: (N,) positions in `rows`, clips and looks."""
        shifts, numbers = np.divmod(rows, len(self.steps))
        shift_of_look = np.array([self._shifts.index(view.shift) for view in self.views])
        positions, looks = np.nonzero(shifts[:, None] == shift_of_look)
        return positions, numbers[positions], looks

    def boxes_of(self, part: RegionPart, frames: np.ndarray) -> np.ndarray:
        """Return the box of a region in each of these frames, (k, 4), as `Request.boxes` gives it."""
        assert self._boxes is not None
        if part.clip is not None:
            return np.tile(self._boxes[part.clip, part.region], (len(frames), 1))
        shown, clip = self._clip_of_frame
        return self._boxes[clip[np.searchsorted(shown, frames)], part.region]

    @cached_property
    def _clip_of_frame(self) -> tuple[np.ndarray, np.ndarray]:
        """The frames that are shown, ascending, and a clip of each, where clips are single frames."""
        return np.unique(self.plan.clips[:, 0], return_index=True)

    def features(self) -> ClipFeatures:
        """Return the result, once no view of a clip is open."""
        names = tuple(view.name for view in self.request.views)
        num_clips, num_steps, _, dim = self.steps.shape
        steps = self.steps.reshape(num_clips, num_steps, len(names), self._num_regions * dim)
        return ClipFeatures(self.request.video_id, self.info, self.plan, steps, self.failures, names, self._has_region)


@dataclass(frozen=True, eq=False)
class Clips:
    """Some clips of a video, each in one of its looks, with their pictures.

    Attributes:
        numbers, looks: (n,) int64, of the clips, and of the looks among those of the video.
        blocks: hold the pictures.
        pictures: (n, L) int64, numbers of pictures in the blocks.
    """

    video: VideoInProgress
    numbers: np.ndarray
    looks: np.ndarray
    blocks: Blocks
    pictures: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def part(self, start: int, stop: int) -> Clips:
        """Return the clips from one position to another."""
        own = slice(start, stop)
        return Clips(self.video, self.numbers[own], self.looks[own], self.blocks, self.pictures[own])


@dataclass(frozen=True, eq=False)
class Completed:
    """What became of clips for which no more frames are awaited.

    Attributes:
        failures: numbers of clips, each with the reason why a look at it has no pictures.
    """

    clips: Clips
    failures: list[tuple[int, ClipFailure]]


class Piece:
    """Puts the clips of one piece of a video together as its frames arrive.

    A *look* is a clip of the piece in one region of one view, and a *cell* is one part of one frame: what a picture
    shows.

    Args:
        rows: of `video.moved`, in the order of their last frames.
    """

    def __init__(self, video: VideoInProgress, rows: np.ndarray) -> None:
        self.video = video
        moved = video.moved[rows]  # (R, L)
        positions, self._numbers, self._looks = video.looks(rows)  # (N,) each
        self._moved = moved[positions]  # (N, L), of each look
        self._parts, shown = video.parts
        self._frames, frame = np.unique(moved, return_inverse=True)
        keys = frame.reshape(moved.shape)[positions] * len(self._parts) + shown[self._looks, self._numbers][:, None]
        cells, cell = np.unique(keys, return_inverse=True)  # cells are in the order of their frames
        self._cells = cell.reshape(keys.shape)  # (N, L)
        self._frame_of_cell, self._part_of_cell = np.divmod(cells, len(self._parts))
        self._first_cell = np.searchsorted(self._frame_of_cell, np.arange(len(self._frames) + 1))  # of each frame
        self._last_look = np.zeros(len(cells), np.int64)
        self._last_look[self._cells.ravel()] = np.repeat(np.arange(len(keys)), keys.shape[1])  # later ones overwrite
        self._pictures = np.full(len(cells), -1)  # the number of each cell's picture; -1 before it arrives
        self._store = BlockStore()
        self._num_done = 0  # looks

    @property
    def request(self) -> Request:
        """The request of the video that this is a piece of."""
        return self.video.request

    def take(self, frames: Sequence[int], pictures: Callable[[Part, np.ndarray], torch.Tensor]) -> Completed:
        """Take some frames, later than all before them, and return the clips that need no frame after them.

        Args:
            frames: ascending, all of them among those of the piece.
            pictures: returns the (k, 3, h, w) pictures of a part of the frames at these (k,) positions in `frames`. It
                is called once per part.
        """
        wanted = np.searchsorted(self._frames, frames)
        own = np.arange(self._first_cell[wanted[0]], self._first_cell[wanted[-1] + 1])
        positions = np.searchsorted(wanted, self._frame_of_cell[own])
        has_arrived = wanted[positions] == self._frame_of_cell[own]  # a frame in between may be lost
        own, positions = own[has_arrived], positions[has_arrived]
        part_of_own = self._part_of_cell[own]
        for part in np.unique(part_of_own):
            is_shown = part_of_own == part
            cells = own[is_shown]
            block = pictures(self._parts[part], positions[is_shown])
            self._pictures[cells] = self._store.add(block, last_use=int(self._last_look[cells].max()))
        return self._completed(int(np.searchsorted(self._moved[:, -1], frames[-1], side="right")), None)

    def end(self, failure: ClipFailure | None) -> Completed:
        """Return the clips that are left when no more frames arrive.

        Args:
            failure: why no more frames arrive; None if decoding has reached the end of the piece.
        """
        return self._completed(len(self._moved), failure)

    def _completed(self, num_done: int, failure: ClipFailure | None) -> Completed:
        """Return the looks up to a number, but for those that were returned before."""
        own = slice(self._num_done, num_done)
        self._num_done = max(self._num_done, num_done)
        pictures = self._pictures[self._cells[own]]  # (n, L)
        is_missing = pictures < 0
        is_whole = ~is_missing.any(axis=1)
        clips = Clips(
            self.video, self._numbers[own][is_whole], self._looks[own][is_whole], self._store.kept(), pictures[is_whole]
        )
        self._store.forget(self._num_done)
        failures = [
            (
                int(self._numbers[own][look]),
                failure or self._lost(int(self._moved[own][look, is_missing[look].argmax()])),
            )
            for look in np.flatnonzero(~is_whole)
        ]
        return Completed(clips, failures)

    def _lost(self, frame: int) -> ClipFailure:
        return ClipFailure(*self.video.info.why_lost(frame), frame)
