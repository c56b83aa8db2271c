"""Options that several commands of `heads` share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from features.errors import OptionError

PATH = click.Path(path_type=Path)


def folder_option(name: str, variable: str, default: str, text: str):
    """Give an option for a folder that a variable of the environment may name as well."""
    return click.option(
        name, type=PATH, envvar=variable, default=Path(default), show_default=True, show_envvar=True, help=text
    )


runs_option = folder_option("--runs", "EPIC_RUNS", "runs", "Folder of the run folders.")
scored_against_option = click.option(
    "--annotations",
    type=PATH,
    help="Validation CSV, or a folder of annotation files; those that the runs were trained with by default.",
)


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
    from heads.config import RENAMED

    old, new = (f"--{name.replace('_', '-')}" for name in (old, RENAMED[old]))
    click.echo(f"Note: {old} is called {new} now; the old name works until the next release.", err=True)


def setting_options(command: Callable) -> Callable:
    """Make an option of each setting of a run (heads/config.py)."""
    from heads.config import GROUPS, RENAMED

    for old, new in RENAMED.items():
        kind = next(
            setting for record in GROUPS.values() for setting in dataclasses.fields(record) if setting.name == new
        )
        command = click.option(f"--{old}", cls=RenamedOption, new_name=new, type=type(kind.default))(command)
    for setting in reversed([setting for record in GROUPS.values() for setting in dataclasses.fields(record)]):
        several = isinstance(setting.default, tuple)
        command = click.option(
            f"--{setting.name.replace('_', '-')}",
            type=str if several or setting.default is None else type(setting.default),
            default=None if several else setting.default,
            multiple=several,
            show_default=setting.default is not None and not several,
            metavar=setting.metadata["metavar"],
            help=setting.metadata["help"] + (" May be repeated." if several else ""),
        )(command)
    return command


features_option = click.option(
    "--features",
    multiple=True,
    type=PATH,
    envvar="EPIC_FEATURES",
    default=("data/features",),
    show_default=True,
    show_envvar=True,
    help="A feature set, or the folder of the only one. May be repeated: heads see all of them.",
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
allow_missing_option = click.option("--allow-missing", is_flag=True, help="Go on where segments have no features.")


def data_options(command: Callable) -> Callable:
    """Add the options that say what is trained on, which `train` and `sweep` share."""
    for option in reversed(
        [
            features_option,
            folder_option(
                "--annotations", "EPIC_ANNOTATIONS", "data/annotations", "Folder of the published annotation files."
            ),
            click.option("--train", type=PATH, help="Training CSV, instead of the one in --annotations."),
            click.option("--validation", type=PATH, help="Validation CSV, likewise."),
            click.option("--test", type=PATH, help="CSV of segments to predict, likewise."),
            click.option(
                "--split-train-val",
                "split",
                default="official",
                show_default=True,
                help="official; all (both lists, for a final submission); fold:I/K (of training, by participant).",
            ),
            allow_missing_option,
            click.option(
                "--memory",
                type=float,
                metavar="GB",
                help="Memory for the features of a list; more are read as they are needed.  [default: half of it]",
            ),
            click.option("--separate", is_flag=True, help="A head for verbs and one for nouns, which share nothing."),
            runs_option,
            device_option,
        ]
    ):
        command = option(command)
    return command


def loader(features, files, allow_missing, memory, device) -> Callable:
    """Give what loads the data of a configuration."""
    from features.device import choose_device
    from heads.data.load import find_featuresets, load_train_data

    if memory is not None and not memory >= 0:
        raise OptionError("--memory", f"{memory} is no number of gigabytes.")
    return partial(
        load_train_data,
        find_featuresets(features),
        files,
        allow_missing=allow_missing,
        device=choose_device(device),
        memory_bytes=None if memory is None else memory * 1e9,
    )
