"""What a report is laid out as, on a page as in a terminal: sections of words, tables and commands. Knows no run."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One entry of a table: its text, the number to sort by (None for a word), and something smaller below it."""

    text: str
    value: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """A table: its caption, its header, rows of as many cells, and what is to be said below it.

    Attributes:
        is_drawn: a plot shows the same, so that a page may fold the table away.
        marked: the row to point out, counted from 0.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    is_drawn: bool = False
    marked: int | None = None


@dataclass(frozen=True)
class Command:
    """How to make something anew: its name, a line for a shell (or None), and what is to be said of it."""

    name: str
    line: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        key: its name for links and figures.
        of_best: whether it is about the best row alone.
        absent: what cannot be shown, each with its reason.
    """

    key: str
    title: str
    of_best: bool = False
    text: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    commands: tuple[Command, ...] = ()


def number(value: float | None, digits: int = 1) -> Cell:
    """Give a number to so many digits; nothing where it is not known."""
    return Cell("") if value is None or not math.isfinite(value) else Cell(f"{value:.{digits}f}", value)


def whole(value: int) -> Cell:
    """Give a whole number."""
    return Cell(f"{value:,}", value)
