"""Command lines: in processes of their own, as a user types them, and in this one, where that is not the point."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import torch
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"


def output_of(
    *command: object, folder: Path, timeout_s: float, environment: Mapping[str, str] | None = None, **variables: object
) -> str:
    """Run a command that has to end well; return what it printed.

    Args:
        environment: instead of this process's own; the commands of this project are found in either.
        variables: beside it.
    """
    environment = dict(os.environ if environment is None else environment)
    environment |= {name: str(value) for name, value in variables.items()}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    process = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def output_here(program: click.Command, *arguments: object, **variables: object) -> str:
    """Run a command of this project, which has to end well, in this process and on one thread; return what it printed.

    A process of its own takes seconds to load torch.

    Args:
        variables: environment variables to set meanwhile.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        words = [str(word) for word in arguments]
        result = CliRunner().invoke(program, words, env={name: str(value) for name, value in variables.items()})
    finally:
        torch.set_num_threads(threads)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout
