"""What the tests share: the small miniature, made once a session, and the command lines as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "support"))
from miniature import Miniature, write_miniature

# Beside other workers of pytest-xdist one thread, here and in processes started from here; OpenMP's own wait for each
# other on cores that others need.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count() or 1))


# `make test-floor` calls make again, and what that tells its own commands would make those of the tests talkative.
for _name in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS"):
    os.environ.pop(_name, None)

# Where the time goes, the longest files first.
_LONG = (
    "tests/e2e/test_demo",
    "tests/test_jobs/",
    "tests/test_extract/test_backbones",
    "tests/test_extract/",
    "tests/e2e/",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Take a process more than there are CPUs: those that test a cluster wait for it most of the time."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files: dealt out file by file, one that comes last would keep a process busy by itself."""
    items.sort(key=lambda item: next((at for at, path in enumerate(_LONG) if item.nodeid.startswith(path)), len(_LONG)))


@pytest.fixture(scope="session")
def miniature(tmp_path_factory) -> Miniature:
    """The small miniature of the dataset; read it, never write into it."""
    return write_miniature(tmp_path_factory.mktemp("miniature"), size="test", seed=0)


@pytest.fixture
def command(tmp_path):
    """Run a command line in a process of its own, in an empty folder; give what it printed and its exit code."""

    def run(*arguments: object, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).with_name(str(arguments[0]))
        return subprocess.run(
            [program, *map(str, arguments[1:])], cwd=cwd, capture_output=True, text=True, timeout=600, check=False
        )

    return run


@pytest.fixture(autouse=True)
def _random_state():
    """Leave torch's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        yield
