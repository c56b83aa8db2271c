"""Which videos each task of an array does: the same on every call, from the annotations alone. Knows no SLURM.

What is done already is left out of the reckoning on purpose: so any task can be run again alone, and as many tasks as
one likes can finish what others began.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from extract.sampling import ClipShape
from features.annotations import Segments
from features.errors import OptionError
from features.featureset import Sampling

_SHARD = re.compile(r"(\d{1,6})/(\d{1,6})")
# What must be decoded of a second of video: all frames for a dense set; of 16 frames a segment 22 of 50, as measured
# with `make bench` (needed packets: 13,139 of 30,000 in ten minutes).
_DECODED_PER_S = {"segment": 22, "dense": 50}


@dataclass(frozen=True)
class Share:
    """What one task of an array is dealt; its expected cost is in frames."""

    videos: int
    segments: int
    cost: int


def parse_shard(text: str) -> tuple[int, int]:
    """Give task and number of tasks of "I/N", counted from 0.

    Raises:
        OptionError: it is not of that form, or there is no such task.
    """
    match = _SHARD.fullmatch(text)
    if match is None or not int(match[1]) < int(match[2]):
        raise OptionError("--shard", f"{text!r} is not TASK/TASKS with a task from 0 to TASKS - 1, such as 0/8.")
    return int(match[1]), int(match[2])


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


def deal(costs: Sequence[int], num_tasks: int) -> list[np.ndarray]:
    """Deal things to tasks so that their costs are even: the costliest first, each to the task with the least so far.

    R. L. Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 1969: at most 4/3 of the best.

    Returns:
        For each task the indices of its things, ascending.

    >>> deal([5, 4, 3, 3], 2)
    [array([0, 3]), array([1, 2])]
    """
    tasks: list[list[int]] = [[] for _ in range(num_tasks)]
    least = [(0, task) for task in range(num_tasks)]  # a heap
    for index in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        so_far, task = heapq.heappop(least)
        tasks[task].append(index)
        heapq.heappush(least, (so_far + costs[index], task))
    return [np.array(sorted(task), dtype=np.int64) for task in tasks]
