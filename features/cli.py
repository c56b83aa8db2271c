"""The command line `features`: show what a feature set holds, and check it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from features.console import Commands, human_size
from features.progress import progress

if TYPE_CHECKING:
    from features.check import Info
    from features.featureset import Sampling


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="epic-heads")
def main() -> None:
    """Show and check feature sets, the folders that `extract` writes and `heads` trains on."""


@main.command(short_help="Show what a feature set holds and what it lacks.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--annotations",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Annotation CSV, or the folder that holds them, to count missing segments. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def info(folder: Path, annotations: tuple[Path, ...], as_json: bool) -> None:
    """Show what a feature set is, and how many of its videos and segments are complete, missing or failed.

    \b
    Example: features info data/features/resnet50-seg16 --annotations data/annotations
    """
    from features.annotations import read_all_segments
    from features.check import info as count

    counts = count(folder, read_all_segments(annotations) if annotations else None)
    if as_json:
        click.echo(json.dumps(asdict(counts), indent=2))
        return
    featureset = counts.featureset
    weights = featureset.weights
    missing = "give --annotations to count them"
    if counts.missing_segments is not None:
        missing = f"{counts.missing_videos} videos, {counts.missing_segments} segments"
    lines = {
        "backbone": featureset.backbone,
        "weights": f"{weights.revision} from {weights.source} (sha256 {weights.sha256[:12]})",
        "sampling": _describe(featureset.sampling),
        "step": f"{featureset.dim} {featureset.dtype}",
        "views": ", ".join(f"{view} ({num_videos} videos)" for view, num_videos in counts.views.items()),
        "complete": f"{counts.complete_videos} videos, {_complete(counts)}",
        "missing": missing,
        "failed": f"{counts.failed_segments} segments in {counts.failed_videos} videos"
        + (f" (see {folder / 'failures'})" if counts.failed_segments else ""),
        "size": human_size(counts.size_bytes),
        "created": featureset.created,
    }
    for name, value in lines.items():
        click.echo(f"{name:10}{value}")


def _complete(counts: Info) -> str:
    if counts.featureset.sampling.kind == "segment":
        return f"{counts.complete_segments} segments"
    covered = "" if counts.complete_segments is None else f" that cover {counts.complete_segments} segments"
    return f"{counts.complete_steps} steps{covered}"


def _describe(sampling: Sampling) -> str:
    if sampling.kind == "dense":
        return f"dense, a clip every {sampling.every_s} s"
    if sampling.clip_frames == 1:
        return f"{sampling.num_frames} frames per segment, each an image of its own"
    rate = "spread over it" if sampling.clip_fps is None else f"at {sampling.clip_fps:g} fps"
    clip = f"{sampling.clip_frames} frames {rate}, {sampling.steps_per_clip} steps per clip"
    return f"{sampling.num_frames} frames per segment, in clips of {clip}"


@main.command(short_help="Read every byte of a feature set and report problems.")
@click.argument("folder", type=click.Path(path_type=Path))
def verify(folder: Path) -> None:
    """Read every byte of a feature set and print each problem; the exit code is 1 if there is any.

    \b
    Example: features verify data/features/resnet50-seg16
    """
    from features.check import verify as check
    from features.store import video_ids

    videos = video_ids(folder)
    with progress(videos, total=len(videos), unit="videos", label="verify") as bar:
        problems = list(check(folder, bar))
    for problem in problems:
        click.echo(problem)
    if problems:
        click.echo(f"{folder}: {len(problems)} problems in {len(videos)} videos.", err=True)
        sys.exit(1)
    click.echo(f"{folder}: {len(videos)} videos, no problems.")
