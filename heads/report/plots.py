"""The plots of a report: all rows and runs, and what best_plots.py draws of the best row. Knows no HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from features.console import short_names
from heads.report import best_plots
from heads.report.compute import Missing, Report
from heads.report.curves import Curve
from heads.report.ensemble_size import GainBySize
from heads.report.factors import MOST_VALUES, Factor
from heads.report.figure import (
    DASHES,
    GREY,
    OKABE_ITO,
    Key,
    Plot,
    accuracies_on,
    counts_on,
    in_lines,
    plot,
    short,
    svg_of,
)
from heads.report.ranking import Ranking

_MOST_ROWS, _MOST_CURVES = 20, len(DASHES)
_OTHERS = "#CFCFCF"


def draw(report: Report) -> dict[str, tuple[Plot, ...]]:
    """Return the plots of a report: key of a section -> its plots."""
    breakdown = report.breakdown
    drawn = {
        "ranking": [_ranking(report.rankings[0])],
        "curves": _curves(report.curves),
        "factors": [] if isinstance(report.factors, Missing) else _factors(report.factors),
        "growth": [] if isinstance(report.gain_by_size, Missing) else [_gain_by_size(report.gain_by_size)],
        "frequency": [best_plots.frequency(breakdown.frequency)] if breakdown.frequency else [],
        "confusions": [best_plots.matrix(task, matrix) for task, matrix in breakdown.matrices.items()],
        "lengths": [best_plots.lengths(breakdown.lengths)],
        "participants": [best_plots.participants(breakdown.participants, breakdown.unseen_participants)],
        "calibration": [best_plots.reliability(task, bins) for task, bins in breakdown.reliability.items()],
    }
    return {key: tuple(plots) for key, plots in drawn.items()}


def _ranking(ranking: Ranking) -> Plot:
    shown = ranking.lines[:_MOST_ROWS]
    marker = dict(zip(("run", "ensemble", "file", "stopped"), zip("oDso", OKABE_ITO, strict=False), strict=True))
    names = [in_lines(score.name) for _, score in shown]
    is_long = any("\n" in name for name in names)
    with plot(0.9 + (0.38 if is_long else 0.28) * len(shown)) as (figure, axes):
        kinds = list(dict.fromkeys(kind for kind, _ in shown))
        for kind in kinds:
            scores = [(y, score) for y, (of, score) in enumerate(shown) if of == kind]
            shape, colour = marker[kind]
            for y, score in scores:
                if score.intervals:
                    axes.plot(score.intervals["action@1"], (y, y), color=colour, linewidth=1.4)
            x = [score.figures["action@1"] for _, score in scores]
            fill = "white" if kind == "stopped" else colour
            axes.plot(x, [y for y, _ in scores], shape, color=colour, mfc=fill, markersize=6, label=kind)
        axes.set_yticks(range(len(shown)), names, fontsize=8 if is_long else 10)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        highest = [max(score.intervals.get("action@1", (0, 0))[1], score.figures["action@1"]) for _, score in shown]
        accuracies_on(axes, "x", highest)
        axes.set_xlabel("action@1, % (line: 95 % interval)")
        axes.grid(visible=False, axis="y")
        if len(kinds) > 1:
            figure.legend(loc="outside upper center", ncols=4)
        svg = svg_of(figure)
    first = "; ".join(f"{score.name} {score.figures['action@1']:.1f}" for _, score in shown[:5])
    num_lines = len(ranking.lines)
    extent = f"the first {len(shown)} of {num_lines} rows" if len(shown) < num_lines else "all rows"
    return Plot(
        svg, f"Action top-1 in percent with intervals, {extent}, best first: {first}. The table has all numbers."
    )


# ---- learning curves


def _curves(curves: Sequence[Curve]) -> list[Plot]:
    """Return plots of accuracy and losses; the first runs are in colours, all others in grey."""
    scored = [curve for curve in curves if curve.best_epoch is not None]
    columns = {"val_action_top1": "action@1, %", "train_loss": "training loss", "val_loss": "validation loss"}
    names = list(dict.fromkeys(curve.variant for curve in [*scored, *curves]))
    return [
        _learning([curve for curve in curves if column in curve.values], column, label, names)
        for column, label in columns.items()
        if any(column in curve.values for curve in curves)
    ]


def _legend(variants: Sequence[Path]) -> tuple[Key, ...]:
    """Return a key for each of the first variants, and one for all others."""
    styles = zip(short_names(variants), OKABE_ITO, DASHES, strict=False)
    keys = [Key(*style) for style in styles]
    num_others = len(variants) - len(keys)
    return (*keys, *([Key(f"{num_others} others", _OTHERS)] if num_others else []))


def _learning(curves: Sequence[Curve], column: str, label: str, variants: Sequence[Path]) -> Plot:
    legend = _legend(variants)
    with plot(2.9) as (figure, axes):
        for curve in reversed(curves):
            index = variants.index(curve.variant)
            style: dict[str, Any] = {"color": _OTHERS, "linewidth": 0.8}
            if index < _MOST_CURVES:
                dashes = legend[index].dashes
                style = {"color": legend[index].colour, "linewidth": 1.3, "zorder": 3}
                style["linestyle"] = (0, dashes) if dashes else "-"
            x, y = curve.values["epoch"], curve.values[column]
            axes.plot(x, y, **style)
            marker, size = ("o", 4) if curve.is_over else ("x", 7)
            axes.plot(x[-1:], y[-1:], marker, markersize=size, color=style["color"], zorder=4)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        counts_on(axes)
        if "top1" in column:
            accuracies_on(axes, "y", [value for curve in curves for value in curve.values[column]])
        svg = svg_of(figure)
    alt = (
        f"{label} by epoch, a line for each of {len(curves)} runs; a dot marks where a run ended, a cross where it was "
        "interrupted. The table below has the best epochs."
    )
    return Plot(svg, alt, legend=legend)


# ---- settings


def _factors(factors: Sequence[Factor]) -> list[Plot]:
    shown = [factor for factor in factors if len(factor.effects) <= MOST_VALUES]
    return [_factor(factor, shown) for factor in shown]


def _factor(factor: Factor, shown: Sequence[Factor]) -> Plot:
    """Return a plot of one setting, on the scale of all that are shown, so that ranges can be compared by eye."""
    with plot(1.1 + 0.34 * len(factor.effects)) as (figure, axes):
        for y, effect in enumerate(factor.effects):
            axes.plot((effect.lowest, effect.highest), (y, y), color=OKABE_ITO[5], linewidth=2)
            axes.plot(effect.means["action@1"], y, "o", color=OKABE_ITO[0], markersize=7)
        axes.set_yticks(
            range(len(factor.effects)), [f"{short(effect.value)} ({effect.num_runs})" for effect in factor.effects]
        )
        axes.set_ylim(len(factor.effects) - 0.5, -0.5)
        accuracies_on(axes, "x", [effect.highest for other in shown for effect in other.effects])
        mixed = "" if factor.is_balanced else " (confounded)"
        axes.set_title(f"{short(factor.name)}: range {factor.range:.1f} points{mixed}", loc="left", fontsize=11)
        axes.set_xlabel("action@1, %")
        axes.grid(visible=False, axis="y")
        svg = svg_of(figure)
    means = ", ".join(f"{effect.value} {effect.means['action@1']:.1f}" for effect in factor.effects)
    return Plot(svg, f"Mean action top-1 in percent by {factor.name}, with a line from worst to best run: {means}.")


def _gain_by_size(gains: Mapping[str, GainBySize]) -> Plot:
    """Return a plot of what each size gains over a single run: from accuracies themselves, one could not read that."""
    legend = tuple(Key(name, *style) for name, style in zip(gains, zip(OKABE_ITO, DASHES, strict=True), strict=False))
    with plot(3.0) as (figure, axes):
        for key, shape in zip(legend, "os", strict=False):
            gain = gains[key.name]
            x = np.arange(1, len(gain.mean) + 1)
            mean, lowest, highest = (
                np.array(values) - gain.mean[0] for values in (gain.mean, gain.lowest, gain.highest)
            )
            line = (0, key.dashes) if key.dashes else "-"
            axes.plot(x, mean, color=key.colour, marker=shape, linestyle=line)
            axes.fill_between(x, lowest, highest, color=key.colour, alpha=0.15, linewidth=0)
        axes.axhline(0, color=GREY, linewidth=1)
        axes.set_xlabel("runs in the ensemble")
        axes.set_ylabel("gain in action@1, points")
        counts_on(axes)
        svg = svg_of(figure)
    ends = "; ".join(
        f"{name}: from {gain.mean[0]:.1f} to {gain.mean[-1]:.1f} with {len(gain.mean)}" for name, gain in gains.items()
    )
    return Plot(svg, f"Gain in action top-1 of ensembles over one run, by their size. {ends}.", legend=legend)
