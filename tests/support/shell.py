"""Command lines in processes of their own, as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"


def output_of(
    *command: object, folder: Path, timeout_s: float, environment: Mapping[str, str] | None = None, **variables: object
) -> str:
    """Run a command that has to end well; give what it printed.

    Args:
        environment: instead of this process's own; the commands of this project are found in either.
        variables: beside it.
    """
    environment = dict(os.environ if environment is None else environment)
    environment |= {name: str(value) for name, value in variables.items()}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    ran = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
