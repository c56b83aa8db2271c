"""End in good order when a scheduler sends a signal."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from features.interrupts import not_lost

# SLURM sends TERM before it kills or pre-empts a job, and USR1 ahead of the time limit if the job script asks for it.
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stopped(BaseException):
    """A signal asked this process to stop. Like KeyboardInterrupt, code that catches errors does not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number  # the exit code that a shell reports


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGUSR1 raise `Stopped` in the main thread, once: later signals are ignored."""
    received: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        if not received:
            received.append(number)
            raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        with not_lost(Stopped, received.pop):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
