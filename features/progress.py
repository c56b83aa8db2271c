"""Progress of long work: a bar on a terminal, plain lines in a log file. Knows nothing of the project."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TextIO

from tqdm import tqdm

_LINE_EVERY_S = 30.0


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


def progress(
    items: Iterable | None = None,
    *,
    total: int,
    unit: str,
    label: str,
    done_before: int = 0,
    delay_s: float = 0.0,
) -> tqdm:
    """Return a progress bar on stderr with rate and time left; if stderr is not a terminal, a line every 30 seconds.

    Args:
        delay_s: show nothing in the first seconds, so that short work shows nothing at all.
    """
    form = "{desc}: {n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
    lines = {"file": _Lines(sys.stderr), "mininterval": _LINE_EVERY_S, "maxinterval": _LINE_EVERY_S, "bar_format": form}
    return tqdm(
        items,
        total=total,
        unit=f" {unit}",
        desc=label,
        initial=done_before,
        delay=delay_s,
        **({"dynamic_ncols": True} if sys.stderr.isatty() else lines),
    )
