"""Commands to be cut off, in processes that begin at once: each a fork of one that has loaded everything."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

# The last is what torch loads at the first step of an optimiser.
_LOADED = ["heads.cli", "heads.commands.train", "heads.data.load", "heads.sweep.run", "torch._dynamo"]
for _name in _LOADED:
    importlib.import_module(_name)  # what could not be loaded beforehand would be passed over in silence
# On a Mac a fork of what has loaded torch may crash.
_CONTEXT = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
if sys.platform == "linux":
    _CONTEXT.set_forkserver_preload(_LOADED)


def _command(arguments: list[str], log: Path) -> None:
    from heads.cli import main

    # A shell's background jobs ignore SIGINT and so do their children; this one shall not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    main(arguments)


def cut_off_at(arguments: list[str], number: signal.Signals, moment: Callable[[], bool], log: Path) -> tuple[int, str]:
    """Run a command line of heads until a moment has come, and send it a signal; return its exit code and output.

    Args:
        log: file to write the output to.
    """
    process = _CONTEXT.Process(target=_command, args=(arguments, log))
    process.start()
    try:
        while process.is_alive() and not moment():
            time.sleep(0.002)
        if process.is_alive():
            os.kill(process.pid, number)
        process.join(1800)
        return process.exitcode, log.read_text()
    finally:
        process.kill()
        process.join()
