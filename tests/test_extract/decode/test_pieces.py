"""A video cut into pieces: every clip once, pieces of even work, nothing cut that cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from extract.decode.packets import Packets, needed_packets
from extract.decode.pieces import pieces


@st.composite
def videos_and_clips(draw) -> tuple[Packets, np.ndarray, np.ndarray]:
    """A stream of closed groups without B-frames, its time stamps, and clips over it."""
    gop, num_packets = draw(st.integers(1, 40)), draw(st.integers(1, 400))
    pts = np.arange(num_packets) * draw(st.integers(1, 1000))
    is_key = np.arange(num_packets) % gop == 0
    all_true = np.ones(num_packets, dtype=bool)
    packets = Packets(pts, is_shown=all_true, is_key=is_key, is_reference=all_true, proven=draw(st.booleans()))
    length = draw(st.integers(1, 5))
    starts = draw(st.lists(st.integers(0, num_packets - 1), max_size=60))
    clips = np.array(starts, dtype=np.int64).reshape(-1, 1) + np.arange(length) * draw(st.integers(0, 20))
    return packets, pts, np.minimum(clips, num_packets - 1)


@given(videos_and_clips(), st.integers(1, 100))
def test_every_clip_is_in_one_piece(example, num_packets):
    packets, pts, clips = example
    all_pieces = pieces(packets, pts, clips, num_packets=num_packets)
    assert all(len(piece) for piece in all_pieces)
    assert sorted(np.concatenate([np.empty(0, int), *all_pieces]).tolist()) == list(range(len(clips)))


@given(videos_and_clips(), st.integers(1, 100))
def test_clips_of_a_piece_are_by_their_last_frame(example, num_packets):
    packets, pts, clips = example
    for piece in pieces(packets, pts, clips, num_packets=num_packets):
        assert (np.diff(clips[piece, -1]) >= 0).all()


@given(videos_and_clips(), st.integers(1, 100))
def test_image_pieces_decode_no_packet_twice(example, num_packets):
    packets, pts, clips = example
    clips = clips[:, :1]
    masks = [
        needed_packets(packets, pts[np.unique(clips[piece])])
        for piece in pieces(packets, pts, clips, num_packets=num_packets)
    ]
    assert sum(mask.sum() for mask in masks) == needed_packets(packets, pts[np.unique(clips)]).sum()


@given(videos_and_clips(), st.integers(1, 100))
def test_what_is_not_proven_is_not_cut(example, num_packets):
    packets, pts, clips = example
    all_pieces = pieces(replace(packets, proven=False), pts, clips, num_packets=num_packets)
    assert len(all_pieces) == (1 if len(clips) else 0)


def test_long_video_is_cut_into_pieces_of_even_work():
    num = 10_000
    all_true = np.ones(num, dtype=bool)
    packets = Packets(np.arange(num), all_true, np.arange(num) % 50 == 0, all_true, proven=True)
    clips = np.arange(0, num, 7).reshape(-1, 1)
    all_pieces = pieces(packets, packets.pts, clips, num_packets=1000)
    work = [int(needed_packets(packets, clips[piece, 0]).sum()) for piece in all_pieces]
    assert len(all_pieces) in (9, 10)
    assert all(1000 <= num_decoded <= 1100 for num_decoded in work[:-1])
