"""Windows of segments: the rows that a plain loop over all steps finds, and nothing of any other segment."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.intervals import SegmentTimes
from features.windows import Windows, windows_by_segment, windows_by_time


def times_of(segments: list[tuple[str, float, float]]) -> SegmentTimes:
    names, start_s, stop_s = zip(*segments, strict=True)
    return SegmentTimes(names, np.array(start_s, dtype=float), np.array(stop_s, dtype=float))


def rows_of(windows: Windows, segment: int) -> tuple[list[int], list[int]]:
    """The rows of the file in a segment's window, and in its own part of that."""
    edges = [windows.first, windows.stop, windows.inner_first, windows.inner_stop]
    first, stop, inner_first, inner_stop = (edge[segment] for edge in edges)
    assert first <= inner_first < inner_stop <= stop
    return windows.rows[first:stop].tolist(), windows.rows[inner_first:inner_stop].tolist()


# ---- sets by segment


@st.composite
def stored_segments(draw: st.DrawFn) -> tuple[list[tuple[str, float, float]], list[int], list[int]]:
    """Segments of a file in any order, many starting together; their lengths; and which of them are asked for."""
    count = draw(st.integers(1, 8))
    starts = draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    durations = draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    names = draw(st.permutations([f"P01_01_{index}" for index in range(count)]))
    segments = [(name, start, start + duration) for name, start, duration in zip(names, starts, durations, strict=True)]
    lengths = draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    requested = draw(st.lists(st.sampled_from(range(count)), min_size=1, max_size=count, unique=True))
    return segments, lengths, requested


@given(stored_segments(), st.integers(0, 4))
def test_window_is_the_segment_and_its_neighbours_by_start(example, neighbours):
    segments, lengths, requested = example
    offset = np.cumsum([0, *lengths])
    windows = windows_by_segment(
        times_of(segments), offset, times_of([segments[index] for index in requested]), neighbours=neighbours
    )
    by_start = sorted(range(len(segments)), key=lambda index: (*segments[index][1:], segments[index][0]))
    for position, index in enumerate(requested):
        rank = by_start.index(index)
        rows_inside = by_start[max(0, rank - neighbours) : rank + neighbours + 1]
        window = [row for segment in rows_inside for row in range(offset[segment], offset[segment + 1])]
        assert rows_of(windows, position) == (window, list(range(offset[index], offset[index + 1])))


@given(stored_segments())
def test_without_neighbours_only_the_rows_of_segments_asked_for_are_kept(example):
    segments, lengths, requested = example
    offset = np.cumsum([0, *lengths])
    windows = windows_by_segment(times_of(segments), offset, times_of([segments[index] for index in requested]))
    expected = [row for index in requested for row in range(offset[index], offset[index + 1])]
    assert sorted(windows.rows.tolist()) == sorted(expected)


def test_neighbours_that_are_not_asked_for_are_seen_as_context():
    segments = times_of([("late", 4, 5), ("early", 0, 1), ("middle", 2, 3)])
    windows = windows_by_segment(segments, np.array([0, 2, 3, 5]), times_of([("middle", 2, 3)]), neighbours=1)
    assert rows_of(windows, 0) == ([2, 3, 4, 0, 1], [3, 4])


def test_a_video_of_one_step_has_one_window():
    times = times_of([("only", 0, 1)])
    windows = windows_by_segment(times, np.array([0, 1]), times, neighbours=3)
    assert rows_of(windows, 0) == ([0], [0])


# ---- dense sets

# Quarters of a second are exact in binary, so that steps often lie on the very end of a segment.
quarters = st.integers(0, 40).map(lambda count: count / 4)
steps = st.lists(quarters, min_size=1, max_size=25, unique=True).map(lambda seconds: np.array(sorted(seconds)))
intervals = st.lists(
    st.tuples(quarters, st.integers(1, 12)).map(lambda interval: ("name", interval[0], interval[0] + interval[1] / 4)),
    min_size=1,
    max_size=6,
)


def rows_inside(seconds: np.ndarray, start_s: float, stop_s: float) -> list[int]:
    """The rows in a closed interval, by a plain loop."""
    return [row for row, second in enumerate(seconds) if start_s <= second <= stop_s]


@given(steps, intervals)
def test_segment_has_the_steps_in_its_closed_interval(seconds, segments):
    windows = windows_by_time(seconds, times_of(segments))
    for index, (_, start_s, stop_s) in enumerate(segments):
        expected = rows_inside(seconds, start_s, stop_s)
        if expected:
            assert rows_of(windows, index) == (expected, expected)


@given(steps, intervals)
def test_segment_without_a_step_has_the_one_nearest_to_its_middle(seconds, segments):
    windows = windows_by_time(seconds, times_of(segments))
    for index, (_, start_s, stop_s) in enumerate(segments):
        if not rows_inside(seconds, start_s, stop_s):
            distance = np.abs(seconds - (start_s + stop_s) / 2)
            (row,) = rows_of(windows, index)[1]
            assert distance[row] == distance.min()


@given(steps, intervals, quarters)
def test_context_is_what_lies_around_and_leaves_the_segment_as_it_is(seconds, segments, context_s):
    windows = windows_by_time(seconds, times_of(segments), context_s=context_s)
    without_context = windows_by_time(seconds, times_of(segments))
    for index, (_, start_s, stop_s) in enumerate(segments):
        window, inner_rows = rows_of(windows, index)
        assert inner_rows == rows_of(without_context, index)[1]
        context_rows = rows_inside(seconds, start_s - context_s, stop_s + context_s)
        first, last = min([*context_rows, *inner_rows]), max([*context_rows, *inner_rows])
        assert window == list(range(first, last + 1))


@given(steps, intervals)
def test_all_steps_of_a_dense_video_are_kept(seconds, segments):
    assert windows_by_time(seconds, times_of(segments)).rows.tolist() == list(range(len(seconds)))


def test_a_dense_video_of_one_step_gives_it_to_every_segment():
    segments = times_of([("before", 0, 1), ("there", 1, 3), ("after", 5, 6)])
    windows = windows_by_time(np.array([2.0]), segments, context_s=1.0)
    assert [rows_of(windows, index) for index in range(3)] == [([0], [0])] * 3
