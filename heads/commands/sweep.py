"""`heads sweep`, and the file that its options may stand in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from features.console import table
from features.errors import OptionError
from heads.commands.options import data_options, loader, note_new_name, setting_options

if TYPE_CHECKING:
    from heads.sweep.options_file import OptionsFile


@click.command()
@click.argument("words", metavar="[SPEC.yaml] [NAME=VALUE,...]...", nargs=-1)
@click.option(
    "--grid",
    multiple=True,
    metavar="NAME=VALUE,...",
    help="Setting to vary, and its values. More may follow as plain arguments.",
)
@click.option("--head", default="bilstm", show_default=True, help="Head with its options, as bilstm:hidden=256.")
@data_options
@click.option("--name", default="sweep", show_default=True, help="Folder under --runs for the runs of the sweep.")
@click.option("--seeds", default="0", show_default=True, help="Seeds of every variant, such as 0-2.")
@click.option("--samples", type=int, help="Draw so many variants of the grid, instead of all.")
@click.option(
    "--halving", is_flag=True, help="After a quarter and half of the epochs, only the better half of variants goes on."
)
@click.option(
    "--together",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Train up to N runs in one pass if they differ only in seed, loss, augmentation or optimisation. For a GPU. "
    "Runs of bilstm and multiscale_lstm, or with --stream-dropout, are still trained one after the other.",
)
@click.option("--shard", metavar="TASK/TASKS", help="Do only this task's share of the runs, counted from 0, as 3/8.")
@click.option("--dry-run", is_flag=True, help="Only show all runs, how far they are, and which task does each.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@setting_options
def sweep(words, grid, **options) -> None:
    """Train every combination of some settings, on features that are loaded once. Run again, it does what is missing.

    SPEC.yaml holds the same options by their long names, and the grid (docs/heads.md); what is typed here wins over it.

    \b
    Examples:
      heads sweep --grid loss=ce,focal,cb head=mean_pool,attentive lr=1e-4,3e-4 --seeds 0-2
      heads sweep sweep.yaml --halving
      heads ensemble --greedy runs/sweep
    """
    from features.annotations import find_splits
    from features.device import choose_device
    from heads.config import RENAMED, parse_seeds
    from heads.sweep.grid import make_variants, parse_grid, share_of
    from heads.sweep.options_file import is_options_file
    from heads.sweep.run import choose_rungs, run_sweep
    from heads.sweep.table import describe_sweep, sweep_table

    typed = parse_grid([*grid, *(word for word in words if not is_options_file(word))])
    spec = _spec_among(words)
    with spec.named_in_errors():
        varied = {**parse_grid(spec.grid), **typed}
    for old in sorted(RENAMED.keys() & {*varied, *spec.options}):
        note_new_name(old)
    spec = spec.without([*_typed_options(), *(["grid"] if typed else [])])
    with spec.named_in_errors():
        options |= _values_of(spec)
        shard, folder = options["shard"], options["runs"] / options["name"]
        variants = make_variants(varied, options, parse_seeds(options["seeds"]), samples=options["samples"])
        mine = share_of(variants, shard)
        lists = {name: options[name] for name in ("train", "validation", "test")}
        files = find_splits(options["annotations"], **lists)
        rungs = choose_rungs(variants, files, shard=shard) if options["halving"] else ()
    compared = f", compared after epochs {' and '.join(map(str, rungs))}" if rungs else ""
    click.echo(f"{len(mine)} of {len(variants)} runs in {folder}{compared}", err=True)
    if options["dry_run"]:
        click.echo(table(["run", "task", "state"], describe_sweep(variants, folder, shard=shard), left=["state"]))
        return
    how = {name: options[name] for name in ("features", "allow_missing", "memory", "device")}
    with spec.named_in_errors():
        load, device = loader(files=files, **how), choose_device(options["device"])
    together = options["together"]
    results = run_sweep(mine, load, folder, device=device, rungs=rungs, shard=shard, together=together)
    click.echo(sweep_table(results, "json" if options["as_json"] else None))
    failed = [f"{one.name}-seed{seed}: {why}" for one in results for seed, why in one.failed.items()]
    if failed:
        click.echo("\n".join([f"{len(failed)} of {len(mine)} runs failed:", *failed]), err=True)
        sys.exit(1)


def _long_options() -> dict[str, click.Option]:
    """Give the running command's options by their long names, with underscores."""
    options = [one for one in click.get_current_context().command.params if isinstance(one, click.Option)]
    return {max(one.opts, key=len).lstrip("-").replace("-", "_"): one for one in options}


def _typed_options() -> list[str]:
    """Give those that stand on the command line; the environment is no more than a default."""
    from heads.config import RENAMED

    source = click.get_current_context().get_parameter_source
    typed = [name for name, one in _long_options().items() if source(one.name) is ParameterSource.COMMANDLINE]
    return [*typed, *(old for old, new in RENAMED.items() if new in typed)]


def _spec_among(words: Sequence[str]) -> OptionsFile:
    """Read the file of options that is named among plain arguments; nothing where none is."""
    from heads.sweep.options_file import NO_OPTIONS_FILE, is_options_file, read_options_file

    paths = [Path(word) for word in words if is_options_file(word)]
    if len(paths) > 1:
        raise click.UsageError(f"one file of options at a time; there are {', '.join(map(str, paths))}.")
    known = {name: one.multiple for name, one in _long_options().items()}
    return read_options_file(paths[0], known) if paths else NO_OPTIONS_FILE


def _values_of(spec: OptionsFile) -> dict[str, object]:
    """Give a file's options as if they had been typed, by the names of the command's parameters."""
    context, known, values = click.get_current_context(), _long_options(), {}
    for name, text in spec.options.items():
        try:
            values[known[name].name] = known[name].type_cast_value(context, text)
        except click.BadParameter as error:
            raise OptionError(f"--{name.replace('_', '-')}", error.message) from error
    return values
