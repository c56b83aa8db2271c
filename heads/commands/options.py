"""Options that several commands of `heads` share."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from features.console import HeadedOption
from heads.config import GROUPS, RENAMED, kind_of

PATH = click.Path(path_type=Path)
# The order of the headings in the help of `train` and `sweep`; those of the settings are in heads/config.py.
HEADINGS = ("Sweep", "Model", "Data", *(record.title for record in GROUPS.values()), "Output")
# What a decorator of click takes and returns: a function, or the command that was made of it.
Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Decorator = Callable[[Decorated], Decorated]


def under(heading: str) -> Callable[..., Decorator]:
    """Return `click.option` for options that the help shows under a heading."""
    return partial(click.option, cls=HeadedOption, heading=heading)


data_option, output_option, model_option = under("Data"), under("Output"), under("Model")


def folder_option(
    name: str, variable: str, default: str, text: str, option: Callable[..., Decorator] = click.option
) -> Decorator:
    """Return an option for a folder that an environment variable may name as well."""
    return option(
        name, type=PATH, envvar=variable, default=Path(default), show_default=True, show_envvar=True, help=text
    )


RUNS_HELP = "Folder that holds the run folders."
runs_option = folder_option("--runs", "EPIC_RUNS", "runs", RUNS_HELP)
scored_against_option = click.option(
    "--annotations",
    type=PATH,
    help="Validation CSV, or folder of annotation files, to score against.  [default: what the runs were trained with]",
)


def scores_option(option: Callable[..., Decorator] = click.option) -> Decorator:
    """Return the option of commands that take predictions files: what the scores in them are."""
    return option(
        "--scores",
        multiple=True,
        metavar="[FILE=]KIND",
        help="What predictions files hold: logits or probabilities; FILE=KIND is about one file. May be repeated.  "
        "[default: probabilities if all rows are within 0 to 1 and sum to 1]",
    )


@contextlib.contextmanager
def stage_1_installed(needed_by: str) -> Iterator[None]:
    """Turn a missing package of the `extract` extra into an error that says what needs it and how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or str(error)).partition(".")[0]
        message = f"{package} is not installed, and {needed_by} needs it: pip install '.[extract]'"
        raise click.ClickException(message) from error


class RenamedOption(click.Option):
    """An old name of an option. It sets the new option, with a note on stderr, and --help does not show it."""

    def __init__(self, names: Sequence[str], *, new_name: str, **settings: Any) -> None:
        super().__init__(names, hidden=True, expose_value=False, is_eager=True, **settings)
        self.new_name = new_name

    def handle_parse_result(self, ctx: click.Context, opts: Any, args: list[str]) -> tuple[Any, list[str]]:
        """Hand the value on to the new option, which is handled after the eager options."""
        if self.name in opts:
            opts.setdefault(self.new_name, opts.pop(self.name))
            note_new_name(str(self.name))
        return super().handle_parse_result(ctx, opts, args)


def note_new_name(old: str) -> None:
    """Say on stderr what a setting is called now."""
    old_option, new_option = (f"--{name.replace('_', '-')}" for name in (old, RENAMED[old]))
    click.echo(f"Note: {old_option} is called {new_option} now; the old name works until the next release.", err=True)


def setting_options(command: Decorated) -> Decorated:
    """Make an option of each setting of a run (heads/config.py), under the heading of its group."""
    settings = [(record.title, setting) for record in GROUPS.values() for setting in dataclasses.fields(record)]
    types = {setting.name: kind_of(setting) for _, setting in settings}
    for old, new in RENAMED.items():
        command = click.option(f"--{old}", cls=RenamedOption, new_name=new, type=types[new])(command)
    for heading, setting in reversed(settings):
        is_repeated, is_flag = isinstance(setting.default, tuple), kind_of(setting) is bool
        command = under(heading)(
            f"--{setting.name.replace('_', '-')}",
            type=str if is_repeated else kind_of(setting),
            is_flag=is_flag,
            default=None if is_repeated else setting.default,
            multiple=is_repeated,
            show_default=setting.default is not None and not is_repeated and not is_flag,
            metavar=setting.metadata["metavar"],
            help=setting.metadata["help"] + (" May be repeated." if is_repeated else ""),
        )(command)
    return command


_DEVICE_HELP = "Device to compute on: auto, cpu, cuda or mps."
_ALLOW_MISSING_HELP = "Leave out segments that have no features, instead of stopping."
device_option = click.option("--device", default="auto", show_default=True, help=_DEVICE_HELP)
allow_missing_option = click.option("--allow-missing", is_flag=True, help=_ALLOW_MISSING_HELP)


def data_options(command: Decorated) -> Decorated:
    """Add the options that `train` and `sweep` share and that are no settings: the data, the device, the folders."""
    options = [
        model_option(
            "--separate", is_flag=True, help="Train one head for verbs and one for nouns; they share nothing."
        ),
        data_option(
            "--features",
            multiple=True,
            type=PATH,
            envvar="EPIC_FEATURES",
            default=("data/features",),
            show_default=True,
            show_envvar=True,
            help="Feature set, or a folder that holds just one. May be repeated; the head then sees all of them.",
        ),
        folder_option(
            "--annotations",
            "EPIC_ANNOTATIONS",
            "data/annotations",
            "Folder of the published annotation files.",
            data_option,
        ),
        data_option("--train", type=PATH, help="Training CSV, instead of the one in the --annotations folder."),
        data_option("--validation", type=PATH, help="Validation CSV, instead of the one in the --annotations folder."),
        data_option(
            "--test", type=PATH, help="CSV of the segments to predict, instead of the one in the --annotations folder."
        ),
        data_option(
            "--split-train-val",
            "split",
            default="official",
            show_default=True,
            help="official: the published lists. all: train on both lists, for a final submission. fold:I/K: cut the "
            "training list into K folds by participant and validate on fold I, counted from 0.",
        ),
        data_option("--allow-missing", is_flag=True, help=_ALLOW_MISSING_HELP),
        data_option(
            "--memory",
            type=float,
            metavar="GB",
            help="Memory for the features of each split. Features that do not fit are read from disk as they are "
            "needed.  [default: half of the machine's memory]",
        ),
        under("Optimisation")("--device", default="auto", show_default=True, help=_DEVICE_HELP),
        folder_option("--runs", "EPIC_RUNS", "runs", RUNS_HELP, output_option),
    ]
    for option in reversed(options):
        command = option(command)
    return command
