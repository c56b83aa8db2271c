"""`extract status`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from extract.commands.options import annotations_option, extraction_installed, json_option
from features.console import table


@click.command(short_help="Show how far an extraction is.")
@click.argument("folder", type=click.Path(path_type=Path))
@annotations_option
@click.option(
    "--views",
    metavar="LIST",
    help="Views that a segment needs to be done, such as centre,augment1.  [default: the first of the set]",
)
@click.option("--slurm", is_flag=True, help="Show the extraction's jobs in SLURM's queue as well.")
@json_option
def status(folder: Path, annotations: tuple[Path, ...], views: str | None, slurm: bool, as_json: bool) -> None:
    """Show how far an extraction is, over all of its tasks, while they run or after. Changes nothing.

    \b
    Example:
      extract status data/features/videomae-seg16 --annotations data/annotations
    """
    from features.annotations import read_all_segments
    from features.errors import first_few

    with extraction_installed():
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
