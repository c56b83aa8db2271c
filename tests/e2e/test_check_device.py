"""`make check-device` on a CPU, where everything is small: each line is right, or says what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from features.device import DEVICES
from heads.models.catalogue import names

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "check_device.py"


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow
def test_every_line_is_right_on_a_cpu(tmp_path):
    result = _run("--device", "cpu", "--out", tmp_path, "--data", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(result.stdout.splitlines()) < 60
    (path,) = tmp_path.glob("device-cpu-*.json")
    record = json.loads(path.read_text())
    assert all(line["is_right"] for line in record["lines"])
    assert {line["name"] for line in record["lines"] if line["check"] == "Logits of heads"} == set(names())
    assert len({line["check"] for line in record["lines"]}) == 6


@pytest.mark.slow
def test_what_fails_is_a_line_and_not_the_end(tmp_path):
    """Two of the checks are enough: the first fails, and the second goes on."""
    (tmp_path / "epic_like_6s.mp4").write_text("no video")
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\nimport check_device as script\n"
        "names = ('Extraction', 'Resuming on another device')\n"
        "script.CHECKS = {name: script.CHECKS[name] for name in names}\nscript.main()"
    )
    words = ["--device", "cpu", "--out", tmp_path, "--data", tmp_path]
    command = [sys.executable, "-c", code, SCRIPT.parent, *words]
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=600, check=False)
    assert (result.returncode, result.stderr) == (1, "")
    failed = [line for line in result.stdout.splitlines() if line.startswith("  FAIL")]
    assert len(failed) == 1
    assert "epic_like_6s.mp4" in failed[0]
    after = result.stdout.partition("Resuming on another device")[2]
    assert "  ok" in after


def test_a_device_that_is_not_there_is_one_line():
    import torch

    there = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    absent = next(device for device in DEVICES if not there[device])
    result = _run("--device", absent)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith(f"no {absent} on this machine; available: cpu.")
