"""What a signal raises ends a program even in a weak reference's callback, or as something is deleted."""

from __future__ import annotations

import time

import pytest
from feature_files import finished, python

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
    start = time.monotonic()
    code, _, errors = finished(python(PROGRAM, "wait", function_name))
    assert (code, time.monotonic() - start < 30) == (130, True)
    assert errors == "Interrupted. Finished work is kept; the same command continues from there.\n"


def test_interruption_in_the_last_moment_is_heard() -> None:
    code, _, errors = finished(python(PROGRAM.replace("time.sleep(60)", "pass"), "wait", "in_a_callback"))
    assert (code, "Traceback" in errors) == (130, False)
