"""Processes that stop at a moment, for tests of what happens to them there: no test rests on a machine being slow."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

_HOOK = Path(__file__).with_name("hold")
# A hang is a failure; a machine that is slow is none.
_PATIENCE_S = 1800.0


def wait_until(condition: Callable[[], object], description: str) -> None:
    """Wait until a condition holds; fail where it seems that it never will."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {description}"
        time.sleep(0.5)


def hold_variables(folder: Path, moment: str, *, tasks: Iterable[int] = (0,)) -> dict[str, str]:
    """Return the environment in which Python stops at a moment.

    Args:
        moment: "os.rename:.h5:2" is before the second file that ends in .h5 gets its name; "os.remove:.mp4:1" before
            the first file that ends in .mp4 is removed.
        folder: for this test alone; `held_pids` looks there.
        tasks: the tasks of an array that stop.
    """
    folder.mkdir(parents=True)
    return {
        "PYTHONPATH": str(_HOOK),
        "HOLD_BEFORE": moment,
        "HOLD_FOLDER": str(folder),
        "HOLD_TASKS": ",".join(map(str, tasks)),
    }


def held_pids(folder: Path, num: int = 1, *, go_on: Callable[[], object] = lambda: True) -> list[int]:
    """Wait until `num` processes have stopped; return their ids.

    Args:
        go_on: asked again and again; false where no process is left that could stop.
    """

    def stopped() -> list[int]:
        assert go_on()
        return [int(path.name) for path in folder.iterdir() if _state(int(path.name)) == "T"]

    wait_until(lambda: len(stopped()) >= num, f"{num} processes to stop")
    return stopped()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def pending_signals(pid: int) -> set[int]:
    """Return the signals that a process gets once it goes on."""
    bits = int(re.search(r"^ShdPnd:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1], 16)
    return {number for number in range(1, 65) if bits >> (number - 1) & 1}
