"""Sixty members need hardly more memory than six: whatever goes through them has few in memory at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic import drawn_predictions, labelled_rows, write_csv

from features.annotations import read_segments
from features.files import write_json
from features.predictions import write_predictions

pytestmark = [pytest.mark.process, pytest.mark.slow]  # reading is slow, and little memory shows with many members only

FEW, MANY = 6, 60
NUM_SEGMENTS = 300
# The other 54 members are 26 MB, and some 50 where each is in memory at once. Peaks of equal work differ by a few.
LIMIT_MB = 20
COMMANDS = {
    "uniform": ("ensemble", "--name", "uniform"),
    "greedy": ("ensemble", "--name", "greedy", "--greedy"),
    "fitted": ("ensemble", "--name", "fitted", "--weights", "fitted", "--temperature"),
    "evaluate": ("evaluate", "--csv"),
}
# Runs the commands one after the other, each in a process of its own that is forked from one with everything loaded,
# and prints the peak memory of each in megabytes.
SCRIPT = """
import json, os, resource, sys
import heads.api, heads.cli, heads.commands.scores, heads.ensembles.run, torch, torch._dynamo
sys.stdout = sys.stderr
peaks = {}
for name, words in json.loads(sys.argv[1]).items():
    if not (child := os.fork()):
        heads.cli.main(words, prog_name="heads")
    _, status, usage = os.wait4(child, 0)
    assert status == 0, name
    peaks[name] = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
os.write(1, json.dumps(peaks).encode())
"""


@pytest.fixture(scope="module")
def peaks(tmp_path_factory) -> dict[int, dict[str, float]]:
    """The peak memory of each command in megabytes, by the number of members."""
    folder = tmp_path_factory.mktemp("members")
    rows = labelled_rows(("P01_01", "P02_02", "P03_03"), NUM_SEGMENTS, np.random.default_rng(0))
    csv = {split: write_csv(folder / f"{split}.csv", rows, labels=True) for split in ("train", "validation")}
    segments = read_segments(csv["validation"])
    for seed in range(MANY):  # all different, as copies count once
        write_predictions(folder / f"{seed}.pt", drawn_predictions(segments, seed=seed))
    measured = {}
    for num in (FEW, MANY):
        runs = folder / f"runs{num}"
        for number in range(num):
            run = runs / f"run-seed{number}"
            record = {f"{split}_csv": str(path) for split, path in csv.items()}
            write_json(run / "config.json", {"head": "bilstm", **record})
            os.link(folder / f"{number}.pt", run / "val_predictions.pt")
        members = sorted(map(str, runs.iterdir()))
        words = {name: [*options, *members, "--runs", str(runs)] for name, options in COMMANDS.items()}
        measured[num] = _peaks_of(words, folder)
    return measured


def _peaks_of(words: dict[str, list[str]], folder: Path) -> dict[str, float]:
    command = [sys.executable, "-c", SCRIPT, json.dumps(words)]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_many_members_need_hardly_more_memory_than_a_few(name, peaks):
    assert peaks[MANY][name] - peaks[FEW][name] < LIMIT_MB, peaks
