"""Options that several commands of `extract` share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

annotations_option = click.option(
    "--annotations",
    multiple=True,
    required=True,
    envvar="EPIC_ANNOTATIONS",
    type=click.Path(path_type=Path),
    help="An annotation CSV, or the folder that holds the published ones. The option may be repeated.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of a table.")


def weights_dir_option(name: str) -> Callable[[_Command], _Command]:
    """Return the option that names the folder of published weights."""
    return click.option(
        name,
        "weights_dir",
        envvar="EPIC_WEIGHTS",
        type=click.Path(path_type=Path),
        help="Folder of the published weights.  [default: the caches of torch.hub and of the Hugging Face hub]",
    )


def videos_option(*, required: bool, help_more: str = "") -> Callable[[_Command], _Command]:
    """Return the option that names the folder of videos."""
    return click.option(
        "--videos",
        required=required,
        envvar="EPIC_VIDEOS",
        type=click.Path(path_type=Path),
        help="Folder of the videos: files such as P01/P01_101.mp4 or P01/videos/P01_101.MP4 below it, folders or tars "
        f"of JPEG frames, or folders of chunks.{help_more}",
    )


def regions_option(*, default: str | None = None) -> Callable[[_Command], _Command]:
    """Return the option that names regions; without a default, whole frames are seen."""
    return click.option(
        "--regions",
        metavar="hands|hands+objects",
        default=default,
        show_default=default is not None,
        help="hands for the part of the picture with the hands and what they hold; hands+objects for the left hand, "
        "the right hand, the held object, and all of these, side by side. Needs --boxes."
        + ("" if default else "  [default: whole frames]"),
    )


def input_options(command: _Command) -> _Command:
    """Add the options that say what is extracted, which `run` and `plan` share."""
    options = [
        annotations_option,
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
        regions_option(),
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


def boxes_options(command: _Command) -> _Command:
    """Add the options that say where the regions are, which `run` and `show` share."""
    options = [
        click.option(
            "--boxes",
            type=click.Path(path_type=Path),
            help="Where hands and objects are: the folder of the published detections, with P01_101.pkl and so on in "
            "any folder below it, or a table of another detector (.csv or .jsonl).",
        ),
        click.option(
            "--min-score",
            type=float,
            default=0.5,
            show_default=True,
            help="Least score of a hand or an object that counts.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@contextlib.contextmanager
def extraction_installed() -> Iterator[None]:
    """Turn a missing package of the `extract` extra into an error that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or str(error)).partition(".")[0]
        message = f"{package} is not installed, and extraction needs it: pip install '.[extract]'"
        raise click.ClickException(message) from error
