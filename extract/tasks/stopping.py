"""Ending in good order when a scheduler says so."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from features.interrupts import not_lost

# SLURM sends TERM before it kills or pre-empts a job, and USR1 ahead of the time limit where a script asks for it.
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stopped(BaseException):
    """Someone asked this process to stop; like KeyboardInterrupt not to be caught by those who catch errors."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number  # as a shell gives it


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Within, SIGTERM and SIGUSR1 raise `Stopped` in the main thread, once: what comes later is ignored."""
    came: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        if not came:
            came.append(number)
            raise Stopped(number)

    before = {one: signal.signal(one, stop) for one in _SIGNALS}
    try:
        with not_lost(Stopped, came.pop):
            yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
