"""Stops this process at a moment, as SIGSTOP does. Python runs this as it starts, where tests/support/holding.py asks.

HOLD_BEFORE=EVENT:SUFFIX:COUNT is the moment: before it renames (EVENT os.rename) or removes (os.remove) the file number
COUNT of those with a name that ends in SUFFIX. A task that SLURM has begun again is not stopped.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

_event, _suffix, _count = os.environ["HOLD_BEFORE"].split(":")
_files: list[object] = []


def _hold(event: str, arguments: tuple[object, ...]) -> None:
    file = arguments[event == "os.rename"] if event == _event else ""  # of a rename, the new name
    if file and str(file).endswith(_suffix):
        _files.append(file)
        if len(_files) == int(_count):
            Path(os.environ["HOLD_FOLDER"], str(os.getpid())).touch()
            # To this thread: of a signal to the process, another thread may hear, and this one goes on for a moment.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


if "SLURM_RESTART_COUNT" not in os.environ and os.environ.get("SLURM_ARRAY_TASK_ID", "0") in os.environ[
    "HOLD_TASKS"
].split(","):
    sys.addaudithook(_hold)
