"""The plots of a report. Knows no HTML; the only importer of matplotlib, which it loads when it draws.

Colours are those of Okabe and Ito ("Color universal design", 2008), which colour-blind people can tell apart; each
comes with a marker or a line style of its own. Every plot is some 4.6 inches wide, so that its words can still be read
when it is as wide as a phone.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from heads.report.content import Content, Place, Reason
from heads.report.curves import Curve
from heads.report.detail import Bin, Matrix, Part, Third
from heads.report.factors import MOST_VALUES, Factor
from heads.report.growth import Growth
from heads.runs import group_of
from heads.scoring.metrics import TASKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_COLOUR = dict(zip(TASKS, (_OKABE_ITO[0], _OKABE_ITO[1], _OKABE_ITO[2]), strict=True))
_MARKER = dict(zip(TASKS, ("o", "s", "^"), strict=True))
_LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 3)))
_GREY = "#8A8A8A"
_WIDTH = 4.6  # inches
_MOST_ROWS, _MOST_CURVES, _LONGEST = 20, 7, 28
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.parse_math": False,  # a name may hold a dollar
    "svg.fonttype": "path",  # the same letters on every machine
    "svg.hashsalt": "epic-heads",  # the same bytes for the same content
}


@dataclass(frozen=True)
class Plot:
    """A drawing: SVG, and in words what it shows, for who cannot see it.

    Attributes:
        is_wide: it is legible only at its own width.
    """

    svg: bytes
    alt: str
    is_wide: bool = False


def draw(content: Content) -> dict[str, tuple[Plot, ...]]:
    """Draw what a report has plots of: key of a section -> its plots."""
    detail = content.detail
    drawn = {
        "ranking": [_ranking(content.places)],
        "curves": _curves(content.curves),
        "factors": [] if isinstance(content.factors, Reason) else _factors(content.factors),
        "growth": [] if isinstance(content.growth, Reason) else [_growth(content.growth)],
        "frequency": [_frequency(detail.thirds)] if detail.thirds else [],
        "confusions": [_matrix(task, matrix) for task, matrix in detail.matrices.items()],
        "lengths": [_lengths(detail.lengths)],
        "participants": [_participants(detail.participants, detail.strangers)],
        "calibration": [_reliability(task, bins) for task, bins in detail.reliability.items()],
    }
    return {key: tuple(plots) for key, plots in drawn.items()}


@contextlib.contextmanager
def _plot(height: float, width: float = _WIDTH) -> Iterator[tuple[Figure, Axes]]:
    """Give a figure of our style with one pair of axes, without pyplot, so that no window system is asked for."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def _svg(figure: Figure) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Of a name in letters that the font lacks; the tables have it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _short(name: str, longest: int = _LONGEST) -> str:
    """Give a name that leaves room for a plot: of a long one its two ends."""
    name = "".join(one if one.isprintable() else " " for one in name)
    half = longest // 2
    return name if len(name) <= longest else f"{name[: half - 1]}…{name[-half:]}"


def _in_lines(name: str) -> str:
    """Give a name that leaves room for a plot: a long one in two lines, cut where a sweep joins its settings."""
    joints = [match.end() for match in re.finditer("_", name)]
    if len(name) <= _LONGEST or not joints:
        return _short(name)
    cut = min(joints, key=lambda place: abs(place - len(name) / 2))
    return f"{_short(name[:cut])}\n{_short(name[cut:])}"


def _ranking(places: Sequence[Place]) -> Plot:
    shown = places[:_MOST_ROWS]
    marker = {"run": ("o", _OKABE_ITO[0]), "ensemble": ("D", _OKABE_ITO[1]), "file": ("s", _OKABE_ITO[2])}
    names = [_in_lines(place.label) for place in shown]
    is_long = any("\n" in name for name in names)
    with _plot(0.9 + (0.38 if is_long else 0.28) * len(shown)) as (figure, axes):
        for kind in dict.fromkeys(place.kind for place in shown):
            rows = [(y, place.group.row) for y, place in enumerate(shown) if place.kind == kind]
            shape, colour = marker[kind]
            for y, row in rows:
                if row.intervals:
                    axes.plot(row.intervals["action@1"], (y, y), color=colour, linewidth=1.4)
            x = [row.figures["action@1"] for _, row in rows]
            axes.plot(x, [y for y, _ in rows], shape, color=colour, markersize=6, label=kind)
        axes.set_yticks(range(len(shown)), names, fontsize=8 if is_long else 10)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlabel("action@1, % (line: 95 %)")
        axes.grid(visible=False, axis="y")
        if len({place.kind for place in shown}) > 1:
            figure.legend(loc="outside upper center", ncols=3)
        svg = _svg(figure)
    said = "; ".join(f"{place.label} {place.group.row.figures['action@1']:.1f}" for place in shown[:5])
    of = f"the first {len(shown)} of {len(places)} rows" if len(shown) < len(places) else "all rows"
    return Plot(svg, f"Action top-1 in percent with intervals, {of}, best first: {said}. The table has all figures.")


# ---- learning curves


def _curves(curves: Sequence[Curve]) -> list[Plot]:
    """Draw accuracy and losses; the first few rows in colours, all others in grey."""
    scored = [curve for curve in curves if curve.best_epoch is not None]
    plots = []
    if scored:
        plots.append(_learning(scored, {"val_action_top1": "action@1, %"}))
    plots.append(_learning(curves, {"train_loss": "training loss"}))
    if any("val_loss" in curve.values for curve in curves):
        plots.append(_learning(scored, {"val_loss": "validation loss"}))
    return plots


def _learning(curves: Sequence[Curve], column: Mapping[str, str]) -> Plot:
    ((name, label),) = column.items()
    groups: dict[object, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(curve.run.with_name(group_of(curve.run)), []).append(curve)
    with _plot(2.9 + 0.19 * min(len(groups), _MOST_CURVES)) as (figure, axes):
        for place, (group, members) in reversed(list(enumerate(groups.items()))):
            in_colour = place < _MOST_CURVES
            style = (
                {"color": _OKABE_ITO[place], "linestyle": _LINES[place], "zorder": 3}
                if in_colour
                else {"color": "#CFCFCF"}
            )
            title = _short(group.name, 2 * _LONGEST - 8)
            for member in members:
                x, y = member.values["epoch"], member.values[name]
                axes.plot(x, y, linewidth=1.3 if in_colour else 0.8, label=title if in_colour else None, **style)
                mark = ("o", "x")[not member.is_over]
                end = {"color": style["color"], "zorder": 4}
                axes.plot(x[-1:], y[-1:], mark, markersize=4 if member.is_over else 7, **end)
                title = None  # one entry for all seeds
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        handles, titles = axes.get_legend_handles_labels()
        figure.legend(handles[::-1], titles[::-1], loc="outside lower center", ncols=1, handlelength=3.2)
        svg = _svg(figure)
    more = f" The other {len(groups) - _MOST_CURVES} rows are grey." if len(groups) > _MOST_CURVES else ""
    alt = (
        f"{label} by epoch, a line for each of {len(curves)} runs; a dot is where a run ended, a cross where it was cut"
    )
    return Plot(svg, f"{alt} off.{more} The table below has the best epochs.")


# ---- settings


def _factors(factors: Sequence[Factor]) -> list[Plot]:
    shown = [factor for factor in factors if len(factor.effects) <= MOST_VALUES]
    return [_factor(factor, shown) for factor in shown]


def _factor(factor: Factor, beside: Sequence[Factor]) -> Plot:
    """Draw one setting, on the scale that all of them share, so that reaches can be compared by eye."""
    low = min(effect.lowest for one in beside for effect in one.effects)
    high = max(effect.highest for one in beside for effect in one.effects)
    with _plot(1.1 + 0.34 * len(factor.effects)) as (figure, axes):
        for y, effect in enumerate(factor.effects):
            axes.plot((effect.lowest, effect.highest), (y, y), color=_OKABE_ITO[5], linewidth=2)
            axes.plot(effect.means["action@1"], y, "o", color=_OKABE_ITO[0], markersize=7)
        axes.set_yticks(
            range(len(factor.effects)), [f"{_short(effect.value)} ({effect.num_runs})" for effect in factor.effects]
        )
        axes.set_ylim(len(factor.effects) - 0.5, -0.5)
        margin = 0.05 * (high - low) or 1.0
        axes.set_xlim(low - margin, high + margin)
        mixed = "" if factor.is_balanced else " (confounded)"
        axes.set_title(f"{_short(factor.name)}: reach {factor.reach:.1f}{mixed}", loc="left", fontsize=11)
        axes.set_xlabel("action@1, %")
        axes.grid(visible=False, axis="y")
        svg = _svg(figure)
    said = ", ".join(f"{effect.value} {effect.means['action@1']:.1f}" for effect in factor.effects)
    return Plot(svg, f"Mean action top-1 in percent by {factor.name}, with a line from worst to best run: {said}.")


def _growth(growth: Mapping[str, Growth]) -> Plot:
    with _plot(3.4) as (figure, axes):
        for (name, one), colour, shape, line in zip(growth.items(), _OKABE_ITO, "os", _LINES, strict=False):
            x = np.arange(1, len(one.mean) + 1)
            axes.plot(x, one.mean, color=colour, marker=shape, linestyle=line, label=_short(name))
            axes.fill_between(x, one.lowest, one.highest, color=colour, alpha=0.15, linewidth=0)
        axes.set_xlabel("runs in the ensemble")
        axes.set_ylabel("action@1, %")
        axes.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(loc="outside lower center", handlelength=3.2)
        svg = _svg(figure)
    said = "; ".join(
        f"{name}: from {one.mean[0]:.1f} to {one.mean[-1]:.1f} with {len(one.mean)}" for name, one in growth.items()
    )
    return Plot(svg, f"Action top-1 in percent of ensembles by their size. {said}.")


# ---- the best row


def _frequency(thirds: Mapping[str, Sequence[Third]]) -> Plot:
    with _plot(3.2) as (figure, axes):
        names = list(dict.fromkeys(third.name for group in thirds.values() for third in group))
        for shift, (task, group) in zip((-0.08, 0.08), thirds.items(), strict=True):
            scored = [third for third in group if third.part is not None]
            x = [names.index(third.name) + shift for third in scored]
            _with_intervals(axes, x, [third.part for third in scored], task, line=":")
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("top-1, %")
        figure.legend(loc="outside upper center", ncols=2)
        svg = _svg(figure)
    said = "; ".join(
        f"{task}s: " + ", ".join(f"{one.name} {one.part.figures[task]:.1f}" for one in group if one.part is not None)
        for task, group in thirds.items()
    )
    return Plot(svg, f"Top-1 in percent by how often training shows a class. {said}.")


def _with_intervals(axes: Axes, x: Sequence[float], parts: Sequence[Part], task: str, *, line: str) -> None:
    inputs = {"color": _COLOUR[task]}
    axes.plot(x, [part.figures[task] for part in parts], line, marker=_MARKER[task], label=task, **inputs)
    for at, part in zip(x, parts, strict=True):
        if task in part.intervals:
            axes.plot((at, at), part.intervals[task], linewidth=1.2, **inputs)


def _lengths(parts: Sequence[Part]) -> Plot:
    with _plot(3.4) as (figure, axes):
        for task, shift in zip(TASKS, (-0.1, 0.0, 0.1), strict=True):
            _with_intervals(axes, [place + shift for place in range(len(parts))], parts, task, line=":")
        labels = [re.sub("^under |to |or ", r"\g<0>\n", part.name) for part in parts]
        numbers = [f"({part.num_segments:,})" for part in parts]
        axes.set_xticks(range(len(parts)), map("\n".join, zip(labels, numbers, strict=True)), fontsize=8)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("length (segments)")
        axes.set_ylabel("top-1, %")
        figure.legend(loc="outside upper center", ncols=3)
        svg = _svg(figure)
    said = ", ".join(f"{part.name} {part.figures['action']:.1f}" for part in parts)
    return Plot(svg, f"Action top-1 in percent by segment length: {said}.")


def _participants(parts: Sequence[Part], strangers: frozenset[str]) -> Plot:
    order = sorted(parts, key=lambda part: -part.figures["action"])
    with _plot(0.9 + 0.24 * len(order)) as (figure, axes):
        for task in TASKS:
            x = [part.figures[task] for part in order]
            axes.plot(x, range(len(order)), _MARKER[task], color=_COLOUR[task], markersize=5, label=task)
        for y, part in enumerate(order):
            if "action" in part.intervals:
                axes.plot(part.intervals["action"], (y, y), color=_COLOUR["action"], linewidth=1.2)
        names = [f"{part.name}{' unseen' if part.name in strangers else ''} ({part.num_segments:,})" for part in order]
        axes.set_yticks(range(len(order)), names, fontsize=9)
        axes.set_ylim(len(order) - 0.5, -0.5)
        axes.set_xlabel("top-1, % (line: 95 % of action)")
        axes.grid(visible=True, axis="y")
        figure.legend(loc="outside upper center", ncols=3)
        svg = _svg(figure)
    said = ", ".join(f"{part.name} {part.figures['action']:.1f}" for part in order[:8])
    return Plot(svg, f"Action top-1 in percent by participant, best first: {said}. The table has all of them.")


def _matrix(task: str, matrix: Matrix) -> Plot:
    percent = np.array(matrix.percent)
    num_rows, num_columns = percent.shape
    with _plot(1.5 + 0.42 * num_rows, width=2.0 + 0.42 * num_columns) as (figure, axes):
        axes.imshow(percent, cmap="cividis", vmin=0, vmax=100, aspect="equal")
        for row, column in itertools.product(range(num_rows), range(num_columns)):
            value = percent[row, column]
            if value >= 0.5:
                colour = "black" if value > 55 else "white"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=9)
        names = [_short(name) for name in matrix.classes]
        axes.set_xticks(range(num_columns), [*names, "any other"], rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(
            range(num_rows), [f"{name} ({num:,})" for name, num in zip(names, matrix.num_segments, strict=True)]
        )
        axes.set_xlabel("taken for")
        axes.set_ylabel(f"true {task} (segments)")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        svg = _svg(figure)
    right = ", ".join(f"{name} {percent[place, place]:.0f}" for place, name in enumerate(matrix.classes))
    return Plot(
        svg, f"Confusion matrix of the most frequent {task}s, percent of each row. Right: {right}.", is_wide=True
    )


def _reliability(task: str, bins: Sequence[Bin]) -> Plot:
    with _plot(3.4) as (figure, axes):
        axes.plot((0, 100), (0, 100), "--", color=_GREY, linewidth=1, label="as sure as it should be")
        x, y, num = ([getattr(one, field) for one in bins] for field in ("confidence", "accuracy", "num"))
        axes.plot(x, y, color=_COLOUR[task], linewidth=1)
        sizes = 15 + 180 * np.array(num) / max(num)
        axes.scatter(
            x,
            y,
            s=sizes,
            marker=_MARKER[task],
            color=_COLOUR[task],
            label=f"{task} (size: segments)",
            clip_on=False,
            zorder=3,
        )
        axes.set_xlim(0, 102)
        axes.set_ylim(0, 102)
        axes.set_xlabel("confidence, %")
        axes.set_ylabel("accuracy, %")
        figure.legend(loc="outside lower center", ncols=2)
        svg = _svg(figure)
    said = ", ".join(f"{one.confidence:.0f}: {one.accuracy:.0f}" for one in bins)
    return Plot(svg, f"Reliability of {task}s, accuracy in percent by confidence: {said}.")
