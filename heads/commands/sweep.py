"""`heads sweep`, and the file that may hold its options."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from features.console import HeadedCommand, table
from features.errors import OptionError
from heads.commands.options import (
    HEADINGS,
    data_options,
    model_option,
    note_new_name,
    output_option,
    setting_options,
    under,
)
from heads.config import RENAMED

if TYPE_CHECKING:
    from heads.sweep.options_file import OptionsFile
    from heads.sweep.run import SweepPlan

_sweep_option = under("Sweep")
# Options that change nothing about which runs there are.
_OF_TRAINING = ("features", "together", "device", "allow_missing", "memory")


@click.command(cls=HeadedCommand, headings=HEADINGS, short_help="Train every combination of some settings.")
@click.argument("words", metavar="[OPTIONS.yaml] [NAME=VALUE,...]...", nargs=-1)
@_sweep_option(
    "--grid",
    multiple=True,
    metavar="NAME=VALUE,...",
    help="Setting to vary, and its values. More may follow as plain arguments.",
)
@_sweep_option("--seeds", default="0", show_default=True, help="Seeds of every variant, such as 0-2.")
@_sweep_option(
    "--samples", type=int, metavar="N", help="Train N random variants of the grid, instead of all; always the same N."
)
@_sweep_option(
    "--halving",
    is_flag=True,
    help="After a quarter of the epochs, and again after half of them, continue only the better half of the variants.",
)
@_sweep_option(
    "--together",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Train up to N runs in one pass over the data if they differ only in seed, loss, augmentation or "
    "optimisation. For a GPU, or for features that do not fit into memory: of these, runs of one seed are read for "
    "together. In memory, runs of bilstm, multiscale_lstm and probe, or with --stream-dropout, are still trained one "
    "after the other.",
)
@_sweep_option(
    "--shard",
    metavar="TASK/TASKS",
    help="Train one task's share of the runs: 3/8 is the fourth of eight tasks, which takes every eighth run.",
)
@_sweep_option("--dry-run", is_flag=True, help="Train nothing; list all runs, their progress, and the task of each.")
@model_option("--head", default="bilstm", show_default=True, help="Head with its options, as bilstm:hidden=256.")
@data_options
@output_option("--name", default="sweep", show_default=True, help="Folder in --runs for the run folders of the sweep.")
@output_option("--json", "as_json", is_flag=True, help="Print the results as JSON, for programs.")
@setting_options
def sweep(words: tuple[str, ...], **options: Any) -> None:
    """Train every combination of some settings, on features that are loaded once.

    The same command continues a sweep that was interrupted, and trains nothing twice. OPTIONS.yaml holds options by
    their long names, and the grid (docs/heads.md); options on the command line override it.

    \b
    Examples:
      heads sweep --grid loss=ce,focal,cb head=mean_pool,attentive lr=1e-4,3e-4 --seeds 0-2
      heads sweep sweep.yaml --halving
      heads ensemble --greedy runs/sweep
    """
    from heads.api.grids import plan_grid, train_grid
    from heads.sweep.grid import parse_grid
    from heads.sweep.options_file import is_options_file
    from heads.sweep.table import describe_sweep, sweep_table

    typed = parse_grid([*options.pop("grid"), *(word for word in words if not is_options_file(word))])
    options_file = _options_file_among(words)
    with options_file.named_in_errors():
        grid = {**parse_grid(options_file.grid), **typed}
    for old in sorted(RENAMED.keys() & {*grid, *options_file.options}):
        note_new_name(old)
    options_file = options_file.without([*_typed_options(), *(["grid"] if typed else [])])
    with options_file.named_in_errors():
        options |= _values_of(options_file)
        is_dry_run, as_json = options.pop("dry_run"), options.pop("as_json")
        of_training = {name: options.pop(name) for name in _OF_TRAINING}
        plan = plan_grid(grid=grid, **options)
        _show_plan(plan)
        if is_dry_run:
            click.echo(table(["run", "task", "state"], describe_sweep(plan), left=["state"]))
            return
        results = train_grid(plan, **of_training)
    click.echo(sweep_table(results, "json" if as_json else None))
    failures = [f"{result.name}-seed{seed}: {reason}" for result in results for seed, reason in result.failed.items()]
    if failures:
        num_runs = sum(len(result.scores) + len(result.failed) for result in results)
        click.echo("\n".join([f"{len(failures)} of {num_runs} runs failed:", *failures]), err=True)
        sys.exit(1)


def _show_plan(plan: SweepPlan) -> None:
    compared = f", compared after epochs {' and '.join(map(str, plan.rungs))}" if plan.rungs else ""
    click.echo(f"{len(plan.share)} of {len(plan.variants)} runs in {plan.folder}{compared}", err=True)
    for warning in plan.warnings:
        click.echo(f"Warning: {warning}", err=True)


def _long_options() -> dict[str, click.Option]:
    """Return the running command's options by their long names, with underscores."""
    parameters = click.get_current_context().command.params
    options = [parameter for parameter in parameters if isinstance(parameter, click.Option)]
    return {max(option.opts, key=len).lstrip("-").replace("-", "_"): option for option in options}


def _typed_options() -> list[str]:
    """Return the options on the command line; an environment variable only sets a default."""
    context = click.get_current_context()
    typed = [
        name
        for name, option in _long_options().items()
        if option.name is not None and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]
    return [*typed, *(old for old, new in RENAMED.items() if new in typed)]


def _options_file_among(words: Sequence[str]) -> OptionsFile:
    """Read the options file that is named among plain arguments; an empty one where none is named."""
    from heads.sweep.options_file import NO_OPTIONS_FILE, is_options_file, read_options_file

    paths = [Path(word) for word in words if is_options_file(word)]
    if len(paths) > 1:
        raise click.UsageError(f"one file of options at a time, not {', '.join(map(str, paths))}.")
    known = {name: option.multiple for name, option in _long_options().items()}
    return read_options_file(paths[0], known) if paths else NO_OPTIONS_FILE


def _values_of(options_file: OptionsFile) -> dict[str, object]:
    """Return a file's options as if they had been typed, by the names of the command's parameters."""
    context, known = click.get_current_context(), _long_options()
    values: dict[str, object] = {}
    for name, text in options_file.options.items():
        option = known[name]
        try:
            values[str(option.name)] = option.type_cast_value(context, text)
        except click.BadParameter as error:
            raise OptionError(f"--{name.replace('_', '-')}", error.message) from error
    return values
