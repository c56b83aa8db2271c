"""The plots of a report. Knows no HTML; alone imports matplotlib, when it draws.

Colours are those of Okabe and Ito ("Color universal design", 2008), which colour-blind people can tell apart; each
has its own marker or line style. Most plots are 4.6 inches wide, so that their text is legible on a phone.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.console import short_names
from heads.report.breakdown import ConfidenceBin, ConfusionMatrix, FrequencyGroup, Subset
from heads.report.compute import Missing, RankedRow, Report
from heads.report.curves import Curve
from heads.report.ensemble_size import GainBySize
from heads.report.factors import MOST_VALUES, Factor
from heads.runs import group_of
from heads.scoring.metrics import TASKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_COLOUR = dict(zip(TASKS, (_OKABE_ITO[0], _OKABE_ITO[1], _OKABE_ITO[2]), strict=True))
_MARKER = dict(zip(TASKS, ("o", "s", "^"), strict=True))
_LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 3)))
_GREY = "#8A8A8A"
_WIDTH = 4.6  # inches
_MOST_ROWS, _MOST_CURVES, _LONGEST = 20, 7, 28
_STYLE: dict[Any, Any] = {
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
    "svg.hashsalt": "epic-heads",  # the same bytes for the same report
}


@dataclass(frozen=True)
class Plot:
    """A plot as SVG, and a text that says what it shows.

    Attributes:
        is_wide: whether it is legible at its full width only.
    """

    svg: bytes
    alt: str
    is_wide: bool = False


def draw(report: Report) -> dict[str, tuple[Plot, ...]]:
    """Return the plots of a report: key of a section -> its plots."""
    breakdown = report.breakdown
    drawn = {
        "ranking": [_ranking(report.rows)],
        "curves": _curves(report.curves),
        "factors": [] if isinstance(report.factors, Missing) else _factors(report.factors),
        "growth": [] if isinstance(report.gain_by_size, Missing) else [_gain_by_size(report.gain_by_size)],
        "frequency": [_frequency(breakdown.frequency)] if breakdown.frequency else [],
        "confusions": [_matrix(task, matrix) for task, matrix in breakdown.matrices.items()],
        "lengths": [_lengths(breakdown.lengths)],
        "participants": [_participants(breakdown.participants, breakdown.unseen_participants)],
        "calibration": [_reliability(task, bins) for task, bins in breakdown.reliability.items()],
    }
    return {key: tuple(plots) for key, plots in drawn.items()}


@contextlib.contextmanager
def _plot(height: float, width: float = _WIDTH) -> Iterator[tuple[Figure, Axes]]:
    """Return a figure with one pair of axes. It is made without pyplot, which would look for a window system."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def _svg(figure: Figure) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Some names have letters that the font lacks; the tables show them in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _short(name: str, longest: int = _LONGEST) -> str:
    """Return a name that leaves room for the plot: a long name is cut in the middle."""
    name = "".join(character if character.isprintable() else " " for character in name)
    half = longest // 2
    return name if len(name) <= longest else f"{name[: half - 1]}…{name[-half:]}"


def _in_lines(name: str) -> str:
    """Return a name that leaves room for the plot: a long name has two lines, split where a sweep joins settings."""
    joints = [match.end() for match in re.finditer("_", name)]
    if len(name) <= _LONGEST or not joints:
        return _short(name)
    cut = min(joints, key=lambda joint: abs(joint - len(name) / 2))
    return f"{_short(name[:cut])}\n{_short(name[cut:])}"


def _ranking(rows: Sequence[RankedRow]) -> Plot:
    shown = rows[:_MOST_ROWS]
    marker = {"run": ("o", _OKABE_ITO[0]), "ensemble": ("D", _OKABE_ITO[1]), "file": ("s", _OKABE_ITO[2])}
    names = [_in_lines(row.label) for row in shown]
    is_long = any("\n" in name for name in names)
    with _plot(0.9 + (0.38 if is_long else 0.28) * len(shown)) as (figure, axes):
        for kind in dict.fromkeys(row.kind for row in shown):
            scores = [(y, row.score) for y, row in enumerate(shown) if row.kind == kind]
            shape, colour = marker[kind]
            for y, score in scores:
                if score.intervals:
                    axes.plot(score.intervals["action@1"], (y, y), color=colour, linewidth=1.4)
            x = [score.figures["action@1"] for _, score in scores]
            axes.plot(x, [y for y, _ in scores], shape, color=colour, markersize=6, label=kind)
        axes.set_yticks(range(len(shown)), names, fontsize=8 if is_long else 10)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlabel("action@1, % (line: 95 % interval)")
        axes.grid(visible=False, axis="y")
        if len({row.kind for row in shown}) > 1:
            figure.legend(loc="outside upper center", ncols=3)
        svg = _svg(figure)
    first = "; ".join(f"{row.label} {row.score.figures['action@1']:.1f}" for row in shown[:5])
    extent = f"the first {len(shown)} of {len(rows)} rows" if len(shown) < len(rows) else "all rows"
    return Plot(
        svg, f"Action top-1 in percent with intervals, {extent}, best first: {first}. The table has all numbers."
    )


# ---- learning curves


def _curves(curves: Sequence[Curve]) -> list[Plot]:
    """Return plots of accuracy and losses; the first runs are in colours, all others in grey."""
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
    groups: dict[Path, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(curve.run.with_name(group_of(curve.run)), []).append(curve)
    names = short_names(groups)
    with _plot(2.9 + 0.19 * min(len(groups), _MOST_CURVES)) as (figure, axes):
        for index, members in reversed(list(enumerate(groups.values()))):
            in_colour = index < _MOST_CURVES
            style: dict[str, Any] = {"color": "#CFCFCF", "linewidth": 0.8}
            if in_colour:
                style = {"color": _OKABE_ITO[index], "linestyle": _LINES[index], "linewidth": 1.3, "zorder": 3}
            title = _short(names[index], 2 * _LONGEST - 8)
            for number, member in enumerate(members):
                x, y = member.values["epoch"], member.values[name]
                # The legend has one entry for all seeds.
                axes.plot(x, y, label=title if in_colour and number == 0 else None, **style)
                marker, size = ("o", 4) if member.is_over else ("x", 7)
                axes.plot(x[-1:], y[-1:], marker, markersize=size, color=style["color"], zorder=4)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        handles, titles = axes.get_legend_handles_labels()
        figure.legend(handles[::-1], titles[::-1], loc="outside lower center", ncols=1, handlelength=3.2)
        svg = _svg(figure)
    more = f" The other {len(groups) - _MOST_CURVES} runs are grey." if len(groups) > _MOST_CURVES else ""
    alt = (
        f"{label} by epoch, a line for each of {len(curves)} runs; a dot marks where a run ended, a cross where it was"
    )
    return Plot(svg, f"{alt} interrupted.{more} The table below has the best epochs.")


# ---- settings


def _factors(factors: Sequence[Factor]) -> list[Plot]:
    shown = [factor for factor in factors if len(factor.effects) <= MOST_VALUES]
    return [_factor(factor, shown) for factor in shown]


def _factor(factor: Factor, shown: Sequence[Factor]) -> Plot:
    """Return a plot of one setting, on the scale of all that are shown, so that ranges can be compared by eye."""
    low = min(effect.lowest for other in shown for effect in other.effects)
    high = max(effect.highest for other in shown for effect in other.effects)
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
        axes.set_title(f"{_short(factor.name)}: range {factor.range:.1f} points{mixed}", loc="left", fontsize=11)
        axes.set_xlabel("action@1, %")
        axes.grid(visible=False, axis="y")
        svg = _svg(figure)
    means = ", ".join(f"{effect.value} {effect.means['action@1']:.1f}" for effect in factor.effects)
    return Plot(svg, f"Mean action top-1 in percent by {factor.name}, with a line from worst to best run: {means}.")


def _gain_by_size(gains: Mapping[str, GainBySize]) -> Plot:
    with _plot(3.4) as (figure, axes):
        for (name, gain), colour, shape, line in zip(gains.items(), _OKABE_ITO, "os", _LINES, strict=False):
            x = np.arange(1, len(gain.mean) + 1)
            axes.plot(x, gain.mean, color=colour, marker=shape, linestyle=line, label=_short(name))
            axes.fill_between(x, gain.lowest, gain.highest, color=colour, alpha=0.15, linewidth=0)
        axes.set_xlabel("runs in the ensemble")
        axes.set_ylabel("action@1, %")
        axes.locator_params(axis="x", integer=True)
        figure.legend(loc="outside lower center", handlelength=3.2)
        svg = _svg(figure)
    ends = "; ".join(
        f"{name}: from {gain.mean[0]:.1f} to {gain.mean[-1]:.1f} with {len(gain.mean)}" for name, gain in gains.items()
    )
    return Plot(svg, f"Action top-1 in percent of ensembles by their size. {ends}.")


# ---- the best row


def _frequency(groups: Mapping[str, Sequence[FrequencyGroup]]) -> Plot:
    with _plot(3.2) as (figure, axes):
        names = list(dict.fromkeys(group.name for of_task in groups.values() for group in of_task))
        scored = {
            task: [(group.name, group.subset) for group in of_task if group.subset is not None]
            for task, of_task in groups.items()
        }
        for shift, (task, pairs) in zip((-0.08, 0.08), scored.items(), strict=True):
            x = [names.index(name) + shift for name, _ in pairs]
            _with_intervals(axes, x, [subset for _, subset in pairs], task, line=":")
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("top-1, %")
        figure.legend(loc="outside upper center", ncols=2)
        svg = _svg(figure)
    accuracies = "; ".join(
        f"{task}s: " + ", ".join(f"{name} {subset.figures[task]:.1f}" for name, subset in pairs)
        for task, pairs in scored.items()
    )
    return Plot(svg, f"Top-1 in percent by how often training shows a class. {accuracies}.")


def _with_intervals(axes: Axes, x: Sequence[float], subsets: Sequence[Subset], task: str, *, line: str) -> None:
    colour = _COLOUR[task]
    axes.plot(x, [subset.figures[task] for subset in subsets], line, marker=_MARKER[task], label=task, color=colour)
    for position, subset in zip(x, subsets, strict=True):
        if task in subset.intervals:
            axes.plot((position, position), subset.intervals[task], linewidth=1.2, color=colour)


def _lengths(subsets: Sequence[Subset]) -> Plot:
    with _plot(3.4) as (figure, axes):
        for task, shift in zip(TASKS, (-0.1, 0.0, 0.1), strict=True):
            _with_intervals(axes, [index + shift for index in range(len(subsets))], subsets, task, line=":")
        labels = [re.sub("^under |to |or ", r"\g<0>\n", subset.name) for subset in subsets]
        numbers = [f"({subset.num_segments:,})" for subset in subsets]
        axes.set_xticks(range(len(subsets)), map("\n".join, zip(labels, numbers, strict=True)), fontsize=8)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("segment length (number of segments)")
        axes.set_ylabel("top-1, %")
        figure.legend(loc="outside upper center", ncols=3)
        svg = _svg(figure)
    accuracies = ", ".join(f"{subset.name} {subset.figures['action']:.1f}" for subset in subsets)
    return Plot(svg, f"Action top-1 in percent by segment length: {accuracies}.")


def _participants(subsets: Sequence[Subset], unseen: frozenset[str]) -> Plot:
    order = sorted(subsets, key=lambda subset: -subset.figures["action"])
    with _plot(0.9 + 0.24 * len(order)) as (figure, axes):
        for task in TASKS:
            x = [subset.figures[task] for subset in order]
            axes.plot(x, range(len(order)), _MARKER[task], color=_COLOUR[task], markersize=5, label=task)
        for y, subset in enumerate(order):
            if "action" in subset.intervals:
                axes.plot(subset.intervals["action"], (y, y), color=_COLOUR["action"], linewidth=1.2)
        names = [
            f"{subset.name}{' unseen' if subset.name in unseen else ''} ({subset.num_segments:,})" for subset in order
        ]
        axes.set_yticks(range(len(order)), names, fontsize=9)
        axes.set_ylim(len(order) - 0.5, -0.5)
        axes.set_xlabel("top-1, % (line: 95 % interval of action)")
        axes.grid(visible=True, axis="y")
        figure.legend(loc="outside upper center", ncols=3)
        svg = _svg(figure)
    first = ", ".join(f"{subset.name} {subset.figures['action']:.1f}" for subset in order[:8])
    return Plot(svg, f"Action top-1 in percent by participant, best first: {first}. The table has all of them.")


def _matrix(task: str, matrix: ConfusionMatrix) -> Plot:
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
        axes.set_xlabel(f"predicted {task}, % of the true class")
        axes.set_ylabel(f"true {task} (segments)")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        svg = _svg(figure)
    right = ", ".join(f"{name} {percent[index, index]:.0f}" for index, name in enumerate(matrix.classes))
    return Plot(
        svg, f"Confusion matrix of the most frequent {task}s, percent of each row. Right: {right}.", is_wide=True
    )


def _reliability(task: str, bins: Sequence[ConfidenceBin]) -> Plot:
    with _plot(3.4) as (figure, axes):
        axes.plot((0, 100), (0, 100), "--", color=_GREY, linewidth=1, label="perfectly calibrated")
        x, y, num = ([getattr(bin_, name) for bin_ in bins] for name in ("confidence", "accuracy", "num"))
        axes.plot(x, y, color=_COLOUR[task], linewidth=1)
        sizes = 15 + 180 * np.array(num) / max(num)
        axes.scatter(
            x,
            y,
            s=sizes,
            marker=_MARKER[task],
            color=_COLOUR[task],
            label=f"{task} (size: number of segments)",
            clip_on=False,
            zorder=3,
        )
        axes.set_xlim(0, 102)
        axes.set_ylim(0, 102)
        axes.set_xlabel("confidence, %")
        axes.set_ylabel("accuracy, %")
        figure.legend(loc="outside lower center", ncols=2)
        svg = _svg(figure)
    points = ", ".join(f"{bin_.confidence:.0f}: {bin_.accuracy:.0f}" for bin_ in bins)
    return Plot(svg, f"Reliability of {task}s, accuracy in percent by confidence: {points}.")
