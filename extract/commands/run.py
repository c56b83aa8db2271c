"""`extract run`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from extract.commands.options import (
    boxes_options,
    extraction_installed,
    input_options,
    videos_option,
    weights_dir_option,
)
from features.console import table

if TYPE_CHECKING:
    from extract.extraction import Summary


@click.command(short_help="Extract the features of every segment.")
@videos_option(required=True)
@input_options
@boxes_options
@click.option(
    "--weights",
    default="default",
    show_default=True,
    help="default for the published weights, random:SEED, or the path of a file or of a save_pretrained folder.",
)
@weights_dir_option("--weights-dir")
@click.option("--fetch", is_flag=True, help="Download published weights that are missing, instead of stopping.")
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda or mps. auto takes the best that is available."
)
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    help="Precision of the backbone's arithmetic: float32, bfloat16, float16, or auto (half precision on CUDA).",
)
@click.option("--batch-size", type=int, help="Number of clips per batch.  [default: depends on the device]")
@click.option(
    "--shard", metavar="TASK/TASKS", help="Do only the share of one task of a job array, counted from 0, such as 3/8."
)
@click.option(
    "--stage",
    type=click.Path(path_type=Path),
    help="Folder on a disk of this machine. Each video is copied there before it is read; the copy is removed after.",
)
@click.option(
    "--stream",
    type=click.IntRange(min=0),
    help="Number of the video stream to take in each file, counted as ffprobe does.  [default: the one marked as "
    "default, else the largest]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only show how the videos are shared out among the tasks of --shard. Needs nothing but the annotations.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the feature set.")
def run(
    annotations: tuple[Path, ...],
    more_annotations: tuple[Path, ...],
    dry_run: bool,
    shard: str | None,
    **options: Any,
) -> None:
    """Extract the features of every segment.

    Features that are in the folder already are kept, so an interrupted extraction continues when the same command is
    run again. Segments that fail are recorded in failures/, and the exit code is then 1.

    \b
    Example:
      extract run --annotations EPIC_100_train.csv EPIC_100_validation.csv --videos videos_640x360 \\
          --backbone resnet50 --frames 16 --out data/features/resnet50-seg16
    """
    from features.dealing import parse_shard

    paths = [*annotations, *more_annotations]
    if dry_run:
        _print_shares(paths, options, parse_shard(shard)[1])
        return
    # Set before torch is loaded: otherwise its threads spin while they wait, on the CPUs that decode.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with extraction_installed():
        from extract import extraction
    summary = extraction.run(annotations=paths, shard=None if shard is None else parse_shard(shard), **options)
    _print_summary(options["out"], summary)
    if summary.failed:
        sys.exit(1)


def _print_summary(out: Path, summary: Summary) -> None:
    from features.errors import first_few

    click.echo(
        f"{out}: asked for {summary.segments} segments in {summary.videos} videos: {summary.done} done, "
        f"{summary.kept} there before, {summary.failed} failed."
    )
    if summary.failed:
        click.echo(
            f"Failed in {len(summary.failed_videos)} videos: {first_few(summary.failed_videos)}. "
            f"The reasons are in {out / 'failures'}; the same command tries them again.",
            err=True,
        )


def _print_shares(annotations: list[Path], options: dict[str, Any], num_tasks: int) -> None:
    with extraction_installed():
        from extract.tasks.sharding import expected_shares

    shares = expected_shares(
        annotations,
        backbone=options["backbone"],
        frames=options["frames"],
        every=options["every"],
        clip=options["clip"],
        tokens=options["tokens"],
        layers=options["layers"],
        views=options["views"],
        regions=options["regions"],
        num_tasks=num_tasks,
    )
    cost = sum(share.cost for share in shares)
    rows = [
        (str(task), f"{share.videos:,}", f"{share.segments:,}", f"{share.cost / cost:.2%}")
        for task, share in enumerate(shares)
    ]
    rows.append(("all", f"{sum(share.videos for share in shares):,}", f"{sum(s.segments for s in shares):,}", ""))
    click.echo(table(("task", "videos", "segments", "of the cost"), rows))
    heaviest = max(share.cost for share in shares) * num_tasks / cost
    click.echo(f"The heaviest of {num_tasks} tasks is expected to cost {heaviest:.3f} x the mean.")
