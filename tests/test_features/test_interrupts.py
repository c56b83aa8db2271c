"""What a signal raises ends a program even in a weak reference's callback, or as something is deleted."""

from __future__ import annotations

import pytest
from feature_files import finished, python

# A command that would go on for ten seconds.
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
@click.argument("where")
def wait(where):
    globals()[where]()
    for _ in range(1000):
        time.sleep(0.01)

main()
"""


@pytest.mark.parametrize("where", ["plainly", "in_a_callback", "in_del"])
def test_interruption_ends_a_command_wherever_it_comes(where: str) -> None:
    code, _, errors = finished(python(PROGRAM, "wait", where))
    assert code == 130
    assert errors == "Interrupted. What is finished is kept; the same command goes on from there.\n"
