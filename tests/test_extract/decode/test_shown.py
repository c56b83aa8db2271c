"""Pictures are put into the order of showing, and each is given a time, whatever times the packets have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.decode.packets import Packets
from extract.decode.shown import Decoded, TimesError, order_of, ranked

NAN = float("nan")


@st.composite
def streams(draw) -> tuple[Decoded, np.ndarray, np.ndarray]:
    """What a decoder does with a stream, the right times of its packets, and which packets give a picture or should."""
    num = draw(st.integers(1, 60))
    steps = draw(st.lists(st.integers(1, 9), min_size=num, max_size=num))
    of_rank = np.cumsum(steps) / 30
    # Each picture is decoded at most a few pictures before it is shown.
    rank = np.argsort(np.arange(num) + draw(st.lists(st.floats(0, 5), min_size=num, max_size=num)), kind="stable")
    kinds = draw(
        st.lists(st.sampled_from(["shown", "shown", "shown", "hidden", "damaged"]), min_size=num, max_size=num)
    )
    times = np.empty(num)
    times[rank] = of_rank
    order = rank.tolist()
    decoded = Decoded(
        shown=tuple(packet for packet in order if kinds[packet] == "shown"),
        damaged=tuple(packet for packet in range(num) if kinds[packet] == "damaged"),
    )
    return decoded, times, np.array([packet for packet in order if kinds[packet] != "hidden"], dtype=np.int64)


@given(streams())
def test_right_times_are_kept_and_give_the_order(stream):
    decoded, times, expected = stream
    if not len(expected):
        with pytest.raises(TimesError):
            order_of(decoded, times)
        return
    order, seconds = order_of(decoded, times)
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(seconds, times[expected])


@settings(max_examples=50)
@given(streams(), st.randoms(use_true_random=False))
def test_times_that_are_swapped_or_missing_leave_the_order_of_showing(stream, random):
    decoded, times, _ = stream
    times = times.copy()
    for index in range(len(times) - 1):
        if random.random() < 0.3:
            times[[index, index + 1]] = times[[index + 1, index]]
        if random.random() < 0.2:
            times[index] = NAN
    try:
        order, seconds = order_of(decoded, times)
    except TimesError:
        return
    assert [packet for packet in order.tolist() if packet in decoded.shown] == list(decoded.shown)
    assert (np.diff(seconds[np.isfinite(seconds)]) > 0).all()


@given(streams(), st.data())
def test_one_wrong_time_costs_no_other_picture_its_own(stream, data):
    decoded, times, expected = stream
    if len(decoded.shown) < 7 or decoded.damaged:
        return
    index = data.draw(st.integers(2, len(decoded.shown) - 3))
    wrong = times.copy()
    wrong[decoded.shown[index]] += data.draw(st.sampled_from([-3600.0, 3600.0]))
    sent = times[np.sort(expected)]
    if (np.diff(sent) >= 0).all() and (np.diff(wrong[np.sort(expected)]) >= 0).all():
        return
    order, seconds = order_of(decoded, wrong)
    np.testing.assert_array_equal(order, expected)
    others = np.arange(len(expected)) != index
    np.testing.assert_array_equal(seconds[others], times[expected][others])
    assert seconds[index - 1] < seconds[index] < seconds[index + 1]


def test_times_of_decoding_become_those_of_showing():
    # I0 P3 B1 B2: each packet carries the time at which it is decoded.
    order, seconds = order_of(Decoded(shown=(0, 2, 3, 1), damaged=()), np.array([0.0, 1.0, 2.0, 3.0]))
    assert order.tolist() == [0, 2, 3, 1]
    assert seconds.tolist() == [0, 1, 2, 3]


def test_pictures_without_times_are_spread_between_those_that_have_one():
    _, seconds = order_of(Decoded(shown=(0, 1, 2, 3, 4), damaged=()), np.array([1.0, NAN, NAN, 4.0, NAN]))
    assert seconds.tolist() == [1, 2, 3, 4, 5]


def test_two_pictures_at_one_time_are_two_frames():
    _, seconds = order_of(Decoded(shown=(0, 1, 2), damaged=()), np.array([0.0, 0.0, 1.0]))
    assert 0 == seconds[0] < seconds[1] < 1e-9


def test_second_picture_of_a_packet_is_no_frame_of_its_own():
    order, _ = order_of(Decoded(shown=(0, 1, 1, 2), damaged=()), np.arange(3.0))
    assert order.tolist() == [0, 1, 2]


def test_times_that_begin_anew_are_refused():
    times = np.concatenate([np.arange(50.0), np.arange(50.0)])
    with pytest.raises(TimesError, match=r"jump back near \d+\.00 s"):
        order_of(Decoded(tuple(range(100)), ()), times)


def test_stream_without_times_is_refused():
    with pytest.raises(TimesError, match="no frames with a presentation time"):
        order_of(Decoded((0, 1), ()), np.array([NAN, NAN]))


@given(streams())
def test_ranks_tell_all_packets_apart(stream):
    _, times, expected = stream
    num = len(times)
    all_true = np.ones(num, dtype=bool)
    packets = ranked(Packets(np.arange(num), all_true, all_true, all_true, proven=False), expected)
    assert packets.pts[expected].tolist() == list(range(len(expected)))
    assert len(np.unique(packets.pts)) == num
    assert np.flatnonzero(packets.is_shown).tolist() == sorted(expected.tolist())
