"""Commands to be cut off, in processes that begin at once: each a fork of one that has loaded everything."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
# The last is what torch loads at the first step of an optimiser.
_CONTEXT.set_forkserver_preload(["heads.commands.train", "heads.inputs", "heads.sweep", "torch._dynamo"])


def _command(arguments: list[str], log: Path) -> None:
    from heads.cli import main

    # A shell's background jobs ignore SIGINT and so do their children; this one shall not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    said = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    main(arguments)


@contextmanager
def heads_until(moment: Callable[[], bool], arguments: list[str], log: Path) -> Iterator[BaseProcess]:
    """Run a command line of heads until a moment has come, or it has ended; what it says is written to `log`."""
    process = _CONTEXT.Process(target=_command, args=(arguments, log))
    process.start()
    try:
        while process.is_alive() and not moment():
            time.sleep(0.002)
        yield process
    finally:
        process.kill()
        process.join()
