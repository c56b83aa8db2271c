"""A SLURM of our own to submit jobs to, and what tests need to know of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from shell import ROOT, SUPPORT, output_of

SLURM = SUPPORT / "slurm-local.sh"
needs_slurm = pytest.mark.skipif(shutil.which("slurmctld") is None, reason="SLURM is not installed")
# Nodes beside g1 are for what tests do to nodes.
SITE = """\
SITE_EXTRACT_OPTIONS=(--gpus-per-node=1 --cpus-per-task=1 --mem=400M --time=10 --nodelist=g1)
SITE_TRAIN_OPTIONS=(--cpus-per-task=1 --mem=300M --time=5 --nodelist=g1)
SITE_LIGHT_OPTIONS=(--cpus-per-task=1 --mem=200M --time=5 --nodelist=g1)
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
        return output_of(*command, folder=self.folder, timeout_s=240, environment=self.environment, **variables)

    def make(self, *words: object, **variables: object) -> str:
        """Run make with a target that submits; return the job's id."""
        output = self.run("make", "-s", "-C", ROOT, f"VENV={sys.prefix}", *words, **variables)
        return output.split("Submitted job ", 1)[1].split(",", 1)[0]

    def site(self, name: str, lines: str) -> Path:
        """Write a site's file with more lines than SITE."""
        path = self.folder / f"{name}.env"
        path.write_text(f"{SITE}{lines}\n")
        return path

    def states(self, job: str) -> dict[str, str]:
        """Return the state of each task of a job that has begun, JobId -> state."""
        lines = self.run("scontrol", "show", "job", "-o", job).splitlines()
        tasks = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
        return {task["JobId"]: task["JobState"] for task in tasks}

    def wait(self, condition: Callable[[], bool], description: str, *, seconds: float = 300) -> None:
        """Wait until a condition holds, or fail."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {description}"
            time.sleep(0.5)

    def finish(self, job: str) -> set[str]:
        """Wait until no task of a job is left; return the states in which they ended."""
        self.wait(lambda: not self.run("squeue", "-h", "-j", job).strip(), f"job {job} to end")
        return set(self.states(job).values())


@contextlib.contextmanager
def running_slurm(folder: Path, *, nodes: int) -> Iterator[dict[str, str]]:
    """Start a SLURM with its files in a folder, and stop it in the end; return the environment to submit from."""
    (folder / "test.env").write_text(SITE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
    # A task that is asked to stop has as long as on most clusters, because a batch may take seconds on a busy machine.
    settings = {"SL_NODES": str(nodes), "SL_SLURMD_TIMEOUT": "10", "SL_KILLWAIT": "30"}
    subprocess.run(["bash", SLURM, "start", folder / "slurm"], env=environment | settings, check=True, timeout=120)
    variables = {
        "SLURM_CONF": str(folder / "slurm" / "conf" / "slurm.conf"),
        "SITE": str(folder / "test.env"),
        "SCRATCH": str(folder / "scratch"),
        "OMP_NUM_THREADS": "1",
    }
    try:
        yield environment | variables
    finally:
        subprocess.run(["bash", SLURM, "stop", folder / "slurm"], env=environment, check=True, timeout=120)
