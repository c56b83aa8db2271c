"""How the plots of a report look: their colours, their size, and SVG of them. Imports matplotlib when it draws.

Colours are those of Okabe and Ito ("Color universal design", 2008), which colour-blind people can tell apart; each
has its own marker or line style. Most plots are 4.6 inches wide, so that their text is legible on a phone.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Lengths of dash, gap, dash, ... in line widths; nothing for a line without gaps.
DASHES = ((), (4, 1.7), (6.4, 1.6, 1, 1.6), (1, 1.7), (5, 1), (3, 1, 1, 1, 1, 1), (1, 3))
GREY = "#8A8A8A"
_WIDTH = 4.6  # inches
LONGEST = 28  # characters of a name on an axis
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "axes.axisbelow": True,
    "figure.constrained_layout.w_pad": 0.1,  # inches: for what reaches beyond the end of an axis
    "figure.constrained_layout.h_pad": 0.1,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.parse_math": False,  # a name may hold a dollar
    "svg.fonttype": "path",  # the same letters on every machine
    "svg.hashsalt": "epic-heads",  # the same bytes for the same report
}


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a line with its colour and its dashes (see DASHES), and what it stands for."""

    name: str
    colour: str
    dashes: tuple[float, ...] = ()


@dataclass(frozen=True)
class Plot:
    """A plot as SVG, and a text that says what it shows.

    Attributes:
        is_wide: whether it is legible at its full width only.
        legend: of its lines; plots of one section with the same legend share it.
    """

    svg: bytes
    alt: str
    is_wide: bool = False
    legend: tuple[Key, ...] = ()


@contextlib.contextmanager
def plot(height: float, width: float = _WIDTH) -> Iterator[tuple[Figure, Axes]]:
    """Return a figure with one pair of axes. It is made without pyplot, which would look for a window system."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def svg_of(figure: Figure) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Some names have letters that the font lacks; the tables show them in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def short(name: str, longest: int = LONGEST) -> str:
    """Return a name that leaves room for the plot: a long name is cut in the middle."""
    name = "".join(character if character.isprintable() else " " for character in name)
    half = longest // 2
    return name if len(name) <= longest else f"{name[: half - 1]}…{name[-half:]}"


def in_lines(name: str) -> str:
    """Return a name that leaves room for the plot: a long name has two lines, split where a sweep joins settings."""
    joints = [match.end() for match in re.finditer("_", name)]
    if len(name) <= LONGEST or not joints:
        return short(name)
    cut = min(joints, key=lambda joint: abs(joint - len(name) / 2))
    return f"{short(name[:cut])}\n{short(name[cut:])}"


def accuracies_on(axes: Axes, name: str, percents: Sequence[float]) -> None:
    """Make the axis "x" or "y" one of accuracies: like all it begins at 0, so that plots can be compared by eye."""
    highest = max(percents, default=0)
    end = min(1.08 * highest + 1, 102)
    step = next(step for step in (1, 2, 5, 10, 20) if end / step <= 6)
    axes.set(**{f"{name}ticks": range(0, math.floor(end) + 1, step), f"{name}lim": (0, end)})


def counts_on(axes: Axes) -> None:
    """Put ticks of the horizontal axis at whole numbers only."""
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
