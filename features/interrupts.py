"""Exceptions that signals raise, and that end a program, must not be lost. Knows nothing of the project."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

_LATER_S = 0.01


@contextlib.contextmanager
def not_lost(kind: type[BaseException], again: Callable[[], object]) -> Iterator[None]:
    """Within, see to it that an exception that a signal raises is raised again where Python has to ignore it.

    That is in the callback of a weak reference and in `__del__`. h5py has such callbacks for all that it opens: of a
    hundred interruptions while features are loaded some came in one, and were forgotten.

    Args:
        kind: of the exception.
        again: called a moment later, from another thread, for the signal to be handled once more.
    """
    before = sys.unraisablehook

    def hook(ignored: sys.UnraisableHookArgs) -> None:
        if issubclass(ignored.exc_type, kind):
            # Not here: it would be raised within this hook, and be ignored once more.
            threading.Timer(_LATER_S, again).start()
        else:
            before(ignored)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
