"""Every video is dealt to one task, evenly, and the same way on every call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from annotate import annotate
from hypothesis import given
from hypothesis import strategies as st

from extract.backbones import get
from extract.sampling import choose_sampling
from extract.tasks.sharding import deal_videos, expected_costs, segments_of_task, shares
from features.annotations import Segments, read_all_segments, read_segments

EPIC = Path(__file__).resolve().parents[4] / "shared" / "epic100"
IMAGE, VIDEOMAE = get("resnet50").clip, get("videomae").clip


@pytest.fixture
def segments(tmp_path) -> Segments:
    """Five videos of 10, 20, .. 50 s with a segment every 5 s."""
    times = {
        f"P01_{video:02}_{start // 5}": (float(start), start + 4.0)
        for video in range(1, 6)
        for start in range(0, 10 * video, 5)
    }
    return read_segments(annotate(tmp_path / "segments.csv", times))


@given(num_tasks=st.integers(1, 9))
def test_every_segment_is_dealt_to_one_task(segments_once, num_tasks):
    sampling = choose_sampling(16, None, VIDEOMAE)
    shards = [segments_of_task(segments_once, sampling, VIDEOMAE, (task, num_tasks)) for task in range(num_tasks)]
    narration_ids = [name for shard in shards if shard is not None for name in shard.narration_id]
    assert sorted(narration_ids) == sorted(segments_once.narration_id)


@pytest.fixture(scope="module")
def segments_once(tmp_path_factory) -> Segments:
    times = {f"P01_{video:02}_0": (0.0, 1.0 + video) for video in range(7)}
    return read_segments(annotate(tmp_path_factory.mktemp("annotations") / "segments.csv", times))


def test_task_beyond_the_videos_has_nothing_to_do(segments):
    sampling = choose_sampling(16, None, IMAGE)
    assert sum(segments_of_task(segments, sampling, IMAGE, (task, 8)) is None for task in range(8)) == 3


def test_order_of_the_annotations_does_not_matter(segments):
    reversed_segments = Segments(segments.table.iloc[::-1].reset_index(drop=True), segments.source)
    sampling = choose_sampling(16, None, IMAGE)
    assert deal_videos(segments, sampling, IMAGE, 3) == deal_videos(reversed_segments, sampling, IMAGE, 3)


def test_cost_is_frames_decoded_and_frames_seen(segments):
    # 4 segments end at 19 s: 22 frames a second to decode, and for each a clip of 16.
    costs = expected_costs(segments, choose_sampling(16, None, VIDEOMAE), VIDEOMAE)
    assert costs["P01_02"] == 19 * 22 + 4 * 16
    # Dense, every frame and a clip every half second.
    costs = expected_costs(segments, choose_sampling(16, 0.5, VIDEOMAE), VIDEOMAE)
    assert costs["P01_02"] == 19 * 50 + 38 * 16


@given(num_tasks=st.integers(1, 9))
def test_shares_are_what_each_task_is_dealt(segments_once, num_tasks):
    sampling = choose_sampling(16, None, VIDEOMAE)
    costs = expected_costs(segments_once, sampling, VIDEOMAE)
    for task, share in enumerate(shares(segments_once, sampling, VIDEOMAE, num_tasks)):
        task_segments = segments_of_task(segments_once, sampling, VIDEOMAE, (task, num_tasks))
        videos = set() if task_segments is None else set(task_segments.table.video_id)
        assert (share.videos, share.segments) == (len(videos), 0 if task_segments is None else len(task_segments))
        assert share.cost == sum(costs[video] for video in videos)


@pytest.mark.skipif(not EPIC.is_dir(), reason="the published annotation files are not there")
@pytest.mark.parametrize("num_tasks", [2, 8, 16, 32])
@pytest.mark.parametrize("every_s", [None, 0.2])
def test_published_annotations_are_dealt_evenly_to_5_percent(num_tasks, every_s):
    files = ("EPIC_100_train.csv.gz", "EPIC_100_validation.csv", "EPIC_100_test_timestamps.csv")
    segments = read_all_segments([EPIC / name for name in files])
    sampling = choose_sampling(16, every_s, VIDEOMAE)
    costs = expected_costs(segments, sampling, VIDEOMAE)
    loads = [sum(costs[video] for video in task) for task in deal_videos(segments, sampling, VIDEOMAE, num_tasks)]
    assert max(loads) < 1.05 * np.mean(loads)
