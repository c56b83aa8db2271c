"""A report as Markdown, which is legible in a terminal too: the tables of the page, without its plots."""

from __future__ import annotations

import re
from collections.abc import Iterable

from heads.report.compute import Report
from heads.report.document import Cell, Command, Section, Table
from heads.report.sections import sections_of, summary_of, title_of


def as_markdown(report: Report) -> str:
    """Return a report as Markdown, ending in a newline."""
    parts = [f"# {_plain(title_of(report))}"]
    parts.append("\n".join(f"- {name}: {figure} ({_plain(note)})" for name, figure, note in summary_of(report)))
    for section in sections_of(report):
        parts += _section(section, report.best.label)
    return "\n\n".join(parts) + "\n"


def _section(section: Section, best: str) -> Iterable[str]:
    row = f" ({_plain(best)})" if section.of_best else ""
    yield f"## {section.title}{row}"
    yield from map(_plain, section.text)
    if section.absent:
        yield "\n".join(f"- {_plain(text)}" for text in section.absent)
    for table in section.tables:
        yield from _table(table)
    yield from map(_command, section.commands)


def _table(table: Table) -> Iterable[str]:
    yield f"### {_plain(table.caption)}"
    lines = [[_cell(Cell(name)) for name in table.header], *[[_cell(cell) for cell in row] for row in table.rows]]
    is_number = [
        all(row[column].value is not None or not row[column].text for row in table.rows)
        for column in range(len(table.header))
    ]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(table.header))]
    padded = [
        [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, is_number, strict=True)
        ]
        for line in lines
    ]
    rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, is_number, strict=True)]
    yield "\n".join(f"| {' | '.join(cells)} |" for cells in (padded[0], rule, *padded[1:]))
    yield from map(_plain, table.notes)


def _cell(cell: Cell) -> str:
    return _plain(f"{cell.text} ({cell.detail})" if cell.detail else cell.text)


def _command(command: Command) -> str:
    lines = [f"### {_plain(command.name)}", *(["", f"    {_visible(command.line)}"] if command.line else [])]
    notes = [f"- {_plain(note)}" for note in command.notes]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def _plain(text: str) -> str:
    """Return a text with the characters escaped that Markdown or a terminal would interpret."""
    return re.sub(r"([\\|*<\[])", r"\\\1", _visible(text))


def _visible(text: str) -> str:
    """Return a text with control characters shown as escapes; a file's name may hold some."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
