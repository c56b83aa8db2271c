"""What a signal raises ends a program even in a weak reference's callback, or as something is deleted."""

from __future__ import annotations

import signal
import time
import weakref
from collections.abc import Callable

import pytest
from feature_files import finished, python

from features.interrupts import Stopped, stopped_by_signals

# A command that would go on for a minute, in one call.
PROGRAM = """
import signal, time, weakref
import click
from features.console import Commands

class Thing:
    pass

class Signalling:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def in_a_callback():
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing

def in_del():
    Signalling()

def plainly():
    signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

@click.group(cls=Commands)
def main():
    pass

@main.command()
@click.argument("function_name")
def wait(function_name):
    globals()[function_name]()
    time.sleep(60)

main()
"""


@pytest.mark.parametrize("function_name", ["plainly", "in_a_callback", "in_del"])
def test_interruption_ends_a_command_wherever_it_comes(function_name: str) -> None:
    code, _, errors = finished(python(PROGRAM, "wait", function_name))
    assert code == 130  # and not 0, after the minute
    assert errors == "Interrupted. Finished work is kept; the same command continues from there.\n"


def test_interruption_in_the_last_moment_is_heard() -> None:
    code, _, errors = finished(python(PROGRAM.replace("time.sleep(60)", "pass"), "wait", "in_a_callback"))
    assert (code, "Traceback" in errors) == (130, False)


# ---- a scheduler's signals


class _Signalling:
    """Sends this process a signal as it is deleted, where Python ignores what is raised."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)


def _in_a_callback(number: signal.Signals) -> None:
    thing = type("Thing", (), {})()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(number))  # noqa: F841
    del thing


def _wait(send: Callable, number: signal.Signals) -> None:
    """Be sent a signal, and go on for ten minutes, in one call."""
    with stopped_by_signals():
        send(number)
        time.sleep(600)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
@pytest.mark.parametrize("send", [signal.raise_signal, _in_a_callback, _Signalling])
def test_a_signal_stops_it_wherever_it_comes(number: signal.Signals, send: Callable) -> None:
    start = time.monotonic()
    with pytest.raises(Stopped, match=f"stopped by {number.name}") as error:
        _wait(send, number)
    assert time.monotonic() - start < 300
    assert error.value.exit_code == 128 + number


def _end(number: signal.Signals) -> None:
    """Be sent a signal in the last moment."""
    with stopped_by_signals():
        _in_a_callback(number)


def test_a_signal_in_the_last_moment_stops_it() -> None:
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        _end(signal.SIGTERM)


def _clean_up(calls: list[str]) -> None:
    """Be stopped, and be told to stop while cleaning up."""
    with stopped_by_signals():
        try:
            signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.raise_signal(signal.SIGTERM)
            calls.append("cleaned up")


def test_what_comes_while_it_stops_is_ignored() -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    calls: list[str] = []
    with pytest.raises(Stopped, match="SIGUSR1"):
        _clean_up(calls)
    assert calls == ["cleaned up"]
    assert {number: signal.getsignal(number) for number in handlers} == handlers
