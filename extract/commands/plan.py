"""`extract plan`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from extract.commands.options import extraction_installed, input_options, json_option, videos_option
from features.console import human_size


@click.command(short_help="Estimate what an extraction costs, without doing it.")
@videos_option(required=False, help_more=" Without it, the published list of videos is gone by.")
@input_options
@click.option(
    "--tflops",
    type=click.FloatRange(min=0, min_open=True),
    default=100.0,
    show_default=True,
    help="Speed of the GPU's arithmetic to reckon with. A third of an A100's peak in half precision is 100.",
)
@click.option("--tasks", default=8, show_default=True, help="Number of array tasks that share the videos.")
@json_option
def plan(
    annotations: tuple[Path, ...],
    more_annotations: tuple[Path, ...],
    videos: Path | None,
    frames: int | None,
    every: float | None,
    tflops: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Estimate what an extraction costs: frames, clips, GPU hours, disk space, and how even its array tasks are.

    Every packet of the videos is read; none is decoded where packets tell the times of frames. Without --videos,
    lengths and frame rates are those of EPIC_100_video_info.csv beside the annotations. No weights are needed.

    \b
    Examples:
      extract plan --annotations data/annotations --backbone videomae_large_k400
      extract plan --annotations data/annotations --videos data/videos --backbone resnet50 --every 0.2 --tasks 16
    """
    with extraction_installed():
        from extract.sampling import frames_per_segment
        from extract.tasks.estimate import estimate_extraction, video_info_beside
    from features.annotations import read_all_segments

    num_frames = frames_per_segment(frames, every)
    paths = [*annotations, *more_annotations]
    segments = read_all_segments(paths)
    where = video_info_beside(paths) if videos is None else videos
    estimate = estimate_extraction(segments, where, num_frames=num_frames, every_s=every, **options)
    if as_json:
        click.echo(json.dumps({**asdict(estimate), "gpu_hours": estimate.gpu_hours(tflops)}, indent=2))
        return
    several = len(estimate.views) > 1
    rate = "spread over a segment" if estimate.clip_fps is None else f"at {estimate.clip_fps:g} fps"
    clip = "1 frame" if estimate.clip_frames == 1 else f"{estimate.clip_frames} frames {rate}"
    share, about = estimate.decoded_frames / max(estimate.frames, 1), "" if videos else "about "
    lines = {
        "videos": f"{estimate.videos:,}, {estimate.hours:.1f} hours",
        "segments": f"{estimate.segments:,}",
        "cannot be had": ", ".join(f"{num:,} {kind}" for kind, num in estimate.failed.items()) or "none",
        "frames wanted": f"{estimate.wanted_frames:,}",
        "frames decoded": f"{about}{estimate.decoded_frames:,} of {estimate.frames:,} ({share:.0%})",
        "views": ", ".join(estimate.views),
        "clips": f"{estimate.clips:,} of {clip}" + (" in all views" if several else ""),
        "GPU hours": f"{estimate.gpu_hours(tflops):.2g} of arithmetic at {tflops:g} TFLOP/s (--tflops)",
        "steps": f"{estimate.steps:,} of {f'{len(estimate.views)} x ' if several else ''}{estimate.dim} values",
        "on disk": human_size(estimate.size_bytes),
        "balance": f"the heaviest of {len(estimate.task_cost)} tasks has {estimate.imbalance:.3f} x the mean",
    }
    for name, value in lines.items():
        click.echo(f"{name:16}{value}")
