"""Shared by the three command lines: errors as one line and an exit code, and tables for people."""

from __future__ import annotations

import math
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from features.errors import DataError, OptionError, is_out_of_memory
from features.files import unreadable
from features.interrupts import Stopped, not_lost, stopped_by_signals


class Commands(click.Group):
    """A click group that prints an error as one line; exit code 2 for a wrong option, 1 for wrong data, full memory."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with stopped_by_signals(), not_lost(KeyboardInterrupt, lambda: signal.SIGINT):
                return super().invoke(ctx)
        except OptionError as error:
            raise click.UsageError(str(error)) from error
        except DataError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.filename is None:  # a pipe that is closed
                raise
            raise click.ClickException(str(unreadable(error.filename, error))) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            advice = "make the batch, the head or the set of segments smaller, or take a machine with more"
            raise click.ClickException(f"out of memory; {advice}.") from error
        except KeyboardInterrupt:
            _end_in_good_order("Interrupted", 130)
        except Stopped as stopped:
            _end_in_good_order(f"{ctx.command_path} {ctx.invoked_subcommand}: {stopped}", stopped.exit_code)


def _end_in_good_order(reason: str, exit_code: int) -> NoReturn:
    click.echo(f"{reason}. Finished work is kept; the same command continues from there.", err=True)
    sys.exit(exit_code)


class HeadedOption(click.Option):
    """An option that the help shows under a heading, such as "Loss"."""

    def __init__(self, *args: Any, heading: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.heading = heading


class HeadedCommand(click.Command):
    """A command whose help shows its options under their headings, and options without a heading at the end.

    Args:
        headings: the order of the headings; others follow in the order of their first option.
    """

    def __init__(self, *args: Any, headings: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.headings = headings

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in self.headings}
        others = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, HeadedOption):
                sections.setdefault(parameter.heading, []).append(record)
            elif record is not None and isinstance(parameter, click.Option):
                others.append(record)
        for heading, records in [*sections.items(), ("Other options", others)]:
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def table(header: Iterable[str], rows: Iterable[Iterable[str]], *, left: Iterable[str] = ()) -> str:
    """Return a table for people: the first column and those named in `left` aligned left, the others right."""
    lines = [list(header), *[list(row) for row in rows]]
    to_left = {lines[0][0], *left}
    columns = []
    for column in zip(*lines, strict=True):
        width = max(len(cell) for cell in column)
        columns.append([cell.ljust(width) if column[0] in to_left else cell.rjust(width) for cell in column])
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))


def human_size(num_bytes: float) -> str:
    """Return a size as text for people, in powers of 1000.

    >>> human_size(1_234_567)
    '1.2 MB'
    """
    if num_bytes < 1000:
        return f"{num_bytes:.0f} bytes"
    units = ("kB", "MB", "GB", "TB")
    power = min(int(math.log10(num_bytes) // 3), len(units))
    return f"{num_bytes / 1000**power:.1f} {units[power - 1]}"


def short_names(paths: Iterable[Path]) -> list[str]:
    """Return the shortest ends of paths that tell them apart; the same name for the same path.

    >>> short_names([Path("runs/lite/bilstm"), Path("runs/i3d/bilstm"), Path("runs/i3d/tcn")])
    ['lite/bilstm', 'i3d/bilstm', 'tcn']
    """
    given = list(paths)
    lengths = dict.fromkeys(given, 1)
    while True:
        ends = {path: str(Path(*path.parts[-length:])) for path, length in lengths.items()}
        times = Counter(ends.values())
        ambiguous = [path for path, end in ends.items() if times[end] > 1 and lengths[path] < len(path.parts)]
        if not ambiguous:
            return [ends[path] for path in given]
        for path in ambiguous:
            lengths[path] += 1
