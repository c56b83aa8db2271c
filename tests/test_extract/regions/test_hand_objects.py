"""The published detections: the real frame, times, the two faulty videos, and pickles that hold anything else."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import hostile
import numpy as np
import pytest
from feature_files import finished, python
from hand_objects import Found, Hand, message, write_detections
from hypothesis import given
from hypothesis import strategies as st
from shell import ROOT

from extract.decode.sources import PUBLISHED_AT_60
from extract.regions.boxes import REGIONS
from extract.regions.hand_objects import read_hand_objects
from features.errors import DataError
from features.pickles import read_list_of_bytes

REAL = ROOT.parent / "shared" / "epic100" / "hand_objects" / "P01_09_frame13404"
# That frame, rounded.
HANDS = (
    Hand((0.395, 0.426, 0.493, 0.762), 0.998, 3, 0, (0.204, -0.121)),
    Hand((0.638, 0.633, 0.818, 0.871), 0.993, 3, 1, (-0.015, -0.018)),
)
OBJECTS = (
    Found((0.454, 0.297, 0.732, 0.797), 0.999),
    Found((0.561, 0.586, 0.675, 0.707), 0.886),
)


def _regions(path: Path, video_id: str, *, min_score: float = 0.5) -> dict[str, list[float]]:
    """The regions of the first frame."""
    [first, *_] = read_hand_objects(path, video_id, min_score=min_score).boxes
    return {name: box.tolist() for name, box in zip(REGIONS, first, strict=True) if not np.isnan(box[0])}


def _one(tmp_path: Path, *hands: Hand, objects: tuple[Found, ...] = OBJECTS) -> Path:
    return write_detections(tmp_path / "P01_09.pkl", [message("P01_09", 1, hands, objects)])


# ---- values


@pytest.mark.skipif(not REAL.with_suffix(".pkl").is_file(), reason="the real frame is not beside the checkout")
def test_the_real_frame_has_the_published_values(tmp_path):
    found = read_hand_objects(REAL.with_suffix(".pkl"), "P01_09", min_score=0.5)
    published = json.loads(REAL.with_suffix(".json").read_text())
    assert found.seconds.tolist() == [(published["frame_number"] - 1) / 60]
    left, right = (hand["bbox"] for hand in published["hands"])
    first, _ = (one["bbox"] for one in published["objects"])
    regions = _regions(REAL.with_suffix(".pkl"), "P01_09")
    assert (regions["left"], regions["right"], regions["held"]) == (left, right, first)
    assert regions["hands"] == [left[0], first[1], right[2], right[3]]
    # And the tests' own writer writes that frame as it was published.
    hands = [
        Hand(hand["bbox"], hand["score"], hand["state"], hand["side"], hand["object_offset"])
        for hand in published["hands"]
    ]
    objects = [Found(one["bbox"], one["score"]) for one in published["objects"]]
    assert read_list_of_bytes(REAL.with_suffix(".pkl")) == [message("P01_09", 13404, hands, objects)]


def test_what_a_score_leaves_out(tmp_path):
    path = _one(tmp_path, *HANDS)
    assert _regions(path, "P01_09").keys() == set(REGIONS)
    assert _regions(path, "P01_09", min_score=0.995).keys() == {"left", "held", "hands"}
    assert _regions(path, "P01_09", min_score=1.0) == {}


@pytest.mark.parametrize("state", range(5))
def test_only_a_hand_in_state_3_or_4_holds_something(tmp_path, state):
    path = _one(tmp_path, Hand(HANDS[0].box, 0.9, state, 0, HANDS[0].offset))
    assert ("held" in _regions(path, "P01_09")) == (state in (3, 4))


@given(st.integers(1, 2**31 - 1), st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5))
def test_any_values_are_read_as_they_were_written(tmp_path_factory, number, values):
    left, top, right, bottom, score = values
    hand = Hand((left, top, right, bottom), score, 0, 1)
    path = write_detections(
        tmp_path_factory.getbasetemp() / "any" / "P01_101.pkl", [message("P01_101", number, [hand])]
    )
    found = read_hand_objects(path, "P01_101", min_score=0.0)
    assert found.seconds.tolist() == [(number - 1) / 50]
    assert found.boxes[0, REGIONS.index("right")].tolist() == [left, top, right, bottom]


# ---- times


@pytest.mark.parametrize(("video_id", "fps"), [("P01_09", 60), ("P01_109", 50)])
def test_frame_n_is_at_n_minus_1_over_the_published_rate(tmp_path, video_id, fps):
    path = write_detections(tmp_path / "a.pkl", [message(video_id, number) for number in (1, 2, 61)])
    np.testing.assert_array_equal(read_hand_objects(path, video_id, min_score=0.5).seconds, np.array([0, 1, 60]) / fps)


@pytest.mark.parametrize("video_id", PUBLISHED_AT_60)
def test_the_two_faulty_videos_are_refused(tmp_path, video_id):
    messages = [message(video_id, 1)] * PUBLISHED_AT_60[video_id]
    path = write_detections(tmp_path / f"{video_id}.pkl", messages)
    with pytest.raises(DataError, match=r"for 60 frames per second by mistake; fetch them again"):
        read_hand_objects(path, video_id, min_score=0.5)


# ---- what is no such file


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"a": b""}, "holds dict, not a list of bytes"),
        ([b"", "text"], "item 1 of its list is str, not bytes"),
        ([bytearray(b"")], "item 0 of its list is bytearray, not bytes"),
        ([[b""]], "item 0 of its list is list, not bytes"),
        ([Path("a")], r"item 0 of its list is pathlib\S*Path, not bytes"),
        ([np.zeros(2)], "item 0 of its list is ndarray, not bytes"),
        ([], "holds no frames"),
        ([b"\xff\xff"], "message 0 is not one of hands and objects"),
        ([message("P01_10", 1)], "message 0 is of video 'P01_10', not of P01_09"),
        ([message("P01_09", 2), message("P01_09", 2)], "frame numbers do not ascend"),
        ([message("P01_09", 0)], "frame numbers do not ascend from 1"),
        ([message("P01_09", 1, [Hand((float("nan"), 0, 1, 1), 0.9, 0, 0)])], "a value that is no number"),
    ],
)
def test_anything_but_messages_of_the_video_is_refused(tmp_path, content, reason):
    path = tmp_path / "P01_09.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=reason):
        read_hand_objects(path, "P01_09", min_score=0.5)


@pytest.mark.parametrize("name", hostile.RUNNING)
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path, name):
    marker = tmp_path / "marker"
    path = hostile.as_pickle(hostile.RUNNING[name](marker), tmp_path / "P01_09.pkl")
    with pytest.raises(DataError, match=r"P01_09\.pkl"):
        read_hand_objects(path, "P01_09", min_score=0.5)
    assert not marker.exists()


def test_a_video_of_another_dataset_has_no_published_rate(tmp_path):
    path = write_detections(tmp_path / "kitchen.pkl", [message("kitchen", 1)])
    with pytest.raises(DataError, match=r"kitchen is none of its videos; give boxes as CSV"):
        read_hand_objects(path, "kitchen", min_score=0.5)


# ---- an hour

LOAD = """
import resource, sys, time
from pathlib import Path
from extract.regions.hand_objects import read_hand_objects
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
before, start = peak(), time.process_time()
found = read_hand_objects(Path(sys.argv[1]), "P01_09", min_score=0.5)
print(len(found.seconds), time.process_time() - start, peak() - before)
"""


def test_an_hour_loads_within_10_s_and_500_mb(tmp_path):
    objects = [*OBJECTS, *[Found((0.1, 0.1, 0.2, 0.2), 0.05)] * 6]
    rest = message("P01_09", 1, HANDS, objects).removeprefix(message("P01_09", 1))
    messages = [message("P01_09", number) + rest for number in range(1, 216_001)]
    path = write_detections(tmp_path / "P01_09.pkl", messages)
    code, out, err = finished(python(LOAD, path))
    assert code == 0, err
    num, seconds, mebibytes = map(float, out.split())
    assert num == 216_000
    assert seconds < 10
    assert mebibytes < 500
