"""`features ...`: look at a feature set and check it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from features.console import Commands, human_size
from features.progress import progress


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="epic-heads")
def main() -> None:
    """Look at feature sets: the folders that `extract` writes and `heads` trains on."""


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--annotations",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Annotation CSV, or the folder of them, to count what is missing. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def info(folder: Path, annotations: tuple[Path, ...], as_json: bool) -> None:
    """Show what a feature set is, and how many videos and segments are complete, missing and failed.

    \b
    Example: features info data/features/resnet50-seg16 --annotations data/annotations
    """
    from features.annotations import read_all_segments
    from features.check import info as count

    found = count(folder, read_all_segments(annotations) if annotations else None)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
        return
    featureset = found.featureset
    weights = featureset.weights
    missing = "give --annotations to count them"
    if found.missing_segments is not None:
        missing = f"{found.missing_videos} videos, {found.missing_segments} segments"
    lines = {
        "backbone": featureset.backbone,
        "weights": f"{weights.revision} from {weights.source} (sha256 {weights.sha256[:12]})",
        "sampling": _describe(featureset.sampling),
        "step": f"{len(featureset.views)} view ({', '.join(featureset.views)}) x {featureset.dim} {featureset.dtype}",
        "complete": f"{found.complete_videos} videos, {_complete(found)}",
        "missing": missing,
        "failed": f"{found.failed_segments} segments in {found.failed_videos} videos"
        + (f" (see {folder / 'failures'})" if found.failed_segments else ""),
        "size": human_size(found.size_bytes),
        "created": featureset.created,
    }
    for name, value in lines.items():
        click.echo(f"{name:10}{value}")


def _complete(found) -> str:
    if found.featureset.sampling.kind == "segment":
        return f"{found.complete_segments} segments"
    covered = "" if found.complete_segments is None else f" that cover {found.complete_segments} segments"
    return f"{found.complete_steps} steps{covered}"


def _describe(sampling) -> str:
    if sampling.kind == "dense":
        return f"dense, a clip every {sampling.every_s} s"
    if sampling.clip_fps is None:
        return f"{sampling.num_frames} frames a segment, an image each"
    clip = f"{sampling.clip_frames} frames at {sampling.clip_fps:g} fps, {sampling.steps_per_clip} steps each"
    return f"{sampling.num_frames} frames a segment, in clips of {clip}"


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
def verify(folder: Path) -> None:
    """Read every byte of a feature set and report whatever is wrong; exit code 1 if anything is.

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
    click.echo(f"{folder}: {len(videos)} videos, all sound.")
