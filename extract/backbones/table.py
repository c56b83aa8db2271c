"""Write the table of backbones in docs/backbones.md from the registry.

python -m extract.backbones.table docs/backbones.md           # write the table
python -m extract.backbones.table docs/backbones.md --check   # exit with 1 if it is out of date
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from extract.backbones import ALIASES, Backbone, get, names

BEGIN = "<!-- The table begins here. `make docs` writes it from the registry. -->"
END = "<!-- The table ends here. -->"

_HEADER = (
    "Backbone (short name)",
    "Pretraining",
    "Seen of EPIC-KITCHENS",
    "Clip",
    "Steps per clip",
    "Values per token (D)",
    "Class token",
    "Layers",
    "Parameters",
    "GFLOPs per clip",
    "Licence of the weights",
)


def markdown_table(backbones: Iterable[Backbone]) -> str:
    """Return the table of some backbones and the list of their sources, in Markdown."""
    backbones = list(backbones)
    rows = [_HEADER, ("---",) * len(_HEADER), *(_cells(entry) for entry in backbones)]
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    by_source: dict[str, list[str]] = {}
    for entry in backbones:
        by_source.setdefault(entry.source, []).append(f"`{entry.name}`")
    sources = [f"- {', '.join(entries)}: {source}." for source, entries in by_source.items()]
    return "\n".join([*lines, "", "Sources:", "", *sources])


def _cells(entry: Backbone) -> tuple[str, ...]:
    short = "".join(f" (`{alias}`)" for alias, name in ALIASES.items() if name == entry.name)
    clip = entry.clip
    return (
        f"`{entry.name}`{short}",
        entry.pretraining,
        entry.seen_of_epic,
        clip_text(clip.num_frames, clip.fps, spread=clip.spread),
        str(clip.num_steps),
        str(entry.dim),
        "yes" if entry.class_token else "",
        str(entry.num_layers or ""),
        parameters_text(entry.parameters),
        gflops_text(entry.gflops),
        entry.licence.weights,
    )


def clip_text(num_frames: int, fps: float | None, *, spread: bool) -> str:
    """Return a clip as tables show it: "1 frame", "16 at 15 fps", or "16 spread (8 fps)"."""
    if fps is None:
        return "1 frame"
    return f"{num_frames} spread ({fps:.4g} fps)" if spread else f"{num_frames} at {fps:.4g} fps"


def parameters_text(parameters: int) -> str:
    """Return a number of parameters as tables show it, in millions unless it is tiny."""
    return f"{parameters / 1e6:.1f} M" if parameters >= 1e5 else f"{parameters:,}"


def gflops_text(gflops: float) -> str:
    """Return billions of multiply-adds as tables show them."""
    return f"{gflops:,.4g}" if gflops < 1000 else f"{gflops:,.0f}"


def with_table(text: str) -> str:
    """Return the text of a page with the table of all backbones between its two markers.

    Raises:
        ValueError: the text does not have both markers, once each and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in before + after:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}, once each and in this order")
    return f"{before}{BEGIN}\n\n{markdown_table(get(name) for name in names())}\n\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    """Write the table into a page, or with --check only compare; return the exit code."""
    paths = [Path(argument) for argument in arguments if argument != "--check"]
    if len(paths) != 1:
        print("usage: python -m extract.backbones.table PAGE [--check]", file=sys.stderr)
        return 2
    text = paths[0].read_text(encoding="utf-8")
    expected = with_table(text)
    if "--check" not in arguments:
        paths[0].write_text(expected, encoding="utf-8")
    elif text != expected:
        print(f"{paths[0]}: its table of backbones is out of date; run `make docs`.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
