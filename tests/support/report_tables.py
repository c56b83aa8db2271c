"""The tables of a report, read back from the page or from Markdown."""

from __future__ import annotations

import re
from html.parser import HTMLParser

Tables = dict[str, list[list[str]]]


class _Reader(HTMLParser):
    """Gathers tables by the label of the box they scroll in; what is smaller below a figure goes in brackets."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: Tables = {}
        self._rows: list[list[str]] | None = None
        self._in_cell = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if values.get("role") == "region":
            self._rows = self.tables[values["aria-label"]] = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td"):
            self._rows[-1].append("")
            self._in_cell = True
        elif tag == "small":
            self._rows[-1][-1] += " ("

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td"):
            self._in_cell = False
        elif tag == "small":
            self._rows[-1][-1] += ")"

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self._rows[-1][-1] += data


def tables_of_page(text: str) -> Tables:
    """Return caption -> rows of cells, the header first."""
    reader = _Reader()
    reader.feed(text)
    return reader.tables


def tables_of_markdown(text: str) -> Tables:
    """Return caption -> rows of cells, the header first."""
    tables: Tables = {}
    for caption, lines in re.findall(r"^### (.*)\n\n((?:\|.*\n)+)", text, flags=re.MULTILINE):
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines.splitlines()]
        tables[_unescaped(caption)] = [[_unescaped(cell) for cell in row] for row in (rows[0], *rows[2:])]
    return tables


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def column(table: list[list[str]], name: str) -> list[str]:
    """Return the cells of one column, without what stands in brackets behind a figure."""
    index = table[0].index(name)
    return [row[index].partition(" (")[0] for row in table[1:]]


def without_spans(page: str) -> str:
    """Return a page without the marks of where its lines may break, so that sentences can be found in it."""
    return re.sub(r"</?span[^>]*>", "", page)
