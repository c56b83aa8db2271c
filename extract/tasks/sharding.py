"""Which videos each task of a job array does: the same on every call, from the annotations alone. Knows no SLURM.

What is already done does not change the shares, so any task can be run again alone, and any number of tasks can finish
what others began.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from extract.backbone_input import ClipShape
from extract.backbones import get
from extract.backbones.tokens import choose_tokens
from extract.regions.crops import num_regions
from extract.sampling import choose_clip, choose_sampling, frames_per_segment
from extract.views import choose_views
from features.annotations import Segments, read_all_segments
from features.dealing import deal
from features.featureset import Sampling

# Frames to decode per second of video: all 50 for a dense set; 22 of 50 at 16 frames per segment, as measured with
# `make bench` (needed packets: 13,139 of 30,000 in ten minutes).
DECODED_PER_S = {"segment": 22, "dense": 50}


@dataclass(frozen=True)
class Share:
    """What one task of an array does; its expected cost is in frames."""

    videos: int
    segments: int
    cost: int


def expected_costs(segments: Segments, sampling: Sampling, clip: ClipShape, *, num_looks: int = 1) -> dict[str, int]:
    """Return each video's expected cost: frames that are decoded plus frames that the backbone sees.

    `num_looks` is how often it sees a clip: once for each region of each view.

    A video counts as ending with its last segment, because its own length is only known once its file is read.
    """
    costs = {}
    for video_id, rows in segments.by_video():
        length_s = float(rows.table.stop_s.max())
        if sampling.kind == "dense":
            assert sampling.every_s is not None
            num_clips = math.ceil(length_s / sampling.every_s)
        else:
            assert sampling.num_frames is not None
            num_clips = len(rows) * -(-sampling.num_frames // clip.num_frames)
        costs[video_id] = round(length_s * DECODED_PER_S[sampling.kind]) + num_looks * num_clips * clip.num_frames
    return costs


def deal_videos(
    segments: Segments, sampling: Sampling, clip: ClipShape, num_tasks: int, *, num_looks: int = 1
) -> list[list[str]]:
    """Return the videos of each task, dealt so that the expected costs are even."""
    costs = expected_costs(segments, sampling, clip, num_looks=num_looks)
    videos = sorted(costs)
    return [[videos[index] for index in task] for task in deal([costs[video] for video in videos], num_tasks)]


def shares(
    segments: Segments, sampling: Sampling, clip: ClipShape, num_tasks: int, *, num_looks: int = 1
) -> list[Share]:
    """Return the share of each task, as `deal_videos` deals them."""
    costs = expected_costs(segments, sampling, clip, num_looks=num_looks)
    num_segments = segments.table.video_id.value_counts()
    return [
        Share(len(videos), sum(int(num_segments[video]) for video in videos), sum(costs[video] for video in videos))
        for videos in deal_videos(segments, sampling, clip, num_tasks, num_looks=num_looks)
    ]


def segments_of_task(
    segments: Segments, sampling: Sampling, clip: ClipShape, shard: tuple[int, int], *, num_looks: int = 1
) -> Segments | None:
    """Return the segments of one task's videos, or None if there are more tasks than videos and it has none."""
    task, num_tasks = shard
    own = deal_videos(segments, sampling, clip, num_tasks, num_looks=num_looks)[task]
    mask = segments.table.video_id.isin(own).to_numpy()
    return segments.where(mask) if mask.any() else None


def expected_shares(
    annotations: Sequence[Path],
    *,
    backbone: str,
    frames: int | None,
    every: float | None,
    clip: str | float | None,
    tokens: str | None,
    layers: str | None,
    views: str,
    regions: str | None = None,
    num_tasks: int,
) -> list[Share]:
    """Return the share of each task of an extraction, from its annotations alone; arguments as for `extract.run`."""
    entry = get(backbone)
    choose_tokens(tokens, layers, entry)  # what no task could do is refused here as well
    num_looks = len(choose_views(views, entry.preprocess)) * num_regions(regions)
    shape = choose_clip(clip, entry.clip, every)
    sampling = choose_sampling(frames_per_segment(frames, every), every, shape)
    return shares(read_all_segments(annotations), sampling, shape, num_tasks, num_looks=num_looks)
