"""Progress of long work: a bar on a terminal, plain lines in a log file. Knows nothing of the project."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from tqdm import tqdm

_LINE_EVERY_S = 30.0
_NARROWEST_BAR = 16  # cells; words make room for it


class _Lines:
    """A stream for tqdm that ends every report with a newline, for log files, in which a bar cannot move."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            self._stream.write(text + "\n")

    def flush(self) -> None:
        self._stream.flush()


class _Progress(tqdm):
    """A tqdm whose line says count, pace and time left in words; on a terminal, as many of them as its width allows."""

    @property
    def format_dict(self) -> dict[str, Any]:
        values = super().format_dict
        label, width = str(values["prefix"]), values["ncols"]
        count, pace, left, note = _words(values)
        figures = ", ".join(filter(None, (count, pace, left, note)))
        if width is not None:  # of a terminal
            label = _end_of(label, width // 3)
            room = width - len(f"{label} || ") - _NARROWEST_BAR
            shorter = [", ".join(filter(None, words)) for words in ((count, pace, left), (count, left))]
            figures = next((text for text in (figures, *shorter) if len(text) <= room), shorter[-1])
        return {**values, "prefix": label, "figures": figures}


def _words(values: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return the count, the pace, the time left (or taken, at the end) and the note; empty where they are not known."""
    done, total, elapsed_s, unit = values["n"], values["total"], values["elapsed"], values["unit"]
    done_now = done - values["initial"]
    count, note = f"{done:,}/{total:,} {unit}", values["postfix"] or ""
    if not done_now or not elapsed_s:
        return count, "", "", note
    per_second = values["rate"] or done_now / elapsed_s
    if done >= total:
        return count, _pace(per_second, unit), f"in {tqdm.format_interval(elapsed_s)}", note
    return count, _pace(per_second, unit), f"{tqdm.format_interval((total - done) / per_second)} left", note


def _pace(per_second: float, units: str) -> str:
    """Return a pace in words, whose number is 1 or more.

    >>> _pace(12345.6, "segments"), _pace(35.12, "segments"), _pace(0.372, "epochs"), _pace(0.004, "epochs")
    ('12,346 per second', '35.1 per second', '2.7 s per epoch', '4.2 minutes per epoch')
    """
    if per_second >= 1:
        return f"{per_second:,.{0 if per_second >= 100 else 1}f} per second"
    seconds = 1 / per_second
    time = f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} minutes"
    return f"{time} per {units.removesuffix('s')}"


def _end_of(label: str, longest: int) -> str:
    """Return a label that is no longer than that: of runs in a sweep, the ends of the names tell them apart."""
    return label if len(label) <= longest else f"…{label[len(label) - longest + 1 :]}"


def progress(
    items: Iterable | None = None,
    *,
    total: int,
    unit: str,
    label: str,
    done_before: int = 0,
    delay_s: float = 0.0,
) -> tqdm:
    """Return a progress bar on stderr with pace and time left; if stderr is not a terminal, a line every 30 seconds.

    Args:
        unit: what is counted, in the plural.
        delay_s: show nothing in the first seconds, so that short work shows nothing at all.
    """
    look: dict[str, Any] = {"dynamic_ncols": True, "bar_format": "{desc} |{bar}| {figures}"}
    if not sys.stderr.isatty():
        look = {"file": _Lines(sys.stderr), "mininterval": _LINE_EVERY_S, "maxinterval": _LINE_EVERY_S}
        look["bar_format"] = "{desc}: {figures}"
    return _Progress(items, total=total, unit=unit, desc=label, initial=done_before, delay=delay_s, **look)
