"""A report as one HTML page, with its style, script and plots inside. Computes nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources

from heads.report.compute import Report
from heads.report.document import Cell, Command, Section, Table
from heads.report.figure import Key, Plot
from heads.report.gallery import Gallery
from heads.report.sections import sections_of, summary_of, title_of
from heads.report.strips import gallery_section, gallery_strips


def as_page(report: Report, plots: Mapping[str, Sequence[Plot]], gallery: Gallery | None = None) -> str:
    """Return a report as HTML.

    Args:
        plots: key of a section -> its plots, as `heads.report.plots.draw` gives them.
        gallery: strips of frames; a page without them has no section for them.
    """
    style, script = _asset("page.css"), _asset("page.js")
    sections = sections_of(report)
    if gallery is not None:
        style, script = style + _asset("gallery.css"), script + _asset("gallery.js")
        sections = (*sections[:-1], gallery_section(gallery), sections[-1])
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
            f"<header>\n<h1>{_name(title_of(report))}</h1>\n{_subtitle(report)}\n{_cards(report)}\n{_contents(sections)}\n</header>\n<main>",
            *_body(sections, report, plots, "" if gallery is None else gallery_strips(gallery)),
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
    num_rows = len(report.rows) + len(report.stopped)
    written = f"{report.written.day} {report.written:%B %Y}"
    facts = [("Date", written), ("Scored on", scored), ("Features", ", ".join(report.features) or "not recorded")]
    listed = "".join(f"<div><dt>{name}</dt><dd>{_name(fact)}</dd></div>" for name, fact in facts)
    return f'<p class="soft">The best of {num_rows} rows ({seeds}).</p>\n<dl class="facts">{listed}</dl>'


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


def _body(
    sections: Sequence[Section], report: Report, plots: Mapping[str, Sequence[Plot]], strips: str
) -> Iterator[str]:
    has_banner = False
    for section in sections:
        if section.of_best and not has_banner:
            has_banner = True
            seeds = report.best.score.num_seeds
            mean = f", as the mean of its {seeds} seeds" if seeds > 1 else ""
            yield (
                f'<div class="banner"><h2>The best row, segment by segment: {_name(report.best.label)}</h2>'
                f'<p class="soft">The sections with a blue edge are about this row only{mean}.</p></div>'
            )
        yield _section(section, plots.get(section.key, ()), strips if section.key == "gallery" else "")


def _section(section: Section, plots: Sequence[Plot], strips: str) -> str:
    text = [f"<p>{_text(text)}</p>" for text in section.text]
    if section.absent:
        text.append(f'<ul class="absent">{"".join(f"<li>{_text(text)}</li>" for text in section.absent)}</ul>')
    folded = [_table(table) for table in section.tables if table.is_drawn]
    tables = [_table(table) for table in section.tables if not table.is_drawn]
    legends = map(_legend, dict.fromkeys(plot.legend for plot in plots if plot.legend))
    figures = [_figure(plot) for plot in plots]
    if section.key == "ranking":  # its table is as wide as the page
        body = [_beside("pair", "".join(text), "".join(figures)), *tables]
    elif any(plot.is_wide for plot in plots):
        body = [*text, _beside("two", *figures, *tables)]
    elif len(figures) == 1 and tables:
        body = [*text, *legends, _beside("pair", *figures, "".join(tables))]
    elif len(figures) == 1:
        body = [_beside("pair", "".join([*text, *legends]), *figures)]
    else:
        columns = "two" if len(figures) in (2, 4) else "three"  # so that none is alone in its row
        body = [*text, *legends, _beside(columns, *figures), _beside("two", *tables)]
    parts = [f"<h2>{html.escape(section.title)}</h2>", *body, *folded, strips, *map(_command, section.commands)]
    of_best = ' class="of-best"' if section.of_best else ""
    return f'<section id="{section.key}"{of_best}>\n' + "\n".join(part for part in parts if part) + "\n</section>"


def _beside(layout: str, *parts: str) -> str:
    """Return parts that a wide page shows beside each other."""
    return f'<div class="side {layout}">{"".join(f"<div>{part}</div>" for part in parts)}</div>' if parts else ""


def _legend(keys: Sequence[Key]) -> str:
    """Return the legend of the plots of a section: they share it, and names that are too long for a plot fit here."""
    return f'<ul class="legend" aria-label="Legend">{"".join(map(_key, keys))}</ul>'


def _key(key: Key) -> str:
    dashes = " ".join(f"{2 * length:g}" for length in key.dashes) or "none"
    line = f'<line x1="0" y1="5" x2="36" y2="5" stroke="{key.colour}" stroke-width="2.5" stroke-dasharray="{dashes}"/>'
    return f'<li><svg width="36" height="10" aria-hidden="true">{line}</svg><span>{_name(key.name)}</span></li>'


def _figure(plot: Plot) -> str:
    data = base64.b64encode(plot.svg).decode()
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{html.escape(plot.alt)}">'
    return f"<figure>{_scrolling(image, 'A plot that scrolls sideways', 'wide') if plot.is_wide else image}</figure>"


def _scrolling(content: str, label: str, kind: str) -> str:
    """Return a box that scrolls sideways if it has to; page.js then marks the edge that hides something."""
    role = "region" if kind == "rows" else "group"
    box = f'<div class="scroll {kind}" tabindex="0" role="{role}" aria-label="{label}">{content}</div>'
    return f'<div class="edges">{box}</div><p class="hint soft" hidden>Scroll sideways to see the rest.</p>'


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
    content = f"<table><thead><tr>{header}</tr></thead>\n<tbody>{rows}</tbody></table>"
    scrolled = _scrolling(content, caption, "rows") + "".join(
        f'<p class="soft">{_text(note)}</p>' for note in table.notes
    )
    if table.is_drawn:
        return f"<details><summary>{caption}</summary>{scrolled}</details>"
    return f'<div class="table"><h3>{caption}</h3>{scrolled}</div>'


def _class(word: bool) -> str:
    return ' class="word"' if word else ""


def _cell(cell: Cell, word: bool) -> str:
    value = "" if cell.value is None else f' data-value="{float(cell.value)!r}"'
    detail = f"<small>{html.escape(cell.detail)}</small>" if cell.detail else ""
    return f"<td{_class(word)}{value}>{_name(cell.text) if word else html.escape(cell.text)}{detail}</td>"


def _name(text: str) -> str:
    """Return a name as HTML that breaks between settings, else between words, and only if it has to elsewhere."""
    return _parts(
        text, r"(?<=[^\s/])[_/]", lambda setting: _parts(setting, r"(?<=[A-Za-z])\.|(?<=[A-Za-z]{2})-(?!-)", _unbroken)
    )


def _parts(text: str, joint: str, as_html: Callable[[str], str]) -> str:
    """Return a text as HTML in which every part, to the end of its joint, stays in one line if it can."""
    ends = [match.end() for match in re.finditer(joint, text) if match.end() < len(text)]
    parts = [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    return "".join(f'<span class="part">{as_html(part)}</span>' if ends else as_html(part) for part in parts)


def _unbroken(text: str) -> str:
    """Return a text as HTML in which options such as --split-train-val are not broken at their hyphens."""
    return re.sub(r"(--[a-z][a-z-]*)", r'<span class="option">\1</span>', html.escape(text))


def _command(command: Command) -> str:
    line = f"<pre><code>{_line(command.line)}</code></pre>" if command.line else ""
    notes = "".join(f"<li>{_name(note)}</li>" for note in command.notes)
    return f'<div class="command"><h3>{_name(command.name)}</h3>{line}<ul class="notes">{notes}</ul></div>'


def _line(line: str) -> str:
    """Return a shell command as HTML that breaks between its words."""
    return " ".join(f'<span class="part">{_name(shlex.quote(word))}</span>' for word in shlex.split(line))


def _text(text: str) -> str:
    """Return running text as HTML; text between backquotes is code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", _unbroken(text))


def _footer() -> str:
    from features import __version__

    made_by = f"Written by heads report, epic-heads {html.escape(__version__)}."
    return f'<p class="soft">{made_by} This file is complete; it loads nothing else.</p>'
