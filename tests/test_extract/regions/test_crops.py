"""Boxes in time and in the picture: held where detections fail, smoothed by the past alone, square and inside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.regions.boxes import REGIONS, VideoBoxes
from extract.regions.crops import KINDS, Regions, boxes_at, boxes_of_clips, choose_regions, num_regions, pixel_box
from extract.views import choose_views
from features.errors import OptionError

HANDS = Regions("hands")
RATE = 50
BOX = (0.25, 0.25, 0.5, 0.75)


def _video(there: list[bool], boxes: np.ndarray | None = None, rate: float = RATE) -> VideoBoxes:
    """A video whose region "hands" is where it says."""
    values = np.full((len(there), len(REGIONS), 4), np.nan, np.float32)
    own = np.flatnonzero(there)
    values[own, REGIONS.index("hands")] = BOX if boxes is None else boxes[own]
    return VideoBoxes(np.arange(len(there)) / rate, values)


def _at(video: VideoBoxes, *moments: float) -> np.ndarray:
    return boxes_at(video, np.array(moments), HANDS)[:, 0]


# ---- in time


def test_a_moment_meets_the_nearest_frame():
    moving = np.linspace([0.0, 0.0, 0.1, 0.1], [0.9, 0.9, 1.0, 1.0], 10)
    video = _video([True] * 10, moving, rate=2)  # half a second apart, so that nothing is averaged
    np.testing.assert_allclose(_at(video, 0.24, 0.26, 4.4), moving[[0, 1, 9]], atol=1e-6)


def test_a_box_holds_for_half_a_second_and_no_longer():
    video = _video([True, *[False] * 49])
    assert not np.isnan(_at(video, 0.5)).any()
    assert np.isnan(_at(video, 0.52)).all()


def test_no_box_comes_before_the_first_that_is_seen():
    video = _video([False] * 10 + [True] * 10)
    assert np.isnan(_at(video, 0.18)).all()
    assert not np.isnan(_at(video, 0.2)).any()


def test_a_box_that_stays_is_not_changed():
    np.testing.assert_array_equal(_at(_video([True] * 50), 0.0, 0.5, 0.98), [BOX] * 3)


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 2**32 - 1), st.floats(0, 1.5))
def test_boxes_are_those_of_a_plain_loop(there, seed, moment):
    boxes = np.random.default_rng(seed).random((len(there), 4)).astype(np.float32)
    video = _video(there, boxes)
    nearest = 0.5 / RATE if len(there) > 1 else 0.0
    earlier = [index for index, is_there in enumerate(there) if is_there and index / RATE <= moment + nearest + 1e-6]
    [found] = _at(video, moment)
    if not earlier or moment - earlier[-1] / RATE > HANDS.hold_s + 1e-6:
        assert np.isnan(found).all()
        return
    averaged = [index for index in earlier if index / RATE >= earlier[-1] / RATE - HANDS.smooth_s - 1e-6]
    np.testing.assert_allclose(found, boxes[averaged].mean(axis=0), atol=1e-6)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.lists(st.booleans(), max_size=30))
def test_what_comes_later_changes_nothing(past, future):
    rng = np.random.default_rng(0)
    boxes = rng.random((len(past) + len(future), 4)).astype(np.float32)
    moment = (len(past) - 1) / RATE
    # Of one frame alone nobody knows the rate; it makes no difference at the time of a frame.
    np.testing.assert_array_equal(_at(_video(past, boxes), moment), _at(_video([*past, *future], boxes), moment))


def test_the_box_of_a_clip_is_the_union_over_its_frames_with_a_margin():
    there = [False, True, False, True] + [False] * 96
    boxes = np.tile([0.25, 0.25, 0.5, 0.5], (100, 1))
    boxes[3] = [0.5, 0.375, 0.75, 0.5]
    video = _video(there, boxes, rate=1)
    clips = np.array([[0, 1, 3], [0, 0, 2], [50, 60, 70]])
    found = boxes_of_clips(video, np.arange(100.0), clips, Regions("hands", hold_s=0.5))[:, 0]
    np.testing.assert_allclose(found[0], [0.25 - 0.125, 0.25 - 0.0625, 0.75 + 0.125, 0.5 + 0.0625])
    assert np.isnan(found[1:]).all()


def test_hands_and_objects_are_four_regions():
    values = np.random.default_rng(0).random((20, len(REGIONS), 4)).astype(np.float32)
    values[:, 1] = np.nan
    video = VideoBoxes(np.arange(20.0), values)
    found = boxes_at(video, np.array([3.0]), Regions("hands+objects"))
    np.testing.assert_allclose(found[0], values[3])
    assert KINDS["hands+objects"] == REGIONS


# ---- in the picture

shares = st.floats(0, 1, width=32)
sizes = st.tuples(st.integers(2, 500), st.integers(2, 500))


@given(shares, shares, shares, shares, sizes)
def test_the_crop_is_an_even_square_within_the_picture(x1, y1, x2, y2, size):
    height, width = size
    box = pixel_box((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), size)
    assert box.height == box.width >= 2
    assert {value % 2 for value in (box.top, box.left, box.height, box.width)} == {0}
    assert box.top >= 0
    assert box.left >= 0
    assert box.top + box.height <= height
    assert box.left + box.width <= width
    longer = max(abs(x2 - x1) * width, abs(y2 - y1) * height)
    assert box.width >= min(longer, min(size) - 1) - 1e-3
    assert box.width <= longer + min(size) / 24 + 2  # one of some 24 sizes
    if longer <= min(size) - 4:  # with room left and right, its middle is that of the box to a pixel and a half
        for first, length, middle, whole in (
            (box.left, box.width, (x1 + x2) / 2 * width, width),
            (box.top, box.height, (y1 + y2) / 2 * height, height),
        ):
            if length / 2 + 1 < middle < whole - length / 2 - 1:
                assert abs(first + length / 2 - middle) <= 1.5


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.0, 0.0, 1.0, 1.0), (0, 140, 360, 360)),  # the whole picture: the largest square in its middle
        ((0.0, 0.0, 0.1, 0.1), (0, 0, 64, 64)),
        ((0.9, 0.9, 1.0, 1.0), (296, 576, 64, 64)),
        ((0.5, 0.5, 0.5 + 1 / 640, 0.5 + 1 / 360), (172, 312, 16, 16)),  # a pixel
    ],
)
def test_crops_of_known_boxes(box, expected):
    found = pixel_box(box, (360, 640))
    assert (found.top, found.left, found.height, found.width) == expected


# ---- options


def test_what_makes_no_sense_is_refused():
    preprocess = None
    centre = choose_views("centre", preprocess)
    assert choose_regions(None, centre, None) is None
    assert (num_regions(None), num_regions("hands"), num_regions("hands+objects")) == (1, 1, 4)
    with pytest.raises(OptionError, match=r"--regions: no regions 'hand'; did you mean 'hands'"):
        choose_regions("hand", centre, "boxes")
    with pytest.raises(OptionError, match=r"--boxes: is missing"):
        choose_regions("hands", centre, None)
    with pytest.raises(OptionError, match=r"--boxes: boxes is of no use without --regions"):
        choose_regions(None, centre, "boxes")
    with pytest.raises(OptionError, match=r"--min-score: 1.5"):
        choose_regions("hands", centre, "boxes", 1.5)
    with pytest.raises(OptionError, match=r"--views: early is none of regions"):
        choose_regions("hands", choose_views("centre,flip,early", preprocess), "boxes")
