"""A SLURM of our own to submit jobs to, and what tests need to know of it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from holding import held_pids, hold_variables, pending_signals, wait_until
from shell import ROOT, SUPPORT, output_of

SLURM = SUPPORT / "slurm-local.sh"
needs_slurm = pytest.mark.skipif(shutil.which("slurmctld") is None, reason="SLURM is not installed")
# Only what hangs takes longer; nothing fails for slowness alone.
_LONG_S = 1800
# Nodes beside g1 are for what tests do to nodes.
SITE = """\
SITE_EXTRACT_OPTIONS=(--gpus-per-node=1 --cpus-per-task=1 --mem=400M --time=60 --nodelist=g1)
SITE_TRAIN_OPTIONS=(--cpus-per-task=1 --mem=300M --time=60 --nodelist=g1)
SITE_LIGHT_OPTIONS=(--cpus-per-task=1 --mem=200M --time=60 --nodelist=g1)
site_setup() { :; }
site_scratch() { printf '%s' "$SCRATCH"; }
"""


@dataclass(frozen=True)
class Cluster:
    """A folder to work in, and the environment of its SLURM."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: object, **variables: object) -> str:
        """Run a command in the folder; return what it prints."""
        return output_of(*command, folder=self.folder, timeout_s=_LONG_S, environment=self.environment, **variables)

    def make(self, *words: object, **variables: object) -> str:
        """Run make with a target that submits; return the job's id."""
        output = self.run("make", "-s", "-C", ROOT, f"VENV={sys.prefix}", *words, **variables)
        return output.split("Submitted job ", 1)[1].split(",", 1)[0]

    def site(self, name: str, lines: str) -> Path:
        """Write a site's file with more lines than SITE."""
        path = self.folder / f"{name}.env"
        path.write_text(f"{SITE}{lines}\n")
        return path

    def holding_site(self, name: str, moment: str, *, tasks: Iterable[int] = (0,), lines: str = "") -> Path:
        """Write a site's file for an array of which some tasks stop, as tests/support/holding.py does it."""
        exports = shlex.join(
            f"{variable}={value}" for variable, value in hold_variables(self._held(name), moment, tasks=tasks).items()
        )
        return self.site(name, f"{lines}\nsite_setup() {{ export {exports}; }}")

    def held(self, name: str, num: int = 1) -> list[int]:
        """Wait until `num` tasks of a site's array have stopped; return their processes."""
        return held_pids(self._held(name), num, go_on=lambda: self.run("squeue", "--noheader"))

    def stop(self, task: str, pid: int) -> None:
        """Send USR1 to a task that has stopped with this process, as SLURM does before the time limit; let it go on."""
        self.run("scancel", "--batch", "--signal=USR1", task)
        wait_until(lambda: pending_signals(pid), "the script to hand the signal on")
        os.kill(pid, signal.SIGCONT)

    def _held(self, name: str) -> Path:
        return self.folder / "held" / name

    def states(self, job: str) -> dict[str, str]:
        """Return the state of each task of a job that has begun, JobId -> state."""
        lines = self.run("scontrol", "show", "job", "-o", job).splitlines()
        tasks = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
        return {task["JobId"]: task["JobState"] for task in tasks}

    def finish(self, job: str) -> set[str]:
        """Wait until no task of a job is left; return the states in which they ended."""
        wait_until(lambda: not self.run("squeue", "-h", "-j", job).strip(), f"job {job} to end")
        return set(self.states(job).values())


def checkout_in(folder: Path) -> Path:
    """Put what make needs of this project into a folder, as if it had been checked out and installed there."""
    folder.mkdir(parents=True)
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder)
    shutil.copytree(ROOT / "jobs", folder / "jobs")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@contextlib.contextmanager
def running_slurm(folder: Path, *, nodes: int) -> Iterator[dict[str, str]]:
    """Start a SLURM with its files in a folder, and stop it in the end; return the environment to submit from."""
    (folder / "test.env").write_text(SITE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
    # A task that is asked to stop has as long as on most clusters, because a batch may take seconds on a busy machine;
    # and a node that does not answer in a moment has not failed.
    settings = {"SL_NODES": str(nodes), "SL_SLURMD_TIMEOUT": "60", "SL_KILLWAIT": "30", "SL_TIMEOUT": "600"}
    subprocess.run(["bash", SLURM, "start", folder / "slurm"], env=environment | settings, check=True, timeout=_LONG_S)
    variables = {
        "SLURM_CONF": str(folder / "slurm" / "conf" / "slurm.conf"),
        "SITE": str(folder / "test.env"),
        "SCRATCH": str(folder / "scratch"),
        "OMP_NUM_THREADS": "1",
    }
    try:
        yield environment | variables
    finally:
        subprocess.run(["bash", SLURM, "stop", folder / "slurm"], env=environment, check=True, timeout=_LONG_S)
