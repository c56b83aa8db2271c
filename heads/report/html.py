"""A report as one HTML page, with its style, script and plots inside. Computes nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources

from heads.report.compute import Report
from heads.report.document import Cell, Command, Section, Table
from heads.report.plots import Plot
from heads.report.sections import sections_of, summary_of, title_of


def as_page(report: Report, plots: Mapping[str, Sequence[Plot]]) -> str:
    """Return a report as HTML.

    Args:
        plots: key of a section -> its plots, as `heads.report.plots.draw` gives them.
    """
    style, script = _asset("page.css"), _asset("page.js")
    sections = sections_of(report)
    title = html.escape(title_of(report))
    # The browser runs and fetches nothing else, whatever is in the names of files.
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'"
    )
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>",
            f"<header>\n<h1>{title}</h1>\n{_subtitle(report)}\n{_cards(report)}\n{_contents(sections)}\n</header>\n<main>",
            *_body(sections, report, plots),
            f"</main>\n<footer>{_footer()}</footer>\n<script>{script}</script>\n</body>\n</html>\n",
        ]
    )


def _asset(name: str) -> str:
    return resources.files("heads.report").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _subtitle(report: Report) -> str:
    row = report.best.score
    scored = f"{row.num_segments:,} segments of {report.annotations}"
    if row.num_segments < row.num_known:
        scored = f"{row.num_segments:,} of the {row.num_known:,} segments of {report.annotations}"
    seeds = f"mean of {row.num_seeds} seeds" if row.num_seeds > 1 else report.best.kind
    return f'<p class="soft">The best of {len(report.rows)} rows ({seeds}), scored on {html.escape(scored)}.</p>'


def _cards(report: Report) -> str:
    cards = [
        f'<div><dt>{html.escape(name)}</dt><dd class="figure">{html.escape(figure)}</dd>'
        f'<dd class="soft">{html.escape(note)}</dd></div>'
        for name, figure, note in summary_of(report)
    ]
    return f'<dl class="cards">{"".join(cards)}</dl>'


def _contents(sections: Sequence[Section]) -> str:
    links = "".join(f'<li><a href="#{section.key}">{html.escape(section.title)}</a></li>' for section in sections)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def _body(sections: Sequence[Section], report: Report, plots: Mapping[str, Sequence[Plot]]) -> Iterator[str]:
    has_banner = False
    for section in sections:
        if section.of_best and not has_banner:
            has_banner = True
            seeds = report.best.score.num_seeds
            mean = f", as the mean of its {seeds} seeds" if seeds > 1 else ""
            yield (
                f'<div class="banner"><h2>The best row, segment by segment: {html.escape(report.best.label)}</h2>'
                f'<p class="soft">The sections with a blue edge are about this row only{mean}.</p></div>'
            )
        yield _section(section, plots.get(section.key, ()))


def _section(section: Section, plots: Sequence[Plot]) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>", *[f"<p>{_text(text)}</p>" for text in section.text]]
    if section.absent:
        parts.append(f'<ul class="absent">{"".join(f"<li>{_text(text)}</li>" for text in section.absent)}</ul>')
    folded = [_table(table) for table in section.tables if table.is_drawn]
    tables = [_table(table) for table in section.tables if not table.is_drawn]
    figures = [_figure(plot) for plot in plots]
    # The ranking is as wide as the page; other tables are beside the plots.
    wide, beside = (tables, figures) if section.key == "ranking" else ([], [*figures, *tables])
    parts += [*wide, f'<div class="side">{"".join(beside)}</div>' if beside else "", *folded]
    parts += map(_command, section.commands)
    of_best = ' class="of-best"' if section.of_best else ""
    return f'<section id="{section.key}"{of_best}>\n' + "\n".join(part for part in parts if part) + "\n</section>"


def _figure(plot: Plot) -> str:
    data = base64.b64encode(plot.svg).decode()
    wide = ' class="wide" tabindex="0" aria-label="A plot that scrolls sideways"' if plot.is_wide else ""
    return f'<figure{wide}><img src="data:image/svg+xml;base64,{data}" alt="{html.escape(plot.alt)}"></figure>'


def _table(table: Table) -> str:
    caption = html.escape(table.caption)
    is_word = [
        any(row[column].value is None and row[column].text for row in table.rows) for column in range(len(table.header))
    ]
    header = "".join(
        f'<th scope="col"{_class(word)}><button type="button">{html.escape(name)}</button></th>'
        for name, word in zip(table.header, is_word, strict=True)
    )
    rows = "".join(
        f"<tr{' class=best' if index == table.marked else ''}>"
        + "".join(_cell(cell, word) for cell, word in zip(row, is_word, strict=True))
        + "</tr>\n"
        for index, row in enumerate(table.rows)
    )
    is_ranking = table.marked is not None
    scrolled = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}">'
        f"<table{' class=ranking' if is_ranking else ''}><thead><tr>{header}</tr></thead>\n"
        f"<tbody>{rows}</tbody></table></div>"
    ) + "".join(f'<p class="soft">{_text(note)}</p>' for note in table.notes)
    if table.is_drawn:
        return f"<details><summary>{caption}</summary>{scrolled}</details>"
    return f'<div class="table"><h3>{caption}</h3>{scrolled}</div>'


def _class(word: bool) -> str:
    return ' class="word"' if word else ""


def _cell(cell: Cell, word: bool) -> str:
    value = "" if cell.value is None else f' data-value="{float(cell.value)!r}"'
    detail = f"<small>{html.escape(cell.detail)}</small>" if cell.detail else ""
    return f"<td{_class(word)}{value}>{html.escape(cell.text)}{detail}</td>"


def _command(command: Command) -> str:
    line = f"<pre><code>{html.escape(command.line)}</code></pre>" if command.line else ""
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in command.notes)
    return f'<div class="command"><h3>{html.escape(command.name)}</h3>{line}<ul class="notes">{notes}</ul></div>'


def _text(text: str) -> str:
    """Return running text as HTML; text between backquotes is code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


def _footer() -> str:
    from features import __version__

    made_by = f"Written by heads report, epic-heads {html.escape(__version__)}."
    return f'<p class="soft">{made_by} This file is complete; it loads nothing else.</p>'
