"""A long video cut into pieces that can be decoded apart, so that no worker is left alone with one. Pure arithmetic.

packets   K . . . . K . . . . K . . . . K . . . .
clips       --- ---   ---  ----   ---      ---        a clip belongs to the piece in which it begins, so the
pieces    |         1         |         2       |     end of one is at times decoded for two pieces
"""

from __future__ import annotations

import numpy as np

from extract.decode.packets import Packets, needed

# About a third of a second of decoding; beginning a piece costs some milliseconds.
PIECE_PACKETS = 1000


def pieces(
    packets: Packets, pts: np.ndarray, clips: np.ndarray, *, num_packets: int = PIECE_PACKETS
) -> list[np.ndarray]:
    """Cut a video where decoding can begin anew.

    Args:
        pts: (F,) int64 time stamps of the video's frames, ascending.
        clips: (C, L) int64 frame numbers, ascending within a clip.
        num_packets: to be decoded for a piece, at least.

    Returns:
        For each piece the numbers of its clips, of which there is at least one, by their last frame.
    """
    order = np.argsort(clips[:, -1], kind="stable")
    if not packets.proven or not len(order):
        return [order] if len(order) else []
    keys = np.flatnonzero(packets.is_key)
    work = np.cumsum(needed(packets, pts[np.unique(clips)]))[keys]  # packets decoded up to each key packet
    starts = [packets.pts[keys[0]]]
    done = 0
    for key, work_before in zip(keys[1:], work[1:], strict=True):
        if work_before - done >= num_packets:
            starts.append(packets.pts[key])
            done = work_before
    number = np.searchsorted(starts, pts[clips[order, 0]], side="right")
    return [order[number == piece] for piece in np.unique(number)]
