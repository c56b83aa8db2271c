"""From the boxes of a video to the part of each picture that a backbone sees. Pure arithmetic.

    detected        |----   -  ----        ------|      a box per frame, where there is one
    smoothed, held  |---------------       ------|      the mean of the last 0.1 s; held for up to 0.5 s
    in the picture  a margin of a quarter of the box on each side, squared, moved into the picture, even pixels

A box depends on nothing after its frame, so that a step sees no more of what is to come than its frames do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.regions.boxes import REGIONS, VideoBoxes
from extract.views import Box, View
from features.errors import OptionError, unknown_name

# What `--regions` takes -> the regions that a step keeps side by side.
KINDS: Mapping[str, tuple[str, ...]] = {"hands": ("hands",), "hands+objects": REGIONS}
MIN_SCORE = 0.5
MARGIN = 0.25
HOLD_S = 0.5
SMOOTH_S = 0.1
# The views that a region has: a crop at an end of the picture has none, and augmentations choose their own.
_VIEWS = ("centre", "flip")
_SAME_S = 1e-6
_SIZES = 24  # of the squares that are cut out


@dataclass(frozen=True)
class Regions:
    """Which parts of each picture a backbone sees.

    Attributes:
        kind: one of `KINDS`.
        min_score: the least score of a hand or an object that counts.
        margin: on each side of a box, as a share of its width and height.
        hold_s: for how long a box stays where there is none.
        smooth_s: over how long boxes are averaged.
    """

    kind: str
    min_score: float = MIN_SCORE
    margin: float = MARGIN
    hold_s: float = HOLD_S
    smooth_s: float = SMOOTH_S

    @property
    def names(self) -> tuple[str, ...]:
        """The regions, in the order in which a step keeps them."""
        return KINDS[self.kind]

    def as_json(self, boxes: str) -> dict[str, Any]:
        """Return the record for featureset.json; `boxes` says which boxes they are."""
        return {
            "kind": self.kind,
            "boxes": boxes,
            "min_score": self.min_score,
            "margin": self.margin,
            "hold_s": self.hold_s,
            "smooth_s": self.smooth_s,
            "sizes": _SIZES,
        }


def num_regions(kind: str | None) -> int:
    """Return how many regions a step keeps; 1 for whole frames, where `kind` is None.

    Raises:
        OptionError: there are no such regions.
    """
    return 1 if kind is None else len(_known(kind))


def choose_regions(
    kind: str | None, views: Sequence[View], boxes: object, min_score: float = MIN_SCORE
) -> Regions | None:
    """Return the regions of `--regions`, `--boxes` and `--min-score`; None for whole frames.

    Raises:
        OptionError: there are no such regions, they cannot be seen in a view, the score is none, or `--regions` or
            `--boxes` is given alone.
    """
    if kind is None:
        if boxes is not None:
            raise OptionError("--boxes", f"{boxes} is of no use without --regions; add --regions hands.")
        return None
    _known(kind)
    if boxes is None:
        raise OptionError("--boxes", f"is missing: --regions {kind} needs the boxes of hands and objects.")
    if not 0 <= min_score <= 1:
        raise OptionError("--min-score", f"{min_score} is not a score from 0 to 1.")
    if impossible := [view.name for view in views if view.name not in _VIEWS]:
        raise OptionError("--views", f"{impossible[0]} is none of regions, which have {' and '.join(_VIEWS)}.")
    return Regions(kind, min_score)


def _known(kind: str) -> tuple[str, ...]:
    if kind not in KINDS:
        raise unknown_name("--regions", "regions", kind, KINDS)
    return KINDS[kind]


def boxes_of_clips(boxes: VideoBoxes, frame_seconds: np.ndarray, clips: np.ndarray, regions: Regions) -> np.ndarray:
    """Return the box of each region in each clip, the union over its frames, with its margin.

    Args:
        frame_seconds: (F,) float64, times of the video's frames.
        clips: (C, L) frame numbers.

    Returns:
        (C, R, 4) float64; NaN where no frame of a clip has a region. Margins may reach beyond the picture.
    """
    frames, position = np.unique(clips, return_inverse=True)
    of_frames = boxes_at(boxes, frame_seconds[frames], regions)[position.reshape(clips.shape)]  # (C, L, R, 4)
    low, high = np.fmin.reduce(of_frames[..., :2], axis=1), np.fmax.reduce(of_frames[..., 2:], axis=1)
    margin = regions.margin * (high - low)
    return np.concatenate([low - margin, high + margin], axis=-1)


def boxes_at(boxes: VideoBoxes, moments: np.ndarray, regions: Regions) -> np.ndarray:
    """Return the boxes of regions at moments of the video, smoothed and held: (M, R, 4) float64; NaN where none is.

    A moment meets the detections of the frame nearest to it. If these have no box of the region, the last one before
    counts for up to `hold_s`. The box is the mean of those in the `smooth_s` until then.

    Args:
        moments: (M,) float64, seconds.
    """
    columns = [REGIONS.index(name) for name in regions.names]
    nearest_s = min(_half_interval(boxes.seconds), regions.hold_s)
    found = [_one_region(boxes.seconds, boxes.boxes[:, column], moments, nearest_s, regions) for column in columns]
    return np.stack(found, axis=1)


def _half_interval(seconds: np.ndarray) -> float:
    return float(np.median(np.diff(seconds))) / 2 if len(seconds) > 1 else 0.0


def _one_region(
    seconds: np.ndarray, boxes: np.ndarray, moments: np.ndarray, nearest_s: float, regions: Regions
) -> np.ndarray:
    """Return the boxes of one region, (M, 4), from those that were detected, (F, 4)."""
    is_there = ~np.isnan(boxes[:, 0])
    seconds, boxes = seconds[is_there], boxes[is_there].astype(np.float64)
    found = np.full((len(moments), 4), np.nan)
    last = np.searchsorted(seconds, moments + nearest_s + _SAME_S, "right") - 1
    is_held = last >= 0
    is_held[is_held] = moments[is_held] - seconds[last[is_held]] <= regions.hold_s + _SAME_S
    last = last[is_held]
    first = np.searchsorted(seconds, seconds[last] - regions.smooth_s - _SAME_S)
    sums = np.concatenate([np.zeros((1, 4)), np.cumsum(boxes, axis=0)])
    found[is_held] = (sums[last + 1] - sums[first]) / (last + 1 - first)[:, None]
    return found


def pixel_box(box: Sequence[float], size: tuple[int, int]) -> Box:
    """Return the square of a picture that shows a box: about its middle, at least as long as its longer side.

    A square that reaches over a border is moved into the picture; it is no larger than the largest square in it. There
    are some 24 sizes of squares, so that several can be resized together, and so that few sizes follow each other.

    Args:
        box: left, top, right and bottom, in fractions of the picture.
        size: height and width of the picture.
    """
    height, width = size
    left, top, right, bottom = box
    side = max((right - left) * width, (bottom - top) * height)
    step = max(2, 2 * round(min(size) / (2 * _SIZES)))
    pixels = min(step * max(1, math.ceil(side / step - 1e-6)), min(size) // 2 * 2)
    rows = _start((top + bottom) / 2 * height, pixels, height)
    return Box(rows, _start((left + right) / 2 * width, pixels, width), pixels, pixels)


def _start(middle: float, pixels: int, size: int) -> int:
    """Return the first pixel of so many about the middle, even, so that all lie within the size."""
    return max(0, min(2 * round((middle - pixels / 2) / 2), (size - pixels) // 2 * 2))
