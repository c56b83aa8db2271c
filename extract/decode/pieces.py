"""Cut a long video into pieces that workers decode independently, so that all workers stay busy. Pure arithmetic.

packets   K . . . . K . . . . K . . . . K . . . .
clips       --- ---   ---  ----   ---      ---        a clip belongs to the piece in which it begins, so the
pieces    |         1         |         2       |     packets around a cut are sometimes decoded for both pieces
"""

from __future__ import annotations

import numpy as np

from extract.decode.packets import Packets, needed_packets

# About a third of a second of decoding; starting a piece costs some milliseconds.
PIECE_PACKETS = 1000


def pieces(
    packets: Packets, pts: np.ndarray, clips: np.ndarray, *, num_packets: int = PIECE_PACKETS
) -> list[np.ndarray]:
    """Return the pieces of a video, cut where decoding can begin.

    Args:
        pts: (F,) int64 time stamps of the video's frames, ascending.
        clips: (C, L) int64 frame numbers, ascending within a clip.
        num_packets: the least number of packets to be decoded per piece.

    Returns:
        Per piece the numbers of its clips, at least one, in the order of their last frames.
    """
    order = np.argsort(clips[:, -1], kind="stable")
    if not packets.proven or not len(order):
        return [order] if len(order) else []
    keys = np.flatnonzero(packets.is_key)
    work = np.cumsum(needed_packets(packets, pts[np.unique(clips)]))[keys]  # packets decoded up to each key packet
    starts = [packets.pts[keys[0]]]
    done = 0
    for key, work_before in zip(keys[1:], work[1:], strict=True):
        if work_before - done >= num_packets:
            starts.append(packets.pts[key])
            done = work_before
    piece_of_clip = np.searchsorted(starts, pts[clips[order, 0]], side="right")
    return [order[piece_of_clip == piece] for piece in np.unique(piece_of_clip)]
