"""Measure how long the commands that only print take: `make bench`, or `python benchmarks/bench_start.py`.

Nothing is asserted. The figures go to results/start.json. Each is the median over several processes, after one that is
not counted, because it reads Python's files from the disk.
"""

from __future__ import annotations

import statistics as stats
import subprocess
import sys
import time
from pathlib import Path

from record import RESULTS, write_record

from features.console import table

COMMANDS = ("heads list", "extract backbones", "heads --help", "extract --help", "features --help")
_PROCESSES = 7


def main() -> None:
    """Measure every command."""
    seconds = {command: _seconds(command) for command in COMMANDS}
    print(table(["command", "s"], [[command, f"{taken:.2f}"] for command, taken in seconds.items()]))
    write_record(RESULTS / "start.json", {"seconds": seconds})


def _seconds(command: str) -> float:
    program, *words = command.split()
    times = []
    for _ in range(1 + _PROCESSES):
        began = time.perf_counter()
        subprocess.run([Path(sys.executable).with_name(program), *words], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - began)
    return stats.median(times[1:])


if __name__ == "__main__":
    main()
