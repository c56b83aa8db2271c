"""`extract ...`: stage 1, from videos to a feature set."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import click

from features.console import Commands, human_size, table


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="epic-heads")
def main() -> None:
    """Run a frozen backbone once over every annotated segment, and keep its features."""


def _what_options(command: Callable) -> Callable:
    """Add the options that say what is extracted, which `run` and `plan` share."""
    for option in reversed(
        [
            click.option(
                "--annotations",
                multiple=True,
                required=True,
                envvar="EPIC_ANNOTATIONS",
                type=click.Path(path_type=Path),
                help="Annotation CSV, or the folder that holds the published ones. More may follow as plain arguments.",
            ),
            click.argument("more_annotations", metavar="[CSV]...", nargs=-1, type=click.Path(path_type=Path)),
            click.option(
                "--videos",
                required=True,
                envvar="EPIC_VIDEOS",
                type=click.Path(path_type=Path),
                help="Folder of the videos: P01/P01_101.mp4 or P01/videos/P01_101.MP4.",
            ),
            click.option(
                "--backbone", required=True, help="Name of the backbone, such as videomae: `extract backbones`."
            ),
            click.option(
                "--tokens",
                default="mean",
                show_default=True,
                help="What a step keeps of its map: mean, or a grid of cells side by side, grid2 or grid4.",
            ),
            click.option("--frames", type=int, help="Frames spread over each segment (T).  [default: 16]"),
            click.option(
                "--every",
                type=float,
                metavar="SECONDS",
                help="Instead of --frames: a clip every so many seconds over the whole of each video, such as 0.2.",
            ),
            click.option("--workers", type=int, help="Processes that read videos.  [default: one a CPU]"),
        ]
    ):
        command = option(command)
    return command


def _sampling_options(frames: int | None, every: float | None) -> dict[str, float | int | None]:
    if frames is not None and every is not None:
        raise click.UsageError("--frames and --every exclude each other: frames of each segment, or the whole video.")
    return {"num_frames": 16 if frames is None else frames, "every_s": every}


@contextlib.contextmanager
def _extraction_installed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"{error.name.partition('.')[0]} is not installed, and extraction needs it: pip install '.[extract]'"
        raise click.ClickException(message) from error


def _weights_dir_option(name: str) -> Callable:
    return click.option(
        name,
        "weights_dir",
        envvar="EPIC_WEIGHTS",
        type=click.Path(path_type=Path),
        help="Folder of published weights.  [default: the caches of torch.hub and of the Hugging Face hub]",
    )


@main.command()
@_what_options
@click.option(
    "--weights",
    default="default",
    show_default=True,
    help="default (the published ones), random:SEED, or the PATH of a file or of a save_pretrained folder.",
)
@_weights_dir_option("--weights-dir")
@click.option("--fetch", is_flag=True, help="Fetch published weights that are missing, instead of saying how.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    help="Of the backbone's arithmetic: float32, bfloat16, float16, or auto (half precision on CUDA).",
)
@click.option("--batch-size", type=int, help="Clips of a batch.  [default: as suits the device]")
@click.option("--shard", metavar="TASK/TASKS", help="Do only this task's share of the videos, counted from 0, as 3/8.")
@click.option(
    "--stage",
    type=click.Path(path_type=Path),
    help="Folder on a disk of this machine: each video is copied there before it is read, and removed after.",
)
@click.option(
    "--dry-run", is_flag=True, help="Only show how the videos are dealt to the tasks; needs no more than annotations."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the feature set.")
def run(annotations, more_annotations, videos, frames, every, device, shard, dry_run, out, **options) -> None:
    """Extract features for every segment; what is there already is kept, so that it resumes by being run again.

    \b
    Example:
      extract run --annotations EPIC_100_train.csv EPIC_100_validation.csv --videos videos_640x360 \\
          --backbone resnet50 --frames 16 --out data/features/resnet50-seg16
    """
    sampling = _sampling_options(frames, every)
    if dry_run:
        _show_shares([*annotations, *more_annotations], options["backbone"], sampling, shard)
        return
    # Before torch is loaded: its threads would wait for each other by spinning, on the cores that decode.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with _extraction_installed():
        from extract.extraction import extract_videos
        from features.dealing import parse_shard
    from extract.tasks.stopping import Stopped, stopped_by_signals
    from features.annotations import read_all_segments
    from features.device import choose_device

    try:
        with stopped_by_signals():
            summary = extract_videos(
                read_all_segments([*annotations, *more_annotations]),
                videos,
                out,
                device=choose_device(device),
                shard=None if shard is None else parse_shard(shard),
                **sampling,
                **options,
            )
    except Stopped as stopped:
        click.echo(f"{out}: {stopped}. What is finished is kept; the same command goes on from there.", err=True)
        sys.exit(stopped.exit_code)
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


def _show_shares(annotations: list[Path], backbone: str, sampling: dict, shard: str | None) -> None:
    with _extraction_installed():
        from extract.backbones import get
        from extract.sampling import choose_sampling
        from extract.tasks.sharding import shares
        from features.dealing import parse_shard
    from features.annotations import read_all_segments

    clip = get(backbone).clip
    _, num_tasks = parse_shard(shard)
    how = choose_sampling(sampling["num_frames"], sampling["every_s"], clip)
    dealt = shares(read_all_segments(annotations), how, clip, num_tasks)
    total = sum(share.cost for share in dealt)
    rows = [
        (str(task), f"{share.videos:,}", f"{share.segments:,}", f"{share.cost / total:.2%}")
        for task, share in enumerate(dealt)
    ]
    all_of_it = ("all", f"{sum(share.videos for share in dealt):,}", f"{sum(share.segments for share in dealt):,}", "")
    click.echo(table(("task", "videos", "segments", "of the cost"), [*rows, all_of_it]))
    heaviest = max(share.cost for share in dealt) * num_tasks / total
    click.echo(f"The heaviest of {num_tasks} tasks is expected to cost {heaviest:.3f} x the mean.")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--annotations",
    multiple=True,
    required=True,
    envvar="EPIC_ANNOTATIONS",
    type=click.Path(path_type=Path),
    help="Annotation CSV, or the folder that holds the published ones. May be repeated.",
)
@click.option("--slurm", is_flag=True, help="Show the extraction's jobs as well, as squeue has them.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(folder, annotations, slurm, as_json) -> None:
    """Show how far an extraction has come over all of its tasks, while they run or after. Changes nothing.

    \b
    Example:
      extract status data/features/videomae-seg16 --annotations data/annotations
    """
    from features.annotations import read_all_segments
    from features.errors import first_few

    with _extraction_installed():
        from extract.tasks.status import queued_jobs, read_status

    jobs = queued_jobs() if slurm else []
    if slurm and not as_json:  # first, as they are there before the set is
        lines = [(job["task"], job["state"], job["time"], job["why"]) for job in jobs]
        click.echo(table(("task", "state", "time", "why"), lines, left=("why",)) if jobs else "No jobs in the queue.")
        click.echo()
    found = read_status(folder, read_all_segments(annotations))
    if as_json:
        click.echo(json.dumps({**asdict(found), **({"jobs": jobs} if slurm else {})}, indent=2))
        return
    rows = [
        (kind, *(f"{getattr(found, f'{kind}_{what}'):,}" for what in ("videos", "segments")))
        for kind in ("done", "running", "failed", "missing")
    ]
    click.echo(table(("", "videos", "segments"), [*rows, ("asked", f"{found.videos:,}", f"{found.segments:,}")]))
    for note in found.running:
        task = "" if note.shard is None else f", task {note.shard[0]} of {note.shard[1]}"
        click.echo(f"On {note.host}{task}: {first_few(note.videos) or 'about to begin or end'}")
    left = found.running_segments + found.missing_segments
    if left and found.segments_per_hour:
        click.echo(f"{found.segments_per_hour:,.0f} segments an hour; {found.hours_left:.1f} hours left at that rate.")
    if left and found.last_finished_s_ago is not None:
        click.echo(f"The last video was finished {found.last_finished_s_ago / 60:.0f} minutes ago.")


@main.command()
@_weights_dir_option("--weights-dir")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def backbones(weights_dir, as_json) -> None:
    """List the backbones: what they were trained on, what they take and give, their cost and licence.

    GFLOPs are of a clip, in billions of multiply-adds. The licence is that of the weights.

    \b
    Example:
      extract backbones
    """
    with _extraction_installed():
        from extract.backbones import ALIASES
        from extract.listing import list_backbones

    rows = list_backbones(weights_dir)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    header = ("backbone", "family", "pretraining", "clip", "steps", "D", "params", "GFLOPs", "licence", "weights")
    lines = [
        (
            row.name,
            row.family,
            row.pretraining,
            "1 frame" if row.clip_fps is None else f"{row.clip_frames} at {row.clip_fps:.4g} fps",
            str(row.steps),
            str(row.dim),
            f"{row.parameters / 1e6:.1f} M",
            f"{row.gflops:,.4g}" if row.gflops < 1000 else f"{row.gflops:,.0f}",
            row.weights_licence,
            "none" if row.published_as is None else "here" if row.weights_path else "to fetch",
        )
        for row in rows
    ]
    click.echo(table(header, lines, left=("backbone", "family", "pretraining", "clip", "licence", "weights")))
    click.echo("\nShort names: " + ", ".join(f"{alias} = {name}" for alias, name in ALIASES.items()))


@main.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_weights_dir_option("--dest")
def weights(names, weights_dir) -> None:
    """Fetch the published weights of backbones, for machines without network; what is there already is kept.

    \b
    Examples:
      extract weights videomae slowfast
      extract weights dinov2_large --dest /scratch/weights
    """
    with _extraction_installed():
        from extract.backbones import get
        from extract.weights.published import fetch_weights

    for entry in [get(name, option="NAME") for name in names]:
        found = fetch_weights(entry, weights_dir)
        click.echo(f"{entry.name}: {found.path} ({found.revision})")


@main.command()
@_what_options
@click.option("--tasks", default=8, show_default=True, help="Tasks to deal the videos to.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def plan(annotations, more_annotations, videos, frames, every, as_json, **options) -> None:
    """Show what an extraction would do: frames, clips, disk, and how even its work is over array tasks.

    Every video's packets are read and none is decoded. Needs no weights.

    \b
    Example:
      extract plan --annotations data/annotations --videos data/videos --backbone resnet50 --every 0.2 --tasks 16
    """
    sampling = _sampling_options(frames, every)
    with _extraction_installed():
        from extract.tasks.planning import plan_extraction
    from features.annotations import read_all_segments

    found = plan_extraction(read_all_segments([*annotations, *more_annotations]), videos, **sampling, **options)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
        return
    decoded = f"{found.decoded_frames:,} of {found.frames:,} ({found.decoded_frames / max(found.frames, 1):.0%})"
    lines = {
        "videos": f"{found.videos:,}, {found.hours:.1f} hours",
        "segments": f"{found.segments:,}",
        "cannot be had": ", ".join(f"{num:,} {why}" for why, num in found.failed.items()) or "none",
        "frames wanted": f"{found.wanted_frames:,}",
        "frames decoded": decoded,
        "clips": f"{found.clips:,} of {found.clip_frames} frames",
        "steps": f"{found.steps:,} of {found.dim} values",
        "on disk": human_size(found.size_bytes),
        "balance": f"the heaviest of {len(found.task_cost)} tasks has {found.imbalance:.3f} x the mean",
    }
    for name, value in lines.items():
        click.echo(f"{name:16}{value}")
