"""Clips reach the backbone with their own frames, whatever the workers, batches and faults; memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from encode import damage_packet, write_video
from torch import nn

from extract.backbone_input import ClipShape, Preprocess
from extract.backbones.networks.clip_network import ClipNetwork, LayerTokens
from extract.backbones.networks.pooling import map_tokens
from extract.clips import ClipFeatures, Request
from extract.decode.decoders import Decoders
from extract.forward import Forward, choose_precision
from extract.pipeline import Pipeline, WaitTimes
from extract.sampling import plan_dense, plan_segments
from features.errors import OptionError
from features.intervals import SegmentTimes

CPU = torch.device("cpu")


class _Reader(ClipNetwork):
    """Average each block of 16 x 16 pixels: (B, 3, L, 48, 64) -> L steps of 12: enough to read the frame number."""

    def __init__(self) -> None:
        super().__init__(nn.AvgPool3d((1, 16, 16)))

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        return (LayerTokens(self.network(x).mean(dim=1).flatten(2)[:, :, None, None]),)


_UNSCALED = Preprocess(resize=(48, 64), crop=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def _run(
    videos: dict[str, Path],
    plan: Callable,
    decoders: Decoders,
    *,
    batch_size: int = 8,
    dim: int = 12,
    network: ClipNetwork | None = None,
    on_clips: Callable[[str, int, int], None] = lambda *_: None,
) -> dict[str, ClipFeatures]:
    pipeline = Pipeline(
        Forward(network or _Reader(), _UNSCALED, CPU, "float32"),
        preprocess=_UNSCALED,
        dim=dim,
        device=CPU,
        batch_size=batch_size,
        wait_times=WaitTimes(),
        on_clips=on_clips,
    )
    requests = (Request(video_id, path, plan) for video_id, path in videos.items())
    return {result.video_id: result for result in pipeline.run(requests, decoders)}


def _numbers(result: ClipFeatures) -> np.ndarray:
    """Return the frame number painted in each frame of each clip, (C, L)."""
    return (result.steps[:, :, 0] > 0.5) @ 2 ** np.arange(12)


def _segments(num: int, stop_s: float) -> SegmentTimes:
    rng = np.random.default_rng(0)
    start_s = rng.uniform(0, stop_s - 0.5, num)
    return SegmentTimes(tuple(f"P01_101_{n}" for n in range(num)), start_s, start_s + rng.uniform(0.01, 0.5, num))


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """A video of several pieces."""
    return write_video(tmp_path_factory.mktemp("videos") / "P01_101.mp4", num_frames=3000, fps=50, gop=40)


SHAPES = [ClipShape(), ClipShape(4, 10.0, 4), ClipShape(16, 15.0, 16)]


@pytest.mark.parametrize("clip", SHAPES, ids=["1", "4", "16"])
def test_every_clip_gets_its_own_frames_in_their_order(video, decoders, clip):
    segments = _segments(300, 60.0)
    result = _run({"a": video}, lambda seconds: plan_segments(seconds, segments, num_frames=20, clip=clip), decoders)[
        "a"
    ]
    assert not result.failures
    np.testing.assert_array_equal(_numbers(result), result.plan.clips)


def test_every_frame_of_a_dense_plan_is_its_own(video, decoders):
    no_segments = SegmentTimes((), np.zeros(0), np.zeros(0))
    clip = ClipShape()
    result = _run({"a": video}, lambda seconds: plan_dense(seconds, no_segments, every_s=0.2, clip=clip), decoders)["a"]
    assert len(result.plan.clips) == 300
    np.testing.assert_array_equal(_numbers(result), result.plan.clips)


def test_steps_of_a_dense_clip_are_averaged(video, decoders):
    no_segments = SegmentTimes((), np.zeros(0), np.zeros(0))
    clip = ClipShape(4, 25.0, 4)

    def every_step(seconds):
        plan = plan_dense(seconds, no_segments, every_s=7.0, clip=clip)
        return type(plan)(**{**vars(plan), "seconds": np.zeros((len(plan.clips), 4))})

    clip_result = _run(
        {"a": video}, lambda seconds: plan_dense(seconds, no_segments, every_s=7.0, clip=clip), decoders
    )["a"]
    step_result = _run({"a": video}, every_step, decoders)["a"]
    assert clip_result.steps.shape == (9, 1, 1, 12)
    np.testing.assert_allclose(
        clip_result.steps[:, 0], step_result.steps.astype(np.float32).mean(axis=1), rtol=2**-10, atol=2**-11
    )


def test_videos_that_share_batches_keep_apart(tmp_path, decoders):
    videos = {f"P01_{n}": write_video(tmp_path / f"P01_{n}.mp4", num_frames=20 + n) for n in range(7)}
    segments = _segments(5, 0.6)
    results = _run(
        videos,
        lambda seconds: plan_segments(seconds, segments, num_frames=3, clip=ClipShape()),
        decoders,
        batch_size=64,
    )
    assert set(results) == set(videos)
    for result in results.values():
        np.testing.assert_array_equal(_numbers(result), result.plan.clips)


class _Mixer(ClipNetwork):
    """A small network whose output depends on every pixel: (B, 3, L, h, w) -> L steps of 12."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(nn.Conv3d(3, 12, (1, 9, 9), stride=(1, 4, 4)))

    def forward(self, x: torch.Tensor, layers: tuple[int, ...] = ()) -> tuple[LayerTokens, ...]:
        return (map_tokens(self.network(x).relu()),)


def test_features_do_not_depend_on_workers_batches_or_order(video, tmp_path, decoders):
    second_video = write_video(tmp_path / "P01_102.mp4", codec="libx265", num_frames=90)
    segments = _segments(60, 3.0)
    network = _Mixer()

    def plan(seconds):
        return plan_segments(seconds, segments, num_frames=8, clip=ClipShape(4, 10.0, 4))

    with Decoders(1) as single_worker:
        expected = _run({"a": video, "b": second_video}, plan, single_worker, batch_size=1, network=network)
    for batch_size, videos in ((7, {"b": second_video, "a": video}), (64, {"a": video, "b": second_video})):
        results = _run(videos, plan, decoders, batch_size=batch_size, network=network)
        for video_id in ("a", "b"):
            # Steps are kept as float16, of which one unit in the last place is 2**-11 of the value.
            actual, reference = (result.steps.astype(np.float32) for result in (results[video_id], expected[video_id]))
            np.testing.assert_allclose(actual, reference, rtol=2**-10, atol=1e-5)


def test_frame_that_is_lost_costs_only_the_clips_that_need_it(tmp_path, decoders):
    path = write_video(tmp_path / "P01_101.mp4", gop=1, b_frames=0)
    damage_packet(path, 20)
    segments = _segments(40, 2.0)
    result = _run(
        {"a": path},
        lambda seconds: plan_segments(seconds, segments, num_frames=4, clip=ClipShape(4, 10.0, 4)),
        decoders,
    )["a"]
    is_affected = (result.plan.clips == 20).any(axis=1)
    assert is_affected.any()
    assert sorted(result.failures) == np.flatnonzero(is_affected).tolist()
    assert {(failure.error, failure.frame) for failure in result.failures.values()} == {("Undecodable", 20)}
    np.testing.assert_array_equal(_numbers(result)[~is_affected], result.plan.clips[~is_affected])


def test_progress_counts_every_clip_once(video, decoders):
    segments = _segments(40, 2.0)
    counts = []
    _run(
        {"a": video},
        lambda seconds: plan_segments(seconds, segments, num_frames=7, clip=ClipShape()),
        decoders,
        on_clips=lambda *count: counts.append(count),
    )
    assert sum(num for _, num, _ in counts) == 40 * 7
    assert {(video_id, total) for video_id, _, total in counts} == {("a", 40 * 7)}


def test_values_beyond_float16_are_lost_by_name(video, decoders):
    class Large(_Reader):
        def normalised_mean(self, x: torch.Tensor) -> torch.Tensor:
            return x * 1e6

    segments = _segments(3, 2.0)
    result = _run(
        {"a": video},
        lambda seconds: plan_segments(seconds, segments, num_frames=1, clip=ClipShape()),
        decoders,
        network=Large(),
    )["a"]
    assert [failure.error for failure in result.failures.values()] == ["NotFinite"] * 3


def test_half_precision_comes_close(video, decoders):
    x = torch.rand(4, 3, 4, 48, 64, generator=torch.Generator().manual_seed(0))
    exact = Forward(_Mixer(), _UNSCALED, CPU, "float32").steps(x).get()
    half = Forward(_Mixer(), _UNSCALED, CPU, "bfloat16").steps(x).get()
    assert exact.dtype == half.dtype == torch.float32
    assert 0 < (exact - half).abs().max() < 0.02 * exact.abs().max()


def test_precision_is_float32_where_nothing_else_is_faster():
    assert choose_precision("auto", CPU) == "float32"
    assert choose_precision("bfloat16", CPU) == "bfloat16"
    with pytest.raises(OptionError, match="--precision: 'double'"):
        choose_precision("double", CPU)
