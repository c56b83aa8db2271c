"""What the tests share: the small miniature, made once a session, and the command lines as a user types them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent / "support"))
from miniature import Miniature, write_miniature

# One thread each where pytest-xdist runs several workers, here and in processes started from here: OpenMP's threads
# would wait for each other on cores that other workers need.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count() or 1))


# A deadline per example would measure how busy the machine is.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# `make test-floor` runs the tests from make. What the tests call make for would print more if it inherited these.
for _name in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS"):
    os.environ.pop(_name, None)

# The files that take most of the time, the longest first.
_LONG = (
    "tests/test_jobs/test_extract_job",
    "tests/e2e/test_demo.py",
    "tests/test_extract/backbones/",
    "tests/test_jobs/",
    "tests/e2e/",
    "tests/test_extract/",
)
# Tests that start processes, a cluster or a browser, run whole networks or train for long. Those that use the fixtures
# below do so too.
_PROCESSES = (
    "tests/e2e/",
    "tests/test_jobs/",
    "tests/test_imports.py",
    "tests/test_miniature.py",
    "tests/test_extract/backbones/",
    "tests/test_extract/decode/test_decoders.py",
    "tests/test_extract/decode/test_staging.py",
    "tests/test_extract/test_cli.py",
    "tests/test_extract/test_extraction.py",
    "tests/test_extract/test_inputs.py",
    "tests/test_extract/test_pipeline.py",
    "tests/test_extract/test_preprocess.py::test_features_are",
    "tests/test_extract/weights/",
    "tests/test_features/test_featureset.py::test_processes",
    "tests/test_features/test_reading.py::test_workers",
    "tests/test_heads/sweep/test_sweep_resume.py",
    "tests/test_heads/sweep/test_together.py",
    "tests/test_heads/training/test_fit.py::test_sixteen_segments",
    "tests/test_heads/test_api.py::test_a_plain_process",
    "tests/test_heads/training/test_logistic.py",
    "tests/test_heads/training/test_resume.py",
    "tests/test_heads/training/test_train_options.py",
    "tests/test_live/",
)
_PROCESS_FIXTURES = {"command", "miniature"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of CPUs, and one more where a cluster is tested: those tests wait for it most of the time."""
    return (os.cpu_count() or 1) + ("not process" not in config.getoption("markexpr"))


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts processes, and begin with the long files.

    pytest-xdist deals out file by file: a long file that comes last would keep one worker busy alone.
    """
    for item in items:
        if item.nodeid.startswith(_PROCESSES) or _PROCESS_FIXTURES.intersection(item.fixturenames):
            item.add_marker(pytest.mark.process)
    items.sort(
        key=lambda item: next((index for index, path in enumerate(_LONG) if item.nodeid.startswith(path)), len(_LONG))
    )


@pytest.fixture(scope="session")
def miniature(tmp_path_factory) -> Miniature:
    """The small miniature of the dataset, made once for all workers; read it, never write into it."""
    workers = tmp_path_factory.getbasetemp()
    folder = workers.parent if "PYTEST_XDIST_WORKER" in os.environ else workers
    with open(folder / "miniature.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return write_miniature(folder / "miniature", size="test", seed=0)


@pytest.fixture
def command(tmp_path):
    """Run a command line in a process of its own, in an empty folder; return what it printed and its exit code."""

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
