"""Which frames are chosen: inside the video, ascending, nearest in time, spread over the segment."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.backbone_input import ClipShape
from extract.backbones import get
from extract.sampling import (
    VideoPlan,
    choose_clip,
    choose_sampling,
    nearest_frames,
    plan_dense,
    plan_segments,
    plan_video,
)
from features.errors import OptionError
from features.featureset import Sampling
from features.intervals import SegmentTimes

IMAGE = ClipShape()
CLIP = get("r2plus1d_18").clip
SPREAD = ClipShape(num_frames=8, fps=4.0, num_steps=4, spread=True)
SHAPES = st.sampled_from([IMAGE, CLIP, ClipShape(num_frames=8, fps=4.0, num_steps=8), SPREAD])


@st.composite
def videos(draw) -> np.ndarray:
    """Presentation times as files have them: any rate, constant or not, the first not always at 0."""
    gaps = draw(
        st.one_of(
            st.builds(
                lambda fps, num: [1 / fps] * num, st.sampled_from([19.62, 25, 29.97, 50, 59.94]), st.integers(1, 300)
            ),
            st.lists(st.floats(0.001, 2), max_size=100),
        )
    )
    return draw(st.sampled_from([0.0, 0.021, 3.5])) + np.cumsum([0, *gaps])


@st.composite
def videos_and_segments(draw) -> tuple[np.ndarray, SegmentTimes]:
    """A video, and segments between its first frame and its last."""
    seconds = draw(videos())
    length = seconds[-1] - seconds[0]
    intervals = draw(st.lists(st.tuples(st.floats(0, 0.9), st.floats(0.01, 0.1)), min_size=1, max_size=5))
    start_s = np.array([seconds[0] + start * length for start, _ in intervals])
    stop_s = np.array([start + max(share * length, 0.01) for start, (_, share) in zip(start_s, intervals, strict=True)])
    return seconds, _segments(start_s, stop_s)


def _segments(start_s, stop_s) -> SegmentTimes:
    return SegmentTimes(tuple(f"P01_01_{index}" for index in range(len(start_s))), np.array(start_s), np.array(stop_s))


def _parts(start_s: float, stop_s: float, num: int) -> np.ndarray:
    """Return the middles of `num` equal parts of an interval."""
    edges = np.linspace(start_s, stop_s, num + 1)
    return (edges[1:] + edges[:-1]) / 2


def _clips_of(plan: VideoPlan, index: int) -> slice:
    return slice(*plan.clip_range[index])


@given(videos_and_segments(), st.integers(1, 40), SHAPES)
def test_frames_lie_inside_the_video(example, num_frames, clip):
    seconds, segments = example
    plan = plan_segments(seconds, segments, num_frames=num_frames, clip=clip)
    assert plan.clips.min() >= 0
    assert plan.clips.max() < len(seconds)


@given(videos_and_segments(), st.integers(1, 40), SHAPES)
def test_frames_ascend_within_a_clip(example, num_frames, clip):
    seconds, segments = example
    plan = plan_segments(seconds, segments, num_frames=num_frames, clip=clip)
    assert (np.diff(plan.clips, axis=1) >= 0).all()


@given(videos_and_segments(), st.integers(1, 40))
def test_frames_of_a_segment_ascend(example, num_frames):
    seconds, segments = example
    plan = plan_segments(seconds, segments, num_frames=num_frames, clip=IMAGE)
    for index in range(len(plan.narration_id)):
        assert (np.diff(plan.clips[_clips_of(plan, index), 0]) >= 0).all()


@given(videos(), st.lists(st.floats(-10, 500), max_size=20))
def test_chosen_frame_is_the_nearest_in_presentation_time(seconds, positions):
    frames = nearest_frames(seconds, np.array(positions))
    assert frames.tolist() == [
        min(range(len(seconds)), key=lambda frame: abs(seconds[frame] - position)) for position in positions
    ]


@given(videos_and_segments(), st.integers(1, 40))
def test_image_backbone_sees_the_frame_nearest_to_the_middle_of_each_part(example, num_frames):
    seconds, segments = example
    plan = plan_segments(seconds, segments, num_frames=num_frames, clip=IMAGE)
    for index, (start_s, stop_s) in enumerate(zip(segments.start_s, segments.stop_s, strict=True)):
        middles = _parts(start_s, stop_s, num_frames)
        distance = np.abs(seconds[plan.clips[_clips_of(plan, index), 0]] - middles)
        nearest = np.abs(seconds[:, None] - middles).min(axis=0)
        assert (distance <= nearest + 1e-9).all()


@given(videos_and_segments(), st.integers(1, 40))
def test_image_backbone_gives_as_many_frames_as_asked(example, num_frames):
    seconds, segments = example
    plan = plan_segments(seconds, segments, num_frames=num_frames, clip=IMAGE)
    assert np.diff(plan.clip_range)[:, 0].tolist() == [num_frames] * len(segments.narration_id)


@given(videos_and_segments(), st.integers(1, 100))
def test_fewest_clips_that_cover_the_frames_asked(example, num_frames):
    seconds, segments = example
    plan = plan_segments(seconds, segments, num_frames=num_frames, clip=CLIP)
    fewest = next(num for num in range(1, 100) if num * 16 >= num_frames)
    assert np.diff(plan.clip_range)[:, 0].tolist() == [fewest] * len(segments.narration_id)


@given(st.floats(5, 20), st.floats(0.1, 20), st.integers(1, 64))
def test_clips_are_centred_in_their_parts(start_s, length_s, num_frames):
    seconds = np.arange(0, 50, 0.001)  # so fine, and so wide, that the grid of frames does not matter
    segments = _segments([start_s], [start_s + length_s])
    plan = plan_segments(seconds, segments, num_frames=num_frames, clip=CLIP)
    middles = _parts(start_s, start_s + length_s, math.ceil(num_frames / 16))
    np.testing.assert_allclose(seconds[plan.clips].mean(axis=1), middles, atol=0.001)


@given(st.floats(5, 20), st.floats(0.1, 20))
def test_frames_of_a_clip_keep_the_backbones_rate(start_s, length_s):
    seconds = np.arange(0, 50, 0.001)
    plan = plan_segments(seconds, _segments([start_s], [start_s + length_s]), num_frames=16, clip=CLIP)
    np.testing.assert_allclose(np.diff(seconds[plan.clips]), 1 / 15, atol=0.0011)


@given(st.floats(5, 20), st.floats(0.1, 20))
def test_steps_stand_in_the_middle_of_the_frames_they_come_from(start_s, length_s):
    seconds = np.arange(0, 50, 0.001)
    plan = plan_segments(seconds, _segments([start_s], [start_s + length_s]), num_frames=16, clip=CLIP)
    halves = np.stack([seconds[plan.clips[:, :8]].mean(axis=1), seconds[plan.clips[:, 8:]].mean(axis=1)], axis=1)
    np.testing.assert_allclose(plan.seconds, halves, atol=0.001)


@given(videos_and_segments(), st.integers(1, 40), SHAPES)
def test_seconds_of_steps_lie_within_the_video(example, num_frames, clip):
    seconds, segments = example
    plan = plan_segments(seconds, segments, num_frames=num_frames, clip=clip)
    last_s = seconds[-1] + (np.median(np.diff(seconds)) if len(seconds) > 1 else 0)
    assert plan.seconds.min() >= seconds[0]
    assert plan.seconds.max() <= last_s


@given(videos_and_segments(), st.integers(1, 40), SHAPES)
def test_seconds_of_steps_ascend_within_a_clip(example, num_frames, clip):
    seconds, segments = example
    plan = plan_segments(seconds, segments, num_frames=num_frames, clip=clip)
    assert (np.diff(plan.seconds, axis=1) >= 0).all()


@given(videos_and_segments(), SHAPES)
def test_frame_of_a_step_is_the_nearest_to_its_second(example, clip):
    seconds, segments = example
    plan = plan_segments(seconds, segments, num_frames=16, clip=clip)
    distance = np.abs(seconds[plan.frame] - plan.seconds)
    assert (distance <= np.abs(seconds[:, None, None] - plan.seconds).min(axis=0)).all()


@given(videos_and_segments(), SHAPES)
def test_wanted_frames_are_those_of_all_clips_once_and_ascending(example, clip):
    seconds, segments = example
    plan = plan_segments(seconds, segments, num_frames=16, clip=clip)
    assert plan.wanted.tolist() == sorted(set(plan.clips.reshape(-1).tolist()))


@given(videos_and_segments(), SHAPES, st.integers(0, 5), st.floats(0.2, 1000))
def test_segment_beyond_the_end_does_not_disturb_the_others(example, clip, index, beyond_s):
    seconds, segments = example
    end_s = seconds[-1] + (np.median(np.diff(seconds)) if len(seconds) > 1 else 0)
    index = min(index, len(segments.narration_id))
    more_segments = SegmentTimes(
        (*segments.narration_id[:index], "P01_01_beyond", *segments.narration_id[index:]),
        np.insert(segments.start_s, index, seconds[0]),
        np.insert(segments.stop_s, index, end_s + beyond_s),
    )
    plan = plan_segments(seconds, more_segments, num_frames=16, clip=clip)
    expected = plan_segments(seconds, segments, num_frames=16, clip=clip)
    assert plan.narration_id == expected.narration_id
    np.testing.assert_array_equal(plan.clips, expected.clips)
    np.testing.assert_array_equal(plan.clip_range, expected.clip_range)
    np.testing.assert_array_equal(plan.seconds, expected.seconds)


def test_segment_beyond_the_end_is_reported_with_its_times_and_the_videos_end():
    plan = plan_segments(np.arange(60) / 30, _segments([0.5, 1.5], [1.0, 7.25]), num_frames=4, clip=IMAGE)
    assert list(plan.beyond_end) == ["P01_01_1"]
    assert all(number in plan.beyond_end["P01_01_1"] for number in ("1.50", "7.25", "2.00"))


def test_segment_in_a_hole_of_the_video_is_reported_and_its_neighbours_are_not():
    seconds = np.concatenate([np.arange(60) / 30, 10 + np.arange(60) / 30])  # nothing from 2 to 10 s
    plan = plan_segments(seconds, _segments([0.5, 4.0, 10.5], [1.5, 8.0, 11.5]), num_frames=4, clip=IMAGE)
    assert plan.narration_id == ("P01_01_0", "P01_01_2")
    assert list(plan.in_gap) == ["P01_01_1"]


def test_only_segments_beyond_the_end_give_an_empty_plan():
    plan = plan_segments(np.arange(60) / 30, _segments([5.0], [7.0]), num_frames=4, clip=CLIP)
    assert len(plan.wanted) == 0
    assert plan.narration_id == ()


def test_end_0_013_s_past_the_video_is_no_failure():
    # P29_05_563, the one published segment that passes the end of its video.
    plan = plan_segments(np.arange(60) / 30, _segments([1.0], [2.013]), num_frames=4, clip=IMAGE)
    assert plan.narration_id == ("P01_01_0",)


@pytest.mark.parametrize("clip", [IMAGE, CLIP, SPREAD])
def test_video_of_one_frame_gives_that_frame(clip):
    plan = plan_segments(np.array([2.0]), _segments([1.9], [2.05]), num_frames=16, clip=clip)
    assert set(plan.clips.reshape(-1).tolist()) == {0}


def test_clip_at_the_start_repeats_the_first_frame():
    plan = plan_segments(np.arange(90) / 30, _segments([0.0], [0.2]), num_frames=16, clip=CLIP)
    # Centred at 0.1 s, 16 frames at 15 fps begin at 0.1 - 0.5 s: six lie before the first frame, one just after.
    assert plan.clips[0].tolist() == [0, 0, 0, 0, 0, 0, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18]


def test_frame_that_stays_long_is_chosen_by_time_and_not_by_count():
    seconds = np.array([0.0, 0.1, 0.2, 1.8, 1.9, 2.0])
    plan = plan_segments(seconds, _segments([0.0], [2.0]), num_frames=4, clip=IMAGE)  # 0.25, 0.75, 1.25, 1.75 s
    assert plan.clips[:, 0].tolist() == [2, 2, 3, 3]


# ---- frames of a clip that are spread over the segment


@given(videos_and_segments(), st.integers(1, 40))
def test_spread_clips_are_those_of_a_plain_slow_loop(example, num_frames):
    seconds, segments = example
    plan = plan_segments(seconds, segments, num_frames=num_frames, clip=SPREAD)
    num_clips = math.ceil(num_frames / 8)
    for name, clips in zip(plan.narration_id, plan.clip_range, strict=True):
        index = segments.narration_id.index(name)
        start_s, stop_s = segments.start_s[index], segments.stop_s[index]
        assert clips[1] - clips[0] == num_clips
        for number in range(num_clips * 8):
            moment = start_s + (stop_s - start_s) * (number + 0.5) / (num_clips * 8)
            frame = plan.clips[clips[0] + number // 8, number % 8]
            assert abs(seconds[frame] - moment) <= min(abs(seconds - moment)) + 1e-9


@given(videos_and_segments(), st.integers(1, 5))
def test_spread_clips_show_the_frames_that_an_image_backbone_sees(example, num_clips):
    seconds, segments = example
    plan, images = (plan_segments(seconds, segments, num_frames=8 * num_clips, clip=clip) for clip in (SPREAD, IMAGE))
    assert (plan.narration_id, plan.in_gap) == (images.narration_id, images.in_gap)
    np.testing.assert_array_equal(plan.clips.reshape(-1), images.clips.reshape(-1))


@given(st.floats(5, 20), st.floats(0.1, 20), st.integers(1, 40))
def test_steps_of_spread_clips_stand_in_the_middle_of_equal_parts_of_the_segment(start_s, length_s, num_frames):
    plan = plan_segments(
        np.arange(0, 50, 0.001), _segments([start_s], [start_s + length_s]), num_frames=num_frames, clip=SPREAD
    )
    middles = _parts(start_s, start_s + length_s, 4 * math.ceil(num_frames / 8))
    np.testing.assert_allclose(plan.seconds.reshape(-1), middles)


@given(st.integers(0, 500), st.integers(1, 500), st.sampled_from([25, 30, 50, 60]))
def test_spread_frames_are_those_of_the_authors_rules_to_one_frame(first, length, fps):
    # AVION, EgoHOD and EgoVideo: between neighbours of 17 even positions. TSM and InternVideo2: from ticks.
    segments = _segments([first / fps], [(first + length) / fps])
    clip = get("avion_vitb_epic").clip
    frames = plan_segments(np.arange(1200) / fps, segments, num_frames=16, clip=clip).clips[0]
    edges = np.linspace(first, first + length, 17)
    assert np.abs(frames - np.floor((edges[1:] + edges[:-1]) / 2)).max() <= 1
    ticks = first + np.array([int(length / 16 / 2 + length / 16 * number) for number in range(16)])
    assert np.abs(frames - ticks).max() <= 1


def test_segment_with_fewer_frames_than_a_spread_clip_repeats_them():
    plan = plan_segments(np.arange(90) / 30, _segments([1.0], [1.1]), num_frames=8, clip=SPREAD)
    # Moments from frame 30.1875 on, 0.375 frames apart; the segment ends with frame 33.
    assert plan.clips.tolist() == [[30, 31, 31, 31, 32, 32, 32, 33]]


def test_spread_clip_that_reaches_a_hole_of_the_video_is_reported():
    seconds = np.concatenate([np.arange(60) / 30, 10 + np.arange(60) / 30])  # nothing from 2 to 10 s
    segments = _segments([0.5, 0.1], [1.5, 3.9])  # the middle of the second one is beside a frame
    plan = plan_segments(seconds, segments, num_frames=8, clip=SPREAD)
    assert (plan.narration_id, list(plan.in_gap)) == (("P01_01_0",), ["P01_01_1"])


def test_clips_over_the_whole_video_keep_a_rate_where_those_of_segments_are_spread():
    seconds, segments = np.arange(0, 4, 0.1), _segments([1.0], [2.0])
    at_a_rate = ClipShape(num_frames=8, fps=4.0, num_steps=4)
    assert choose_sampling(16, 0.5, SPREAD) == choose_sampling(16, 0.5, at_a_rate)
    plan, expected = (plan_dense(seconds, segments, every_s=0.5, clip=clip) for clip in (SPREAD, at_a_rate))
    np.testing.assert_array_equal(plan.clips, expected.clips)


@pytest.mark.parametrize(("choice", "fps"), [(None, None), ("spread", None), ("4", 4.0), (7.5, 7.5)])
def test_choice_of_a_clip_is_recorded_as_its_rate(choice, fps):
    sampling = choose_sampling(8, None, choose_clip(choice, SPREAD, None))
    assert (sampling.clip_frames, sampling.clip_fps) == (8, fps)


def test_sets_from_before_clips_were_spread_are_continued_with_their_rate():
    before = Sampling("segment", clip_frames=16, steps_per_clip=16, num_frames=16, clip_fps=8.0)
    assert choose_sampling(16, None, choose_clip("8", get("avion_vitb_epic").clip, None)) == before


def test_clip_with_a_rate_can_be_spread_over_the_segment():
    plan = plan_segments(
        np.arange(90) / 30, _segments([0.0], [2.0]), num_frames=16, clip=choose_clip("spread", CLIP, None)
    )
    assert plan.seconds.tolist() == [[0.5, 1.5]]


@pytest.mark.parametrize("choice", ["0", "-8", "nan", "inf", "wide", "8fps", ""])
def test_clip_that_is_no_rate_is_a_wrong_option(choice):
    with pytest.raises(OptionError, match=r"^--clip: .*neither spread nor a number of frames per second above 0"):
        choose_clip(choice, CLIP, None)


def test_clip_cannot_be_spread_over_a_whole_video():
    with pytest.raises(OptionError, match="--clip: spread needs segments; with --every, give frames per second"):
        choose_clip("spread", CLIP, 0.2)
    assert choose_clip("8", SPREAD, 0.2) == ClipShape(num_frames=8, fps=8.0, num_steps=4)


@pytest.mark.parametrize("choice", ["spread", "8"])
def test_single_frames_have_no_clip_to_choose(choice):
    with pytest.raises(OptionError, match=r"--clip: .* single frames"):
        choose_clip(choice, IMAGE, None)


def test_sampling_is_recorded_with_the_clip_it_was_made_for():
    sampling = choose_sampling(32, None, CLIP)
    assert (sampling.kind, sampling.num_frames) == ("segment", 32)
    assert (sampling.clip_frames, sampling.clip_fps, sampling.steps_per_clip) == (16, 15.0, 2)


# ---- dense


@given(videos_and_segments(), st.sampled_from([0.05, 0.2, 1.0, 7.0]), SHAPES)
def test_dense_steps_lie_evenly_over_the_video(example, every_s, clip):
    seconds, segments = example
    plan = plan_dense(seconds, segments, every_s=every_s, clip=clip)
    assert plan.seconds.shape == plan.frame.shape == (len(plan.clips), 1)
    gaps = np.diff(plan.seconds[:, 0]) / every_s
    np.testing.assert_allclose(gaps, np.round(gaps), atol=1e-6)  # more than 1 where the video has a hole
    assert (gaps > 0.5).all()
    assert plan.seconds.min(initial=seconds[0]) >= seconds[0]


@given(videos_and_segments(), st.sampled_from([0.05, 0.2, 1.0]))
def test_dense_steps_are_those_of_a_plain_slow_loop(example, every_s):
    seconds, segments = example
    plan = plan_dense(seconds, segments, every_s=every_s, clip=IMAGE)
    interval = np.median(np.diff(seconds)) if len(seconds) > 1 else 0
    expected, number = [], 0
    while not expected or seconds[0] + (number + 0.5) * every_s < seconds[-1] + interval - 1e-9:
        centre = seconds[0] + (number + 0.5) * every_s
        nearest = int(np.abs(seconds - centre).argmin())
        if abs(seconds[nearest] - centre) <= 1.0:
            expected.append(nearest)
        elif not number:
            break
        number += 1
    assert len(plan.clips) - len(expected) in (0, 1)  # whether the last centre lies within is a matter of rounding
    assert plan.clips[: len(expected), 0].tolist() == expected


@given(videos_and_segments(), st.sampled_from([0.05, 0.2, 1.0]))
def test_dense_clips_of_a_segment_cover_it(example, every_s):
    seconds, segments = example
    plan = plan_dense(seconds, segments, every_s=every_s, clip=IMAGE)
    for name, (first, stop) in zip(plan.narration_id, plan.clip_range, strict=True):
        index = segments.narration_id.index(name)
        centres = plan.seconds[first:stop, 0]
        assert centres[0] - every_s / 2 <= segments.start_s[index] + 1e-6
        # At the end of the video up to half a part has no clip of its own.
        assert centres[-1] + every_s + 0.1 >= segments.stop_s[index] - 1e-6
        assert (np.diff(centres) < 1.5 * every_s).all()


def test_dense_segments_in_a_hole_and_beyond_the_end_are_named():
    seconds = np.concatenate([np.arange(0, 4, 0.1), np.arange(9, 12, 0.1)])
    segments = _segments([1.0, 3.5, 6.0, 9.5, 11.0], [2.0, 6.0, 7.0, 10.5, 13.0])
    plan = plan_dense(seconds, segments, every_s=0.5, clip=IMAGE)
    assert plan.narration_id == ("P01_01_0", "P01_01_3")
    assert (set(plan.in_gap), set(plan.beyond_end)) == ({"P01_01_1", "P01_01_2"}, {"P01_01_4"})
    assert len(plan.clips) == 24 - 6  # those from 5.25 to 7.75 are lost
    assert ((plan.seconds < 5) | (plan.seconds > 8)).all()


def test_dense_sampling_is_planned_as_it_is_recorded():
    seconds = np.arange(0, 4, 0.1)
    segments = _segments([1.0], [2.0])
    sampling = choose_sampling(16, 0.5, CLIP)
    assert (sampling.kind, sampling.every_s, sampling.steps_per_clip, sampling.num_frames) == ("dense", 0.5, 1, None)
    plan, expected = (
        plan_video(seconds, segments, sampling, CLIP),
        plan_dense(seconds, segments, every_s=0.5, clip=CLIP),
    )
    np.testing.assert_array_equal(plan.clips, expected.clips)


@pytest.mark.parametrize("every_s", [0.0, -1.0, math.nan, math.inf])
def test_step_that_is_no_time_is_a_wrong_option(every_s):
    with pytest.raises(OptionError, match="--every"):
        choose_sampling(16, every_s, IMAGE)
