"""The estimate of an extraction counts what it would do, and deals it evenly."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from encode import write_video

from extract.backbones import get
from extract.cli import main
from extract.tasks.estimate import estimate_extraction
from features.annotations import read_all_segments, read_segments
from features.errors import OptionError

HEADER = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp\n"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Two videos of 60 frames at 30 fps that are all key frames, a third that is missing, and a segment too late."""
    folder = tmp_path_factory.mktemp("planned")
    for video_id in ("P01_01", "P01_02"):
        write_video(folder / "videos" / f"{video_id}.mp4", gop=1, b_frames=0)
    rows = [("P01_01", 0, 0, 1), ("P01_01", 1, 0, 1), ("P01_02", 0, 1, 2), ("P01_02", 1, 1, 9), ("P01_03", 0, 0, 1)]
    lines = [f"{video}_{n},P01,{video},00:00:{start:05.2f},00:00:{stop:05.2f}\n" for video, n, start, stop in rows]
    (folder / "segments.csv").write_text(HEADER + "".join(lines))
    return folder


def _estimate(dataset: Path, **options):
    return estimate_extraction(
        read_segments(dataset / "segments.csv"), dataset / "videos", backbone="tiny_cnn", workers=1, **options
    )


def test_segments_are_counted(dataset):
    estimate = _estimate(dataset, num_frames=4, tasks=2)
    assert (estimate.videos, estimate.segments, estimate.failed) == (2, 5, {"MissingVideo": 1, "BeyondEnd": 1})
    # Two segments of the same interval share their frames; each frame is a packet that nothing depends on.
    assert (estimate.frames, estimate.wanted_frames, estimate.decoded_frames) == (120, 8, 8)
    assert (estimate.clips, estimate.steps, estimate.dim) == (12, 12, 384)
    assert estimate.size_bytes == 12 * (384 * 2 + 12)
    assert sorted(estimate.task_cost) == [4 + 4, 4 + 8]
    assert estimate.imbalance == pytest.approx(12 / 10)


def test_clips_and_bytes_of_all_views_are_counted_and_their_frames_once(dataset):
    plain, several = (
        _estimate(dataset, num_frames=4, tasks=2, views=views) for views in ("centre", "centre,augment:2")
    )
    assert several.views == ("centre", "augment1", "augment2")
    assert (several.clips, several.steps, several.size_bytes) == (3 * 12, 12, 12 * (3 * 384 * 2 + 12))
    assert several.wanted_frames == plain.wanted_frames == 8
    assert sorted(several.task_cost) == [4 + 3 * 4, 4 + 3 * 8]
    assert _estimate(dataset, num_frames=4, views="centre,early,late").wanted_frames == 3 * 8


def test_dense_steps_are_counted(dataset):
    estimate = _estimate(dataset, every_s=0.5)
    assert (estimate.clips, estimate.steps, estimate.wanted_frames) == (8, 8, 8)


def test_one_clip_of_a_clip_backbone_counts_all_of_its_frames(dataset):
    estimate = estimate_extraction(
        read_segments(dataset / "segments.csv"), dataset / "videos", backbone="r2plus1d_18", workers=2, tasks=1
    )
    assert (estimate.clips, estimate.clip_frames, estimate.steps) == (3, 16, 6)
    assert sum(estimate.task_cost) == estimate.decoded_frames + 3 * 16


@pytest.mark.parametrize(
    ("options", "clips"),
    [
        ((), "3 of 16 frames at 15 fps"),
        (("--clip", "8"), "3 of 16 frames at 8 fps"),
        (("--clip", "spread"), "3 of 16 frames spread over a segment"),
        (("--backbone", "avion_vitb_epic"), "3 of 16 frames spread over a segment"),
        (("--backbone", "avion_vitb_epic", "--every", "0.5"), "8 of 16 frames at 8 fps"),
        (("--backbone", "tiny_cnn"), "48 of 1 frame"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_plan_says_which_frames_a_clip_shows(dataset, options, clips):
    result = _run_plan(dataset, "--backbone", "r2plus1d_18", *options)
    assert result.exit_code == 0, result.stderr
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines["clips"] == clips


def test_list_of_videos_stands_in_for_the_videos(dataset):
    video_info = pd.DataFrame({"duration_s": [2.0, 2.0], "fps": [30.0, 30.0]}, index=["P01_01", "P01_02"])
    segments = read_segments(dataset / "segments.csv")
    listed = estimate_extraction(segments, video_info, backbone="tiny_cnn", num_frames=4, tasks=2)
    measured = _estimate(dataset, num_frames=4, tasks=2)
    apart = {"decoded_frames", "task_cost", "hours"}
    records = [
        {name: value for name, value in asdict(estimate).items() if name not in apart}
        for estimate in (listed, measured)
    ]
    assert records[0] == records[1]
    assert listed.wanted_frames <= listed.decoded_frames <= listed.frames


def test_hours_of_a_gpu_are_those_of_the_arithmetic(dataset):
    estimate = _estimate(dataset, num_frames=4)
    assert estimate.gpu_hours(2.0) == pytest.approx(12 * get("tiny_cnn").gflops * 2 / 2000 / 3600)


def test_plan_of_the_published_lists_needs_no_videos(miniature):
    arguments = ["plan", "--annotations", str(miniature.annotations), "--backbone", "resnet50", "--json"]
    result = CliRunner().invoke(main, [*arguments, "--tflops", "50"], env={"EPIC_VIDEOS": ""})
    record = json.loads(result.stdout)
    assert record["segments"] == len(read_all_segments([miniature.annotations]))
    assert record["gpu_hours"] == pytest.approx(record["clips"] * 4.1 * 2 / 50_000 / 3600, rel=0.02)


def test_plan_without_videos_and_without_their_list_says_what_is_missing(dataset):
    arguments = ["plan", "--annotations", str(dataset / "segments.csv"), "--backbone", "tiny_cnn"]
    result = CliRunner().invoke(main, arguments, env={"EPIC_VIDEOS": ""})
    assert result.exit_code == 2
    assert "--videos: is missing; without it, EPIC_100_video_info.csv must lie beside" in result.stderr


@pytest.mark.parametrize("options", [{"tasks": 0}, {"every_s": 0.0}, {"num_frames": 0}], ids=str)
def test_numbers_that_make_no_sense_are_refused(dataset, options):
    with pytest.raises(OptionError, match=r"^--(tasks|every|frames): "):
        _estimate(dataset, **options)


def _run_plan(dataset: Path, *arguments: str):
    data_options = ["--annotations", str(dataset / "segments.csv"), "--videos", str(dataset / "videos")]
    return CliRunner().invoke(main, ["plan", *data_options, "--backbone", "tiny_cnn", "--workers", "1", *arguments])


def test_command_prints_a_table_for_people(dataset):
    result = _run_plan(dataset, "--frames", "4", "--tasks", "2")
    assert result.exit_code == 0, result.stderr
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines["segments"] == "5"
    assert "1 MissingVideo, 1 BeyondEnd" in result.stdout
    assert "8 of 120 (7%)" in result.stdout
    assert "1.200 x the mean" in result.stdout


def test_command_prints_json_for_programs(dataset):
    record = json.loads(_run_plan(dataset, "--every", "0.5", "--json").stdout)
    assert (record["clips"], record["failed"]) == (8, {"MissingVideo": 1, "BeyondEnd": 1})


@pytest.mark.parametrize("command", ["plan", "run"])
def test_frames_and_every_exclude_each_other(dataset, command, tmp_path):
    data_options = ["--annotations", str(dataset / "segments.csv"), "--videos", str(dataset / "videos")]
    out = ["--out", str(tmp_path / "out")] if command == "run" else []
    arguments = [command, *data_options, "--backbone", "tiny_cnn", "--frames", "4", "--every", "0.2", *out]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "--frames and --every exclude each other" in result.stderr
