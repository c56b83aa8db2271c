"""The plots of a report about its best row, segment by segment."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from heads.report.breakdown import ConfidenceBin, ConfusionMatrix, FrequencyGroup, Subset
from heads.report.figure import DASHES, GREY, OKABE_ITO, Key, Plot, accuracies_on, plot, short, svg_of
from heads.scoring.metrics import TASKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOUR = dict(zip(TASKS, OKABE_ITO, strict=False))
_PERFECT = Key("perfectly calibrated; the size of a marker is the number of segments", GREY, DASHES[1])
_MARKER = dict(zip(TASKS, ("o", "s", "^"), strict=True))


def frequency(groups: Mapping[str, Sequence[FrequencyGroup]]) -> Plot:
    with plot(3.2) as (figure, axes):
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
        accuracies_on(axes, "y", _highest([subset for pairs in scored.values() for _, subset in pairs]))
        axes.set_ylabel("top-1, %")
        figure.legend(loc="outside upper center", ncols=2)
        svg = svg_of(figure)
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


def _highest(subsets: Sequence[Subset]) -> list[float]:
    """Return what an axis has to hold that shows accuracies over subsets, and their intervals."""
    figures = [value for subset in subsets for value in subset.figures.values()]
    return [*figures, *[high for subset in subsets for _, high in subset.intervals.values()]]


def lengths(subsets: Sequence[Subset]) -> Plot:
    with plot(3.4) as (figure, axes):
        for task, shift in zip(TASKS, (-0.1, 0.0, 0.1), strict=True):
            _with_intervals(axes, [index + shift for index in range(len(subsets))], subsets, task, line=":")
        labels = [re.sub("^under |to |or ", r"\g<0>\n", subset.name) for subset in subsets]
        numbers = [f"({subset.num_segments:,})" for subset in subsets]
        axes.set_xticks(range(len(subsets)), map("\n".join, zip(labels, numbers, strict=True)), fontsize=8)
        accuracies_on(axes, "y", _highest(subsets))
        axes.set_xlabel("segment length (number of segments)")
        axes.set_ylabel("top-1, %")
        figure.legend(loc="outside upper center", ncols=3)
        svg = svg_of(figure)
    accuracies = ", ".join(f"{subset.name} {subset.figures['action']:.1f}" for subset in subsets)
    return Plot(svg, f"Action top-1 in percent by segment length: {accuracies}.")


def participants(subsets: Sequence[Subset], unseen: frozenset[str]) -> Plot:
    order = sorted(subsets, key=lambda subset: -subset.figures["action"])
    with plot(0.9 + 0.24 * len(order)) as (figure, axes):
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
        accuracies_on(axes, "x", _highest(order))
        axes.set_xlabel("top-1, % (line: 95 % interval of action)")
        axes.grid(visible=True, axis="y")
        figure.legend(loc="outside upper center", ncols=3)
        svg = svg_of(figure)
    first = ", ".join(f"{subset.name} {subset.figures['action']:.1f}" for subset in order[:8])
    return Plot(svg, f"Action top-1 in percent by participant, best first: {first}. The table has all of them.")


def matrix(task: str, matrix: ConfusionMatrix) -> Plot:
    percent = np.array(matrix.percent)
    num_rows, num_columns = percent.shape
    with plot(1.5 + 0.42 * num_rows, width=2.0 + 0.42 * num_columns) as (figure, axes):
        axes.imshow(percent, cmap="cividis", vmin=0, vmax=100, aspect="equal")
        for row, column in itertools.product(range(num_rows), range(num_columns)):
            value = percent[row, column]
            if value >= 0.5:
                colour = "black" if value > 55 else "white"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=9)
        names = [short(name) for name in matrix.classes]
        axes.set_xticks(range(num_columns), [*names, "any other"], rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(
            range(num_rows), [f"{name} ({num:,})" for name, num in zip(names, matrix.num_segments, strict=True)]
        )
        axes.set_xlabel(f"predicted {task}, % of the true class")
        axes.set_ylabel(f"true {task} (segments)")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        svg = svg_of(figure)
    right = ", ".join(f"{name} {percent[index, index]:.0f}" for index, name in enumerate(matrix.classes))
    return Plot(
        svg, f"Confusion matrix of the most frequent {task}s, percent of each row. Right: {right}.", is_wide=True
    )


def reliability(task: str, bins: Sequence[ConfidenceBin]) -> Plot:
    with plot(3.1) as (figure, axes):
        axes.plot((0, 100), (0, 100), linestyle=(0, _PERFECT.dashes), color=_PERFECT.colour, linewidth=1)
        x, y, num = ([getattr(bin_, name) for bin_ in bins] for name in ("confidence", "accuracy", "num"))
        axes.plot(x, y, color=_COLOUR[task], linewidth=1)
        sizes = 15 + 180 * np.array(num) / max(num)
        axes.scatter(x, y, s=sizes, marker=_MARKER[task], color=_COLOUR[task], clip_on=False, zorder=3)
        accuracies_on(axes, "x", [100])
        accuracies_on(axes, "y", [100])
        axes.set_xlabel(f"confidence of the {task}, %")
        axes.set_ylabel(f"{task}@1, %")
        svg = svg_of(figure)
    points = ", ".join(f"{bin_.confidence:.0f}: {bin_.accuracy:.0f}" for bin_ in bins)
    alt = f"Reliability of {task}s, accuracy in percent by confidence: {points}."
    return Plot(svg, alt, legend=(_PERFECT,))
