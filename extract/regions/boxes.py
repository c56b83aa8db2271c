"""The boxes of a video, and what detections make of them: the hands, what they hold, and the union of both.

Pure arithmetic on arrays; the formats of detections are read by extract/regions/hand_objects.py and tables.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Left, top, right, bottom: fractions of the width and height of the upright picture.
NUM_SIDES = 4
# The regions of a frame, in the order in which `VideoBoxes` holds them.
REGIONS = ("left", "right", "held", "hands")
LEFT, RIGHT = 0, 1
# The states of a hand that holds something: a portable object, a stationary one.
HOLDING = (3, 4)


@dataclass(frozen=True, eq=False)
class VideoBoxes:
    """The boxes of a video's regions, as they were detected.

    Attributes:
        seconds: (F,) float64, strictly ascending: the frames that a detector has looked at.
        boxes: (F, 4, 4) float32, the box of each of `REGIONS`; NaN where a frame has none.
    """

    seconds: np.ndarray
    boxes: np.ndarray

    def __post_init__(self) -> None:
        assert self.boxes.shape == (len(self.seconds), len(REGIONS), NUM_SIDES)

    def __repr__(self) -> str:
        return f"VideoBoxes({len(self.seconds)} frames)"


@dataclass(frozen=True, eq=False)
class Hands:
    """The hands of a video, frame by frame.

    Attributes:
        frame: (H,) int64, ascending: positions among the frames.
        box: (H, 4) float32.
        score: (H,) float32.
        side: (H,) int64, `LEFT` or `RIGHT`.
        state: (H,) int64: 0 touches nothing, 1 itself, 2 another person, 3 a portable object, 4 a stationary one.
        shift: (H, 2) float32, from the centre of the hand to that of the object, in fractions of width and height.
    """

    frame: np.ndarray
    box: np.ndarray
    score: np.ndarray
    side: np.ndarray
    state: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a video: `frame` (O,) int64, ascending, positions among the frames; `box` (O, 4) float32."""

    frame: np.ndarray
    box: np.ndarray


@dataclass(frozen=True, eq=False)
class Held:
    """Objects that hands hold: `frame` and `box` as of `Objects`, and `score` (O,) float32, that of the hand."""

    frame: np.ndarray
    box: np.ndarray
    score: np.ndarray


def held_objects(hands: Hands, objects: Objects) -> Held:
    """Return what each hand holds: of the objects in its frame, the one nearest to its centre plus its shift.

    Distances are those of fractions, as in the library of the detections' authors (`get_hand_object_interactions` of
    epic-kitchens-100-hand-object-bboxes); of several objects as near, the first. Hands that hold nothing, or in whose
    frame there is no object, give none.
    """
    holding = np.flatnonzero(np.isin(hands.state, HOLDING))
    first, stop = (np.searchsorted(objects.frame, hands.frame[holding], side) for side in ("left", "right"))
    holding, first, stop = (values[stop > first] for values in (holding, first, stop))
    num = stop - first
    starts = np.cumsum(num) - num
    of_hand = np.repeat(np.arange(len(holding)), num)
    candidates = np.arange(num.sum()) - np.repeat(starts - first, num)
    expected = centres(hands.box[holding]) + hands.shift[holding]
    distance = ((centres(objects.box[candidates]) - expected[of_hand]) ** 2).sum(axis=1)
    order = np.lexsort((candidates, distance, of_hand))
    nearest = candidates[order[starts]]
    return Held(hands.frame[holding], objects.box[nearest], hands.score[holding])


def centres(boxes: np.ndarray) -> np.ndarray:
    """Return the centres of boxes, x and y: (K, 4) -> (K, 2)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def video_boxes(seconds: np.ndarray, hands: Hands, held: Held) -> VideoBoxes:
    """Return the boxes of a video's regions.

    Of several left hands, or right hands, the one with the highest score is taken; "held" is the object of the hand
    with the highest score; "hands" is the union of all hands and of all objects that they hold.
    """
    boxes = np.full((len(seconds), len(REGIONS), NUM_SIDES), np.nan, np.float32)
    for side in (LEFT, RIGHT):
        own = np.flatnonzero(hands.side == side)
        _put_best(boxes[:, side], hands.frame[own], hands.box[own], hands.score[own])
    _put_best(boxes[:, 2], held.frame, held.box, held.score)
    _put_unions(boxes[:, 3], np.concatenate([hands.frame, held.frame]), np.concatenate([hands.box, held.box]))
    return VideoBoxes(seconds, boxes)


def _put_best(boxes: np.ndarray, frame: np.ndarray, box: np.ndarray, score: np.ndarray) -> None:
    """Put the box with the highest score of each frame into `boxes`, (F, 4); of several as high, the first."""
    order = np.lexsort((-np.arange(len(score)), score, frame))  # the best of a frame comes last, and stays
    boxes[frame[order]] = box[order]


def _put_unions(boxes: np.ndarray, frame: np.ndarray, box: np.ndarray) -> None:
    """Put the union of the boxes of each frame into `boxes`, (F, 4)."""
    np.fmin.at(boxes[:, :2], frame, box[:, :2])  # of NaN and a number, fmin is the number
    np.fmax.at(boxes[:, 2:], frame, box[:, 2:])
