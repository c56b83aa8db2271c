"""A report as Markdown, which reads well in a terminal too: the tables of the page, without its plots."""

from __future__ import annotations

import re
from collections.abc import Iterable

from heads.report.content import Content
from heads.report.layout import Cell, Command, Section, Table
from heads.report.words import sections_of, summary_of, title_of


def as_markdown(content: Content) -> str:
    """Give a report as Markdown, ending in a newline."""
    parts = [f"# {_plain(title_of(content))}"]
    parts.append("\n".join(f"- {what}: {figure} ({_plain(note)})" for what, figure, note in summary_of(content)))
    for section in sections_of(content):
        parts += _section(section, content.best.label)
    return "\n\n".join(parts) + "\n"


def _section(section: Section, best: str) -> Iterable[str]:
    of = f" ({_plain(best)})" if section.of_best else ""
    yield f"## {section.title}{of}"
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
        all(row[place].value is not None or not row[place].text for row in table.rows)
        for place in range(len(table.header))
    ]
    widths = [max(3, *(len(line[place]) for line in lines)) for place in range(len(table.header))]
    laid = [
        [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, is_number, strict=True)
        ]
        for line in lines
    ]
    rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, is_number, strict=True)]
    yield "\n".join(f"| {' | '.join(cells)} |" for cells in (laid[0], rule, *laid[1:]))
    yield from map(_plain, table.notes)


def _cell(cell: Cell) -> str:
    return _plain(f"{cell.text} ({cell.detail})" if cell.detail else cell.text)


def _command(command: Command) -> str:
    lines = [f"### {_plain(command.name)}", *(["", f"    {_visible(command.line)}"] if command.line else [])]
    notes = [f"- {_plain(note)}" for note in command.notes]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def _plain(text: str) -> str:
    """Take from a text what Markdown or a terminal would take for more than text."""
    return re.sub(r"([\\|*<\[])", r"\\\1", _visible(text))


def _visible(text: str) -> str:
    """Show control characters as what they are; a file's name may hold some."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
