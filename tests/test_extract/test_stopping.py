"""A scheduler's signals end an extraction once, wherever they come."""

from __future__ import annotations

import signal
import time
import weakref
from collections.abc import Callable

import pytest

from extract.stopping import Stopped, stopped_by_signals


class _Signalling:
    """Sends this process a signal as it is deleted, where Python ignores what is raised."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)


def _in_a_callback(number: signal.Signals) -> None:
    thing = type("Thing", (), {})()
    called = weakref.ref(thing, lambda _: signal.raise_signal(number))  # noqa: F841
    del thing


def _wait() -> None:
    for _ in range(1000):
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
@pytest.mark.parametrize("send", [signal.raise_signal, _in_a_callback, _Signalling])
def test_a_signal_stops_it_wherever_it_comes(number: signal.Signals, send: Callable) -> None:
    with pytest.raises(Stopped, match=f"stopped by {number.name}") as caught, stopped_by_signals():
        send(number)
        _wait()
    assert caught.value.exit_code == 128 + number


def test_what_comes_while_it_stops_is_ignored() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    cleaned = False
    with pytest.raises(Stopped, match="SIGUSR1"), stopped_by_signals():
        try:
            signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned = True
    assert cleaned
    assert {number: signal.getsignal(number) for number in before} == before
