"""`extract ...`: stage 1, from videos to a feature set. Each command parses options, calls one function and prints."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from features.console import Commands, human_size, table

if TYPE_CHECKING:
    from extract.extraction import Summary

_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="epic-heads")
def main() -> None:
    """Run a frozen backbone once over every annotated segment, and keep its features.

    \b
    The usual order:
      extract backbones             choose a backbone
      extract weights BACKBONE      fetch its weights
      extract plan ...              estimate what the extraction costs
      extract run ...               extract
      extract status FOLDER ...     see how far it is
    """


_annotations_option = click.option(
    "--annotations",
    multiple=True,
    required=True,
    envvar="EPIC_ANNOTATIONS",
    type=click.Path(path_type=Path),
    help="An annotation CSV, or the folder that holds the published ones. The option may be repeated.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of a table.")


def _weights_dir_option(name: str) -> Callable[[_Command], _Command]:
    return click.option(
        name,
        "weights_dir",
        envvar="EPIC_WEIGHTS",
        type=click.Path(path_type=Path),
        help="Folder of the published weights.  [default: the caches of torch.hub and of the Hugging Face hub]",
    )


def _videos_option(*, required: bool, help_more: str = "") -> Callable[[_Command], _Command]:
    return click.option(
        "--videos",
        required=required,
        envvar="EPIC_VIDEOS",
        type=click.Path(path_type=Path),
        help="Folder of the videos: files such as P01/P01_101.mp4 or P01/videos/P01_101.MP4 below it, folders or tars "
        f"of JPEG frames, or folders of chunks.{help_more}",
    )


def _input_options(command: _Command) -> _Command:
    """Add the options that say what is extracted, which `run` and `plan` share."""
    options = [
        _annotations_option,
        click.argument("more_annotations", metavar="[CSV]...", nargs=-1, type=click.Path(path_type=Path)),
        click.option("--backbone", required=True, help="Name of the backbone. `extract backbones` lists them."),
        click.option(
            "--tokens",
            help="What a step keeps of the backbone's tokens: mean for their average, cls for the class token, grid2 "
            "or grid4 for the averages of 2 x 2 or 4 x 4 regions, or several, such as mean+cls.  [default: what the "
            "backbone's authors use, which is mean for most]",
        ),
        click.option(
            "--layers",
            metavar="LIST",
            help="Layers of a transformer whose tokens are kept, counted from 0, such as 11,17,last.  [default: last]",
        ),
        click.option(
            "--views",
            default="centre",
            show_default=True,
            metavar="LIST",
            help="Views of each clip, such as centre,flip,augment:3: centre, left and right (crops at the ends of the "
            "longer side), flip, early and late (a quarter of the sampling's interval), augment:K and randaugment:K "
            "(K random augmentations for training).",
        ),
        click.option("--frames", type=int, help="Number of frames spread over each segment (T).  [default: 16]"),
        click.option(
            "--every",
            type=float,
            metavar="SECONDS",
            help="Instead of --frames: take a clip every so many seconds over the whole of each video, such as 0.2.",
        ),
        click.option(
            "--clip",
            metavar="FPS|spread",
            help="Frames per second within a clip, such as 8, or spread to spread the frames of a clip evenly over the "
            "segment.  [default: what the backbone's authors use]",
        ),
        click.option(
            "--input",
            "input_form",
            metavar="video|frames|chunks",
            help="The form to read where --videos holds a video in several forms.  [default: the form that is there]",
        ),
        click.option(
            "--frames-fps",
            type=float,
            metavar="N",
            help="Frames per second of JPEG frames.  [default: what they were published with: 60 for P01_01, 50 for "
            "P01_101]",
        ),
        click.option("--workers", type=int, help="Number of processes that read videos.  [default: one per CPU]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@contextlib.contextmanager
def _extraction_installed() -> Iterator[None]:
    """Turn a missing package of the `extract` extra into an error that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or str(error)).partition(".")[0]
        message = f"{package} is not installed, and extraction needs it: pip install '.[extract]'"
        raise click.ClickException(message) from error


@main.command(short_help="Extract the features of every segment.")
@_videos_option(required=True)
@_input_options
@click.option(
    "--weights",
    default="default",
    show_default=True,
    help="default for the published weights, random:SEED, or the path of a file or of a save_pretrained folder.",
)
@_weights_dir_option("--weights-dir")
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
    with _extraction_installed():
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
    with _extraction_installed():
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


@main.command(short_help="Show how far an extraction is.")
@click.argument("folder", type=click.Path(path_type=Path))
@_annotations_option
@click.option(
    "--views",
    metavar="LIST",
    help="Views that a segment needs to be done, such as centre,augment1.  [default: the first of the set]",
)
@click.option("--slurm", is_flag=True, help="Show the extraction's jobs in SLURM's queue as well.")
@_json_option
def status(folder: Path, annotations: tuple[Path, ...], views: str | None, slurm: bool, as_json: bool) -> None:
    """Show how far an extraction is, over all of its tasks, while they run or after. Changes nothing.

    \b
    Example:
      extract status data/features/videomae-seg16 --annotations data/annotations
    """
    from features.annotations import read_all_segments
    from features.errors import first_few

    with _extraction_installed():
        from extract.tasks.status import queued_jobs, read_status
        from extract.views import view_names

    jobs = queued_jobs() if slurm else []
    if slurm and not as_json:  # before the rest, because jobs may be queued before the feature set exists
        lines = [(job["task"], job["state"], job["time"], job["why"]) for job in jobs]
        click.echo(table(("task", "state", "time", "why"), lines, left=("why",)) if jobs else "No jobs in the queue.")
        click.echo()
    needed = None if views is None else view_names(views)
    progress = read_status(folder, read_all_segments(annotations), views=needed)
    if as_json:
        click.echo(json.dumps({**asdict(progress), **({"jobs": jobs} if slurm else {})}, indent=2))
        return
    rows = [
        (state, *(f"{getattr(progress, f'{state}_{unit}'):,}" for unit in ("videos", "segments")))
        for state in ("done", "running", "failed", "missing")
    ]
    click.echo(table(("", "videos", "segments"), [*rows, ("all", f"{progress.videos:,}", f"{progress.segments:,}")]))
    if len(progress.view_segments) > 1:
        counts = ", ".join(f"{view} {num:,}" for view, num in progress.view_segments.items())
        click.echo(f"Segments per view: {counts}. Done here means: with {', '.join(progress.views)}.")
    for running in progress.running:
        task = "" if running.shard is None else f", task {running.shard[0]} of {running.shard[1]}"
        click.echo(f"On {running.host}{task}: {first_few(running.videos) or 'about to begin or end'}")
    left = progress.running_segments + progress.missing_segments
    if left and progress.segments_per_hour:
        rate, hours = progress.segments_per_hour, progress.hours_left
        click.echo(f"{rate:,.0f} segments per hour; {hours:.1f} hours left at that rate.")
    if left and progress.last_finished_s_ago is not None:
        click.echo(f"The last video was finished {progress.last_finished_s_ago / 60:.0f} minutes ago.")


@main.command("backbones", short_help="List the backbones.")
@_weights_dir_option("--weights-dir")
@click.option("--timm", "pattern", metavar="PATTERN", help="List timm's models whose names match, such as 'vit_*'.")
@_json_option
def list_command(weights_dir: Path | None, pattern: str | None, as_json: bool) -> None:
    """List the backbones: what they were trained on, what they take and give, their cost and their licence.

    EPIC is what a backbone was trained on of EPIC-KITCHENS: nothing, its videos, or also the labels of its training
    list. The frames of a clip that is spread lie evenly over the segment; with --every, they have the rate in brackets.
    D is the width of a token. GFLOPs are billions of multiply-adds per clip. The licence is that of the weights.

    Every image model of the timm library with published weights is a backbone too, as timm:NAME.

    \b
    Examples:
      extract backbones
      extract backbones --timm 'vit_pe_*'
    """
    if pattern is not None:
        _print_timm_models(pattern, as_json)
        return
    with _extraction_installed():
        from extract.backbones import ALIASES
        from extract.backbones.recommended import TIMM_MODELS
        from extract.backbones.table import clip_text, gflops_text, parameters_text
        from extract.listing import list_backbones

    rows = list_backbones(weights_dir)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    header = (
        "backbone",
        "family",
        "pretraining",
        "EPIC",
        "clip",
        "steps",
        "D",
        "params",
        "GFLOPs",
        "licence",
        "weights",
    )
    lines = [
        (
            row.name,
            row.family,
            row.pretraining,
            row.seen_of_epic,
            clip_text(row.clip_frames, row.clip_fps, spread=row.clip_spread),
            str(row.steps),
            str(row.dim),
            parameters_text(row.parameters),
            gflops_text(row.gflops),
            row.weights_licence,
            "none"
            if row.published_as is None
            else "here"
            if row.weights_path
            else "by hand"
            if row.by_hand
            else "to fetch",
        )
        for row in rows
    ]
    click.echo(table(header, lines, left=("backbone", "family", "pretraining", "EPIC", "clip", "licence", "weights")))
    click.echo("\nShort names: " + ", ".join(f"{alias} = {name}" for alias, name in ALIASES.items()))
    click.echo("\nImage models of timm that are worth a try (--timm PATTERN lists more):")
    for name in TIMM_MODELS:
        click.echo(f"  {name}")


def _print_timm_models(pattern: str, as_json: bool) -> None:
    with _extraction_installed():
        from extract.backbones.timm_models import matching_models

    models = matching_models(pattern)
    click.echo(json.dumps(models, indent=2) if as_json else "\n".join(models))


@main.command("weights", short_help="Download the published weights of backbones.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_weights_dir_option("--dest")
def weights_command(names: tuple[str, ...], weights_dir: Path | None) -> None:
    """Download the published weights of backbones, for machines without network. Existing files are kept.

    \b
    Examples:
      extract weights videomae slowfast
      extract weights dinov2_large --dest /scratch/weights
    """
    with _extraction_installed():
        from extract.backbones import get
        from extract.weights.published import fetch_weights

    for entry in [get(name, option="NAME") for name in names]:
        local = fetch_weights(entry, weights_dir)
        click.echo(f"{entry.name}: {local.path} ({local.revision})")


@main.command(short_help="Estimate what an extraction costs, without doing it.")
@_videos_option(required=False, help_more=" Without it, the published list of videos is gone by.")
@_input_options
@click.option(
    "--tflops",
    type=click.FloatRange(min=0, min_open=True),
    default=100.0,
    show_default=True,
    help="Speed of the GPU's arithmetic to reckon with. A third of an A100's peak in half precision is 100.",
)
@click.option("--tasks", default=8, show_default=True, help="Number of array tasks that share the videos.")
@_json_option
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
    with _extraction_installed():
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
