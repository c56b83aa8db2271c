"""Keeps exceptions that end a program on a signal from being lost. Knows nothing of the project."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

_LATER_S = 0.01


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
