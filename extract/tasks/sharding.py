"""Which videos each task of an array does: the same on every call, from the annotations alone. Knows no SLURM.

What is done already is left out of the reckoning on purpose: so any task can be run again alone, and as many tasks as
one likes can finish what others began.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from extract.sampling import ClipShape
from features.annotations import Segments
from features.dealing import deal
from features.featureset import Sampling

# What must be decoded of a second of video: all frames for a dense set; of 16 frames a segment 22 of 50, as measured
# with `make bench` (needed packets: 13,139 of 30,000 in ten minutes).
_DECODED_PER_S = {"segment": 22, "dense": 50}


@dataclass(frozen=True)
class Share:
    """What one task of an array is dealt; its expected cost is in frames."""

    videos: int
    segments: int
    cost: int


def expected_costs(segments: Segments, sampling: Sampling, clip: ClipShape) -> dict[str, int]:
    """Give each video's expected cost in frames that are decoded and frames that the backbone sees.

    A video is taken to end with its last segment, as its own length is only known once its file is read.
    """
    costs = {}
    for video_id, rows in segments.by_video():
        length_s = float(rows.table.stop_s.max())
        if sampling.kind == "dense":
            num_clips = math.ceil(length_s / sampling.every_s)
        else:
            num_clips = len(rows) * -(-sampling.num_frames // clip.num_frames)
        costs[video_id] = round(length_s * _DECODED_PER_S[sampling.kind]) + num_clips * clip.num_frames
    return costs


def deal_videos(segments: Segments, sampling: Sampling, clip: ClipShape, num_tasks: int) -> list[list[str]]:
    """Give the videos of each task, by expected cost."""
    costs = expected_costs(segments, sampling, clip)
    videos = sorted(costs)
    return [[videos[index] for index in task] for task in deal([costs[video] for video in videos], num_tasks)]


def shares(segments: Segments, sampling: Sampling, clip: ClipShape, num_tasks: int) -> list[Share]:
    """Give the share of each task, as `deal_videos` deals them."""
    costs, num_segments = expected_costs(segments, sampling, clip), segments.table.video_id.value_counts()
    return [
        Share(len(videos), sum(int(num_segments[video]) for video in videos), sum(costs[video] for video in videos))
        for videos in deal_videos(segments, sampling, clip, num_tasks)
    ]


def of_shard(segments: Segments, sampling: Sampling, clip: ClipShape, shard: tuple[int, int]) -> Segments | None:
    """Give the segments of one task's videos; None where there are more tasks than videos and it has none."""
    task, num_tasks = shard
    mask = segments.table.video_id.isin(deal_videos(segments, sampling, clip, num_tasks)[task]).to_numpy()
    return segments.where(mask) if mask.any() else None
