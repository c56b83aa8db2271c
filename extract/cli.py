"""`extract ...`: stage 1, from videos to a feature set."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from features.console import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="epic-heads")
def main() -> None:
    """Run a frozen backbone once over every annotated segment, and keep its features."""


@main.command()
@click.option(
    "--annotations",
    multiple=True,
    required=True,
    envvar="EPIC_ANNOTATIONS",
    type=click.Path(path_type=Path),
    help="Annotation CSV, or the folder that holds the published ones. More may follow as plain arguments.",
)
@click.argument("more_annotations", metavar="[CSV]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--videos",
    required=True,
    envvar="EPIC_VIDEOS",
    type=click.Path(path_type=Path),
    help="Folder of the videos: P01/P01_101.mp4 or P01/videos/P01_101.MP4.",
)
@click.option("--backbone", required=True, help="Name of the backbone, such as resnet50.")
@click.option(
    "--weights",
    default="default",
    show_default=True,
    help="default (the published ones), a state dict's PATH, or random:SEED.",
)
@click.option("--frames", default=16, show_default=True, help="Frames spread over each segment (T).")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the feature set.")
def run(annotations, more_annotations, videos, backbone, weights, frames, device, out) -> None:
    """Extract features for every segment; what is there already is kept, so that it resumes by being run again.

    \b
    Example:
      extract run --annotations EPIC_100_train.csv EPIC_100_validation.csv --videos videos_640x360 \\
          --backbone resnet50 --frames 16 --out data/features/resnet50-seg16
    """
    try:
        from extract.run import extract_videos
    except ModuleNotFoundError as error:
        message = f"{error.name.partition('.')[0]} is not installed, and extraction needs it: pip install '.[extract]'"
        raise click.ClickException(message) from error
    from features.annotations import read_all_segments
    from features.device import choose_device

    summary = extract_videos(
        read_all_segments([*annotations, *more_annotations]),
        videos,
        out,
        backbone=backbone,
        weights=weights,
        num_frames=frames,
        device=choose_device(device),
    )
    click.echo(
        f"{out}: asked for {summary.asked} segments in {summary.videos} videos: {summary.done} done, "
        f"{summary.already} there before, {summary.failed} failed."
    )
    if summary.failed:
        from features.errors import first_few

        click.echo(
            f"Failed in {len(summary.failed_videos)} videos: {first_few(summary.failed_videos)}. "
            f"Each with its reason in {out / 'failures'}; the same command tries them again.",
            err=True,
        )
        sys.exit(1)
