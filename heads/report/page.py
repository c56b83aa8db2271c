"""A report as one HTML page that needs nothing else: style, script and plots are inside. Computes nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources

from heads.report.content import Content
from heads.report.layout import Cell, Command, Section, Table
from heads.report.plots import Plot
from heads.report.words import sections_of, summary_of, title_of


def as_page(content: Content, plots: Mapping[str, Sequence[Plot]]) -> str:
    """Give a report as HTML.

    Args:
        plots: key of a section -> its plots, as `heads.report.plots.draw` gives them.
    """
    style, script = _asset("page.css"), _asset("page.js")
    sections = sections_of(content)
    title = html.escape(title_of(content))
    # Nothing but what stands here may be run or fetched, whatever the names of files hold.
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'"
    )
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>",
            f"<header>\n<h1>{title}</h1>\n{_subtitle(content)}\n{_cards(content)}\n{_contents(sections)}\n</header>\n<main>",
            *_body(sections, content, plots),
            f"</main>\n<footer>{_footer()}</footer>\n<script>{script}</script>\n</body>\n</html>\n",
        ]
    )


def _asset(name: str) -> str:
    return resources.files("heads.report").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _subtitle(content: Content) -> str:
    row = content.best.group.row
    scored = f"{row.num_segments:,} segments of {content.annotations}"
    if row.num_segments < row.num_known:
        scored = f"{row.num_segments:,} of the {row.num_known:,} segments of {content.annotations}"
    seeds = f"mean of {row.num_seeds} seeds" if row.num_seeds > 1 else content.best.kind
    return f'<p class="soft">The best of {len(content.places)} rows ({seeds}), scored on {html.escape(scored)}.</p>'


def _cards(content: Content) -> str:
    cards = [
        f'<div><dt>{html.escape(what)}</dt><dd class="figure">{html.escape(figure)}</dd>'
        f'<dd class="soft">{html.escape(note)}</dd></div>'
        for what, figure, note in summary_of(content)
    ]
    return f'<dl class="cards">{"".join(cards)}</dl>'


def _contents(sections: Sequence[Section]) -> str:
    links = "".join(f'<li><a href="#{one.key}">{html.escape(one.title)}</a></li>' for one in sections)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def _body(sections: Sequence[Section], content: Content, plots: Mapping[str, Sequence[Plot]]) -> Iterator[str]:
    announced = False
    for section in sections:
        if section.of_best and not announced:
            announced = True
            seeds = content.best.group.row.num_seeds
            mean = f", as the mean of its {seeds} seeds" if seeds > 1 else ""
            yield (
                f'<div class="banner"><h2>The best row, segment by segment: {html.escape(content.best.label)}</h2>'
                f'<p class="soft">The sections with a blue edge are about this row alone{mean}.</p></div>'
            )
        yield _section(section, plots.get(section.key, ()))


def _section(section: Section, plots: Sequence[Plot]) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>", *[f"<p>{_words(text)}</p>" for text in section.text]]
    if section.absent:
        parts.append(f'<ul class="absent">{"".join(f"<li>{_words(text)}</li>" for text in section.absent)}</ul>')
    open_tables, folded = ([_table(one) for one in section.tables if one.is_drawn == it] for it in (False, True))
    drawn = [*map(_figure, plots)]
    # The ranking is as wide as the page; elsewhere tables stand beside the plots.
    wide, beside = (open_tables, drawn) if section.key == "ranking" else ([], [*drawn, *open_tables])
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
        any(row[place].value is None and row[place].text for row in table.rows) for place in range(len(table.header))
    ]
    header = "".join(
        f'<th scope="col"{_class(word)}><button type="button">{html.escape(name)}</button></th>'
        for name, word in zip(table.header, is_word, strict=True)
    )
    rows = "".join(
        f"<tr{' class=best' if place == table.marked else ''}>"
        + "".join(_cell(cell, word) for cell, word in zip(row, is_word, strict=True))
        + "</tr>\n"
        for place, row in enumerate(table.rows)
    )
    is_ranking = table.marked is not None
    laid = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}">'
        f"<table{' class=ranking' if is_ranking else ''}><thead><tr>{header}</tr></thead>\n"
        f"<tbody>{rows}</tbody></table></div>"
    ) + "".join(f'<p class="soft">{_words(note)}</p>' for note in table.notes)
    if table.is_drawn:
        return f"<details><summary>{caption}</summary>{laid}</details>"
    return f'<div class="table"><h3>{caption}</h3>{laid}</div>'


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


def _words(text: str) -> str:
    """Give running text, with what stands between backquotes as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


def _footer() -> str:
    from features import __version__

    return (
        f'<p class="soft">Made by heads report, epic-heads {html.escape(__version__)}. Everything is in this file.</p>'
    )
