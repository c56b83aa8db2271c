"""`heads watch`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

from features.console import human_size
from features.files import need_other_file
from heads.commands.options import PATH, device_option, stage_1_installed

_CAMERA = re.compile(r"camera:(\d{1,3})")


@click.command(short_help="Watch a video or a camera through a run's backbone and head.")
@click.argument("run", type=PATH)
@click.argument("video", metavar="VIDEO|camera:N")
@click.option("--out", "-o", type=PATH, help="mp4 to write, instead of showing the video in a window.")
@click.option(
    "--actions", type=PATH, help="CSV of the video's actions.  [default: beside the video, as in P01_101.actions.csv]"
)
@click.option(
    "--annotations",
    type=PATH,
    help="CSV or folder of the true segments, for the timeline, and of the names of classes.  [default: what the run "
    "was trained with]",
)
@click.option("--window", "window_s", type=float, default=2.0, show_default=True, help="Seconds of a window.")
@click.option(
    "--every", "every_s", type=float, default=0.25, show_default=True, help="Seconds from one window to the next."
)
@click.option(
    "--features", multiple=True, type=PATH, help="The run's feature sets, if they have moved; videos are not needed."
)
@click.option(
    "--weights",
    multiple=True,
    metavar="BACKBONE=FILE",
    help="Weights of a backbone that are no longer where they were when the features were extracted. May be repeated.",
)
@click.option(
    "--weights-dir",
    envvar="EPIC_WEIGHTS",
    type=PATH,
    help="Folder of the published weights.  [default: the caches of torch.hub and of the Hugging Face hub]",
)
@click.option("--workers", type=int, help="Number of processes that read the video.  [default: one per CPU]")
@device_option
def watch(
    run: Path, video: str, out: Path | None, actions: Path | None, weights: tuple[str, ...], **options: Any
) -> None:
    """Watch a video or a camera through the backbone and the head of a run or an ensemble.

    A window of two seconds slides over the video. Each window goes through the backbone that the run's features came
    from, and through the run's head, as a segment would. The video is shown with the five most probable actions as bars
    and with a timeline of true and predicted actions; q ends. The actions of the whole video go into a CSV.

    \b
    Examples:
      heads watch runs/multiscale_lstm-seed0 videos/P01_11.mp4 -o annotated.mp4
      heads watch runs/ensemble camera:0
    """
    # Set before torch is loaded: otherwise its threads spin while they wait, on the CPUs that decode.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options["weights"] = _pairs(weights)
    if match := _CAMERA.fullmatch(video):
        if out is not None or actions is not None:
            raise click.UsageError("--out and --actions are for videos, not for a camera.")
        _watch_camera(run, int(match[1]), options)
    else:
        _watch_video(run, Path(video), out, actions, options)


def _watch_video(run: Path, video: Path, out: Path | None, actions: Path | None, options: dict[str, Any]) -> None:
    for path in filter(None, (out, actions)):  # before the work, and not after it
        need_other_file(path, video)
    if out is not None and out == actions:
        raise click.UsageError("--out and --actions are one file; give two.")
    screen = None
    if out is None:
        from live.screen import Screen

        screen = Screen(f"{video.name}, {run}", instead="-o FILE.mp4 writes the video instead")
    with stage_1_installed("heads watch"):
        from live import watch as live_watch

    watched = live_watch.watch_video(run, video, **options)
    for note in watched.notes:
        click.echo(note, err=True)
    if watched.num_lost:
        click.echo(f"{watched.num_lost} windows have no features: {watched.reason}", err=True)
    csv = actions or live_watch.actions_path(video)
    live_watch.save_actions(watched, csv)
    click.echo(f"{csv} ({len(watched.segments)} actions)")
    if out is not None:
        live_watch.write_annotated(watched, out)
        click.echo(f"{out} ({human_size(out.stat().st_size)})")
    elif screen is not None:
        with screen:
            live_watch.show(watched, screen)


def _watch_camera(run: Path, number: int, options: dict[str, Any]) -> None:
    from live.camera import OpenCvCamera
    from live.screen import Screen

    name = f"camera:{number}"
    screen = Screen(f"{name}, {run}", instead="a camera can be watched in a window only")
    camera = OpenCvCamera(number)
    with stage_1_installed("heads watch"):
        from live import stream

    del options["workers"]  # a camera's pictures need no decoding
    with screen:
        model = stream.open_live(run, **options)
        for note in model.watched.notes:
            click.echo(note, err=True)
        report = stream.watch_camera(model, camera, screen, name=name, every_s=options["every_s"])
    click.echo(
        f"{name}: {report.num_read} pictures, {report.num_dropped} of them dropped; {report.num_windows} windows, "
        f"median delay {report.median_delay_ms:.0f} ms"
    )


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    for text in texts:
        if not re.fullmatch(r"[^=]+=.+", text):
            raise click.UsageError(f"--weights: {text!r} is not BACKBONE=FILE, such as resnet50=resnet50.pth.")
    return dict(text.split("=", 1) for text in texts)
