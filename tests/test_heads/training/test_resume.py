"""Runs that are cut off: killed, interrupted, between two files. They go on, and end as unbroken ones do."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from forked import cut_off_at
from run_files import weights_of
from small_heads import small_options
from synthetic import Synthetic

from features.errors import DataError
from features.files import read_json, write_json
from heads.cli import main
from heads.config import make_config
from heads.models.catalogue import is_fitted, names
from heads.training.fit import fit

# The shorter an epoch, the more of them, so that there is time to cut into the run.
EPOCHS = {"mean_pool": 80, "mlp": 40, "bilstm": 16}
SETTINGS = ("--batch-size", 8, "--lr", 1e-3, "--warmup-epochs", 2)
every_head = pytest.mark.parametrize("name", [name for name in names() if not is_fitted(name)])


def _epochs(name: str) -> int:
    return EPOCHS.get(name, 10)


def _set(options: dict[str, object]) -> list[object]:
    return [word for key, value in options.items() for word in ("--set", f"{key}={value}")]


def _arguments(name: str, dataset: Synthetic, runs: Path) -> list[str]:
    size = ("--epochs", _epochs(name), *_set(small_options(name, dropout=0.4)))
    paths = (*dataset.options, "--runs", runs)
    return [str(word) for word in ("train", "--head", name, "--device", "cpu", *SETTINGS, *size, *paths)]


@pytest.fixture(scope="module")
def unbroken_run(larger_synthetic, tmp_path_factory):
    """The run folder of a head that was trained in one go."""
    folders = {}

    def train(name: str) -> Path:
        if name not in folders:
            runs = tmp_path_factory.mktemp("unbroken")
            result = CliRunner().invoke(main, _arguments(name, larger_synthetic, runs))
            assert result.exit_code == 0, result.output
            folders[name] = runs / f"{name}-seed0"
        return folders[name]

    return train


def _num_epochs(metrics: Path) -> int:
    return metrics.read_text().count("\n") - 1 if metrics.is_file() else 0


def _differences(folder: Path, other: Path) -> list[str]:
    """What of two runs is not the same to the last bit."""
    differences = []
    for file in ("best_model.pth", "last.pth"):
        ours, theirs = weights_of(folder / file), weights_of(other / file)
        assert ours.keys() == theirs.keys()
        differences += [f"{file} {key}" for key in ours if not torch.equal(ours[key], theirs[key])]
    ours, theirs = (torch.load(run / "last.pth", weights_only=True) for run in (folder, other))
    if not torch.equal(ours["rng_cpu"], theirs["rng_cpu"]):
        differences.append("random state")
    for number, state in theirs["optimizer"]["state"].items():
        our_state = ours["optimizer"]["state"][number]
        differences += [f"optimizer {number} {key}" for key in state if not torch.equal(our_state[key], state[key])]
    for file in ("val_predictions.pt", "test_predictions.pt"):
        ours, theirs = (torch.load(run / file, weights_only=True) for run in (folder, other))
        assert [row["narration_id"] for row in ours] == [row["narration_id"] for row in theirs]
        for task in ("verb_output", "noun_output"):
            if any(
                not torch.equal(our_row[task], their_row[task]) for our_row, their_row in zip(ours, theirs, strict=True)
            ):
                differences.append(f"{file} {task}")
    if (folder / "metrics.csv").read_bytes() != (other / "metrics.csv").read_bytes():
        differences.append("metrics.csv")
    return differences


@every_head
def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(name, larger_synthetic, unbroken_run, heads, tmp_path):
    arguments = _arguments(name, larger_synthetic, tmp_path / "runs")
    metrics = tmp_path / "runs" / f"{name}-seed0" / "metrics.csv"
    code, _ = cut_off_at(arguments, signal.SIGKILL, lambda: _num_epochs(metrics) >= 3, tmp_path / "log")
    assert code == -signal.SIGKILL
    assert 3 <= _num_epochs(metrics) < _epochs(name)
    result = heads(*arguments)
    assert result.exit_code == 0, result.output
    assert _differences(tmp_path / "runs" / f"{name}-seed0", unbroken_run(name)) == []


# ---- an interruption from the keyboard, and SLURM's signal that the time limit is near


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGINT, "Interrupted"), (signal.SIGUSR1, "heads train: stopped by SIGUSR1")],
    ids=["SIGINT", "SIGUSR1"],
)
def test_an_interrupted_run_says_so_and_can_go_on(number, reason, larger_synthetic, unbroken_run, heads, tmp_path):
    arguments, folder = (
        _arguments("mean_pool", larger_synthetic, tmp_path / "runs"),
        tmp_path / "runs" / "mean_pool-seed0",
    )
    # A shell's background jobs ignore SIGINT and so do their children; this one shall not.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    program = Path(sys.executable).with_name("heads")
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, previous)
    while process.poll() is None and _num_epochs(folder / "metrics.csv") < 3:
        time.sleep(0.002)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=1800)
    assert process.returncode == 128 + number
    assert stderr.rstrip().endswith(f"{reason}. Finished work is kept; the same command continues from there.")
    assert "Traceback" not in stderr
    assert heads(*arguments).exit_code == 0
    assert _differences(folder, unbroken_run("mean_pool")) == []


# ---- a kill between two files


@pytest.fixture
def run_copy(unbroken_run, tmp_path):
    """A copy of a finished run, to be put back to what a kill leaves behind."""
    return shutil.copytree(unbroken_run("mean_pool"), tmp_path / "runs" / "mean_pool-seed0")


@pytest.mark.parametrize(
    "missing_files", [("val_predictions.pt",), ("test_predictions.pt",), ("val_predictions.pt", "test_predictions.pt")]
)
def test_predictions_that_were_not_written_yet_are(
    missing_files, larger_synthetic, unbroken_run, heads, run_copy, tmp_path
):
    for name in missing_files:
        (run_copy / name).unlink()
    heads(*_arguments("mean_pool", larger_synthetic, tmp_path / "runs"))
    assert _differences(run_copy, unbroken_run("mean_pool")) == []


def test_a_run_that_ended_before_the_metrics_of_its_last_epoch_writes_them(larger_synthetic, heads, tmp_path):
    arguments = (*_arguments("mean_pool", larger_synthetic, tmp_path / "runs"), "--epochs", 1)
    metrics = tmp_path / "runs" / "mean_pool-seed0" / "metrics.csv"
    metrics.mkdir(parents=True)  # a folder in its place: the file cannot be written
    assert "metrics.csv: cannot be written" in heads(*arguments).stderr
    metrics.rmdir()
    heads(*arguments)
    assert metrics.is_file()


def test_a_run_that_was_killed_before_its_first_epoch_begins_anew(
    larger_synthetic, unbroken_run, heads, run_copy, tmp_path
):
    for path in run_copy.iterdir():
        if path.name != "config.json":
            path.unlink()
    heads(*_arguments("mean_pool", larger_synthetic, tmp_path / "runs"))
    assert _differences(run_copy, unbroken_run("mean_pool")) == []


def test_files_that_a_kill_left_half_written_change_nothing(larger_synthetic, unbroken_run, heads, run_copy, tmp_path):
    (run_copy / "last.pth").unlink()
    (run_copy / ".last.pth.elsewhere.12345.tmp").write_bytes(b"half")
    heads(*_arguments("mean_pool", larger_synthetic, tmp_path / "runs"))
    assert _differences(run_copy, unbroken_run("mean_pool")) == []


def test_a_damaged_checkpoint_is_an_error_that_names_it(larger_synthetic, heads, run_copy, tmp_path):
    content = (run_copy / "last.pth").read_bytes()
    (run_copy / "last.pth").write_bytes(content[: len(content) // 2])
    result = heads(*_arguments("mean_pool", larger_synthetic, tmp_path / "runs"))
    assert result.exit_code == 1
    assert "last.pth: cannot be loaded safely" in result.stderr


def test_a_run_whose_config_has_an_old_name_of_a_setting_goes_on(
    larger_synthetic, unbroken_run, heads, run_copy, tmp_path
):
    config = json.loads((run_copy / "config.json").read_text())
    config["clip"] = config.pop("clip_grad")
    (run_copy / "config.json").write_text(json.dumps(config))
    result = heads(*_arguments("mean_pool", larger_synthetic, tmp_path / "runs"))
    assert result.exit_code == 0, result.output
    assert "clip" not in result.output
    assert _differences(run_copy, unbroken_run("mean_pool")) == []


def test_a_run_of_version_0_1_is_taken_for_one_with_biases_near_zero(train_data, tmp_path):
    settings = {"epochs": 2, "batch_size": 8, "bias": "zero", "mixup": 0, "select": "action"}
    config = make_config("mean_pool", {}, settings)
    folder = fit(config, train_data, tmp_path / "run", device=torch.device("cpu")).folder
    record = read_json(folder / "config.json")
    write_json(folder / "config.json", {key: value for key, value in record.items() if key not in ("bias", "select")})
    assert fit(config, train_data, folder, device=torch.device("cpu")).was_there
    prior = make_config("mean_pool", {}, {**settings, "bias": "prior"})
    with pytest.raises(DataError, match=r"holds another run .bias 'zero' there, 'prior' now"):
        fit(prior, train_data, folder, device=torch.device("cpu"))
