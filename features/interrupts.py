"""Exceptions that signals raise, and that end a program, must not be lost. Knows nothing of the project."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

_LATER_S = 0.01


@contextlib.contextmanager
def not_lost(kind: type[BaseException], number: Callable[[], int]) -> Iterator[None]:
    """Within, see to it that an exception that a signal raises is raised again where Python has to ignore it.

    That is in the callback of a weak reference and in `__del__`. h5py has such callbacks for all that it opens, so that
    an interruption while features are loaded may come in one, and was forgotten.

    Args:
        kind: of the exception.
        number: gives the signal's, a moment later, for it to be sent to the main thread once more.
    """
    before, main = sys.unraisablehook, threading.main_thread()
    timers: list[threading.Timer] = []

    def send() -> None:
        signal.pthread_kill(main.ident, number())

    def hook(ignored: sys.UnraisableHookArgs) -> None:
        if not issubclass(ignored.exc_type, kind):
            before(ignored)
            return
        # Not here: it would be raised within this hook, and be ignored once more.
        timers.append(threading.Timer(_LATER_S, send))
        timers[-1].start()

    sys.unraisablehook = hook
    try:
        yield
        for timer in timers:
            timer.join()  # what was ignored in the last moments is raised here
    finally:
        for timer in timers:
            timer.cancel()
        sys.unraisablehook = before
