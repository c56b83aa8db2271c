"""What a hand holds, and the boxes of a frame's regions, against a plain loop over frames."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from extract.regions.boxes import REGIONS, Hands, Held, Objects, held_objects, video_boxes

NUM_FRAMES = 4
# Few different numbers, so that hands and objects often lie alike.
fractions = st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0])
boxes = st.tuples(fractions, fractions, fractions, fractions)
scores = st.sampled_from([0.5, 0.625, 0.75])
hands = st.tuples(boxes, scores, st.integers(0, 1), st.integers(0, 4), st.tuples(fractions, fractions))
frames = st.lists(
    st.tuples(st.lists(hands, max_size=3), st.lists(boxes, max_size=4)), min_size=NUM_FRAMES, max_size=NUM_FRAMES
)


def _arrays(content) -> tuple[Hands, Objects]:
    all_hands = [(index, *hand) for index, (own, _) in enumerate(content) for hand in own]
    all_objects = [(index, box) for index, (_, own) in enumerate(content) for box in own]

    def column(rows, position: int, dtype, shape: tuple[int, ...] = (-1,)) -> np.ndarray:
        return np.array([row[position] for row in rows], dtype).reshape(shape)

    of_hands = Hands(
        frame=column(all_hands, 0, np.int64),
        box=column(all_hands, 1, np.float32, (-1, 4)),
        score=column(all_hands, 2, np.float32),
        side=column(all_hands, 3, np.int64),
        state=column(all_hands, 4, np.int64),
        shift=column(all_hands, 5, np.float32, (-1, 2)),
    )
    return of_hands, Objects(column(all_objects, 0, np.int64), column(all_objects, 1, np.float32, (-1, 4)))


def _held_slowly(content) -> list[tuple[int, tuple[float, ...], float]]:
    """Frame, box and score of the hand, of everything that a hand in state 3 or 4 holds."""
    held = []
    for index, (own_hands, own_objects) in enumerate(content):
        for box, score, _, state, (x, y) in own_hands:
            if state not in (3, 4) or not own_objects:
                continue
            aim = (box[0] + box[2]) / 2 + x, (box[1] + box[3]) / 2 + y
            held.append((index, min(own_objects, key=lambda one: _distance(one, aim)), score))
    return held


def _distance(box: tuple[float, ...], aim: tuple[float, float]) -> float:
    return ((box[0] + box[2]) / 2 - aim[0]) ** 2 + ((box[1] + box[3]) / 2 - aim[1]) ** 2


def _best(boxes_and_scores) -> tuple[float, ...] | None:
    pairs = list(boxes_and_scores)
    return max(pairs, key=lambda pair: pair[1])[0] if pairs else None


def _union(all_boxes) -> tuple[float, ...] | None:
    rows = list(all_boxes)
    if not rows:
        return None
    left, top, right, bottom = zip(*rows, strict=True)
    return min(left), min(top), max(right), max(bottom)


@given(frames)
def test_a_hand_holds_the_object_nearest_to_its_centre_plus_its_offset(content):
    held = held_objects(*_arrays(content))
    expected = _held_slowly(content)
    assert held.frame.tolist() == [frame for frame, _, _ in expected]
    assert held.score.tolist() == [score for _, _, score in expected]
    assert [tuple(box) for box in held.box.tolist()] == [box for _, box, _ in expected]


@given(frames)
def test_regions_are_the_best_hands_what_the_best_hand_holds_and_the_union_of_all(content):
    of_hands, objects = _arrays(content)
    found = video_boxes(np.arange(NUM_FRAMES) / 50, of_hands, held_objects(of_hands, objects)).boxes
    held = _held_slowly(content)
    for index, (own_hands, _) in enumerate(content):
        own_held = [(box, score) for frame, box, score in held if frame == index]
        expected = {
            "left": _best((box, score) for box, score, side, *_ in own_hands if side == 0),
            "right": _best((box, score) for box, score, side, *_ in own_hands if side == 1),
            "held": _best(own_held),
            "hands": _union([*(box for box, *_ in own_hands), *(box for box, _ in own_held)]),
        }
        for region, box in zip(REGIONS, found[index].tolist(), strict=True):
            assert (None if math.isnan(box[0]) else tuple(box)) == expected[region], region


def test_a_video_without_hands_has_no_regions():
    nothing = _arrays([([], [(0.0, 0.0, 1.0, 1.0)])] * NUM_FRAMES)
    held = held_objects(*nothing)
    assert isinstance(held, Held)
    assert np.isnan(video_boxes(np.arange(NUM_FRAMES) / 50, nothing[0], held).boxes).all()
