"""The parts of a report on a page and in a terminal: sections with text, tables and commands. Knows no run."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, the number to sort by (None for a word), and a smaller text below it."""

    text: str
    value: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """A table: its caption, its header, rows with one cell per column, and notes below it.

    Attributes:
        is_drawn: whether a plot shows the same, so that a page may fold the table away.
        marked: index of the row to highlight.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    is_drawn: bool = False
    marked: int | None = None


@dataclass(frozen=True)
class Command:
    """How to reproduce a run: its name, a line for a shell (or None), and notes."""

    name: str
    line: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Attributes:
        key: its name for links and plots.
        of_best: whether it is about the best row alone.
        absent: sentences about results that cannot be shown, with the reason.
    """

    key: str
    title: str
    of_best: bool = False
    text: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    commands: tuple[Command, ...] = ()


def number(value: float | None, digits: int = 1) -> Cell:
    """Return a cell with a number, rounded to some digits; an empty cell where it is not known."""
    return Cell("") if value is None or not math.isfinite(value) else Cell(f"{value:.{digits}f}", value)


def whole(value: int) -> Cell:
    """Return a cell with a whole number."""
    return Cell(f"{value:,}", value)
