"""Signals that end a program in good order, by an exception that is not lost. Knows nothing of the project."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_LATER_S = 0.01
# SLURM sends TERM before it kills or pre-empts a job, and USR1 ahead of the time limit if the job script asks for it.
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stopped(BaseException):
    """A signal asked this process to stop. Like KeyboardInterrupt, code that catches errors does not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number  # the exit code that a shell reports


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGUSR1 raise `Stopped` in the main thread, once: later signals are ignored.

    Elsewhere than in the main thread, where Python sets no handlers, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
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


@contextlib.contextmanager
def not_lost(kind: type[BaseException], number: Callable[[], int]) -> Iterator[None]:
    """Raise a signal's exception again, within this context, if Python had to ignore it.

    Python ignores exceptions in the callback of a weak reference and in `__del__`. h5py has such callbacks for every
    object that it opens, so an interruption while features are loaded may arrive in such a callback and be lost.

    Args:
        kind: the class of the exception.
        number: called a moment later; returns the number of the signal, which is then sent to the main thread again.
    """
    before, main_thread = sys.unraisablehook, threading.main_thread().ident
    assert main_thread is not None  # it runs
    timers: list[threading.Timer] = []

    def send() -> None:
        signal.pthread_kill(main_thread, number())

    def hook(ignored: sys.UnraisableHookArgs) -> None:
        if not issubclass(ignored.exc_type, kind):
            before(ignored)
            return
        # Not here: the exception would be raised within this hook and be ignored again.
        timers.append(threading.Timer(_LATER_S, send))
        timers[-1].start()

    sys.unraisablehook = hook
    try:
        yield
        for timer in timers:
            timer.join()  # an exception that was ignored in the last moments is raised here
    finally:
        for timer in timers:
            timer.cancel()
        sys.unraisablehook = before
