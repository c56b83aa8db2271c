"""Views by name, and their random draws: the same everywhere, and within what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.backbone_input import Preprocess
from extract.views import Draw, choose_views, draw, seed, stored_views, view_names
from features.errors import DataError, OptionError
from features.views import is_random

CROPPED = Preprocess(resize=24, crop=(24, 24), mean=(0.5,) * 3, std=(0.5,) * 3)
WHOLE = Preprocess(resize=(24, 24), crop=None, mean=(0.5,) * 3, std=(0.5,) * 3)


def test_a_list_of_views_is_read_in_its_order():
    views = choose_views("centre, left,flip,augment:2,randaugment:1", CROPPED)
    assert [view.name for view in views] == ["centre", "left", "flip", "augment1", "augment2", "randaugment1"]
    assert [is_random(view.name) for view in views] == [False, False, False, True, True, True]


def test_views_by_the_names_that_a_set_has_are_those_that_were_chosen():
    views = choose_views("centre,right,early,late,augment:11,randaugment:2", CROPPED)
    assert stored_views([view.name for view in views], "P01_01") == views


def test_more_augmentations_leave_the_first_ones_as_they_were():
    assert view_names("augment:3")[:2] == view_names(["augment:2"])


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ("centre,lft", "--views: no view 'lft'; did you mean 'left'?"),
        ("", "--views: no view ''"),
        ("augment:0", "--views: augment:0: '0' is not a number of augmentations above 0"),
        ("augment:", "--views: augment:: '' is not a number of augmentations above 0"),
        ("augment0", "--views: no view 'augment0'"),
        ("flip,flip", "--views: flip is given twice"),
        ("augment2,augment:2", "--views: augment2 is given twice"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(views: str, message: str):
    with pytest.raises(OptionError) as error:
        choose_views(views, CROPPED)
    assert str(error.value).startswith(message)


def test_a_crop_cannot_move_where_the_backbone_sees_the_whole_picture():
    with pytest.raises(OptionError, match="--views: left is the same as centre: this backbone is given the whole"):
        choose_views("centre,left", WHOLE)
    assert len(choose_views("centre,flip,augment:1", WHOLE)) == 3


def test_a_view_of_elsewhere_cannot_be_extracted_again():
    with pytest.raises(DataError, match=r"P01_01: it has a view that cannot be extracted again .*'theirs'"):
        stored_views(["theirs"], "P01_01")


# ---- draws


def test_draws_are_the_same_on_every_machine_and_in_every_version():
    # By Python 3.12; a change of these numbers changes the features of everyone's augmented views.
    shares = (0.1296332793251993, 0.6373207888537129, 0.36909845893633453, 0.6182531776437589)
    factors = (1.1199341184369576, 0.8072588581361474, 1.1537331765330723)
    assert draw("augment1", "P01_101_5") == Draw(*shares, True, factors, (2, 0, 1))
    assert seed("randaugment1", "P01_101_5") == 3320242522506100


def test_draws_differ_between_segments_and_views():
    draws = [draw(view, f"P01_101_{number}") for view in ("augment1", "augment2") for number in range(500)]
    assert len({drawn.area for drawn in draws}) == 1000
    assert 400 < sum(drawn.flip for drawn in draws) < 600
    assert len({drawn.order for drawn in draws}) == 6
    factors = np.array([drawn.factors for drawn in draws])
    assert factors.min() >= 0.8
    assert factors.max() <= 1.2
    assert factors.std(axis=0) == pytest.approx(0.4 / 12**0.5, rel=0.1)


SHARE = st.floats(0, 1)


@settings(max_examples=300, deadline=None)
@given(st.integers(16, 1100), st.integers(16, 2000), st.booleans(), st.tuples(SHARE, SHARE, SHARE, SHARE))
def test_random_crops_lie_in_the_picture_and_keep_four_fifths(height: int, width: int, is_whole: bool, shares):
    side = min(height, width)
    largest = (height, width) if is_whole else (side, side)
    box = Draw(*shares, False, (1.0, 1.0, 1.0), (0, 1, 2)).box((height, width), largest)
    assert all(pixels % 2 == 0 for pixels in (box.top, box.left, box.height, box.width))
    assert box.top >= 0
    assert box.left >= 0
    assert box.top + box.height <= height
    assert box.left + box.width <= width
    # Even numbers are at most one pixel off, and two where the picture is odd.
    assert (box.height + 2) * (box.width + 2) >= 0.8 * largest[0] * largest[1]
    assert (box.height - 1) * (box.width - 1) <= largest[0] * largest[1]
    shape = (box.width / largest[1]) / (box.height / largest[0])
    assert 3 / 4 * (1 - 4 / side) <= shape <= 4 / 3 * (1 + 4 / side)


def test_random_crops_of_a_wide_picture_reach_both_ends():
    boxes = [draw("augment1", str(number)).box((360, 640), (360, 360)) for number in range(2000)]
    assert min(box.left for box in boxes) < 10
    assert max(box.left + box.width for box in boxes) > 630
