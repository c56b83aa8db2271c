"""Locks of run folders: the second process is refused before it writes, and a dead process keeps nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from synthetic import drawn_predictions, write_synthetic

from features.errors import DataError
from features.files import read_json
from features.predictions import write_predictions
from heads.locks import InUseError, _note_missing_locks, locked, need_unlocked

PROGRAM = Path(sys.executable).with_name("heads")
HERE = f"process {os.getpid()} on {socket.gethostname()}; wait until it ends."


def files_of(folder: Path) -> dict[str, bytes]:
    """What a folder holds, without locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".lock")
    }


# ---- the lock itself


def test_a_folder_is_locked_once_and_the_holder_is_named(tmp_path):
    with locked(tmp_path / "run"), pytest.raises(InUseError) as error, locked(tmp_path / "run"):
        pass
    assert str(error.value) == f"{tmp_path / 'run'}: in use by {HERE}"
    with locked(tmp_path / "run"):
        pass


def test_parts_and_other_folders_are_locked_by_themselves(tmp_path):
    with locked(tmp_path / "a"), locked(tmp_path / "b"), locked(tmp_path / "a", part="0of2"):
        with pytest.raises(InUseError), locked(tmp_path / "a", part="0of2"):
            pass
        with locked(tmp_path / "a", part="1of2"):
            pass


def test_a_lock_leaves_nothing_behind_but_what_was_there_or_was_written(tmp_path):
    with locked(tmp_path / "runs" / "a"):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with locked(tmp_path / "empty"), locked(tmp_path / "runs" / "b"):
        (tmp_path / "runs" / "b" / "config.json").touch()
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {
        *("empty", "runs", "runs/b", "runs/b/config.json")
    }


def test_an_error_ends_a_lock(tmp_path):
    with pytest.raises(KeyboardInterrupt), locked(tmp_path / "run"):
        raise KeyboardInterrupt
    need_unlocked(tmp_path / "run")


def test_a_folder_that_was_deleted_and_made_again_has_another_lock(tmp_path):
    """And the first process does not remove the lock of the second."""
    with locked(tmp_path / "run"):
        (tmp_path / "run" / ".lock").unlink()
        (tmp_path / "run").rmdir()
        with locked(tmp_path / "run"):
            content = (tmp_path / "run" / ".lock").read_text()
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / ".lock").write_text(content)
    assert (tmp_path / "run" / ".lock").exists()


def test_the_lock_of_another_machine_says_what_to_do_if_that_is_gone(tmp_path):
    with locked(tmp_path):
        (tmp_path / ".lock").write_text("17 node3\n")
        with pytest.raises(InUseError) as error:
            need_unlocked(tmp_path)
    remedy = f"(if that machine is gone, delete {tmp_path / '.lock'})"
    assert str(error.value) == f"{tmp_path}: in use by process 17 on node3; wait until it ends {remedy}."


def test_a_holder_that_has_not_written_its_name_yet_is_another_process(tmp_path):
    with locked(tmp_path):
        (tmp_path / ".lock").write_text("")
        with pytest.raises(InUseError, match="in use by another process; wait until it ends"):
            need_unlocked(tmp_path)


@pytest.mark.process
def test_of_many_processes_that_lock_a_folder_again_and_again_one_holds_it(tmp_path):
    """The file of a lock is removed with it; nobody may be left with a lock on a file that is gone."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom heads.locks import InUseError, locked\n"
        "folder, held = Path(sys.argv[1]), 0\n"
        "while held < 300:\n"
        "    try:\n"
        "        with locked(folder / 'run'):\n"
        "            (folder / 'alone').mkdir()\n"
        "            (folder / 'alone').rmdir()\n"
        "            held += 1\n"
        "    except InUseError:\n"
        "        pass\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path], stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert (errors, [path.name for path in tmp_path.rglob("*") if path.name != "run"]) == ([""] * 3, [])


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_noted_once(number, tmp_path, monkeypatch, capsys):
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    _note_missing_locks.cache_clear()
    for name in ("a", "b"):
        with locked(tmp_path / name):
            (tmp_path / name / "file").touch()
    note = "the file system of the run folders has no locks"
    assert capsys.readouterr().err.count(note) == 1


def test_a_folder_that_cannot_be_written_needs_no_lock(tmp_path, monkeypatch):
    """Finished runs of someone else may be read and ensembled."""

    def refused(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refused)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with locked(tmp_path):
        pass
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    with pytest.raises(DataError, match="cannot be written: Permission denied"), locked(tmp_path):
        pass


@pytest.mark.parametrize("name", ["runs", "runs/a"])
def test_a_folder_that_cannot_be_made_is_an_error(tmp_path, name):
    (tmp_path / "runs").touch()
    with pytest.raises(DataError, match=f"{name}: cannot be written: "), locked(tmp_path / name):
        pass


def test_a_folder_that_is_removed_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    """The process that held its lock may do so between mkdir, which finds it, and the look at what was found."""
    mkdir, calls = os.mkdir, []

    def found_and_lost(path: str, *mode: int) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        mkdir(path, *mode)

    monkeypatch.setattr(os, "mkdir", found_and_lost)
    with locked(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()


# ---- whatever writes a run folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, synthetic):
    """A finished run, an ensemble of it and a file, and a sweep of two runs; read it, never write into it."""
    from click.testing import CliRunner

    from heads.cli import main

    folder = tmp_path_factory.mktemp("finished")
    write_predictions(folder / "other.pt", drawn_predictions(synthetic.segments("validation"), seed=5))
    commands = commands_of(synthetic, folder)
    for name in ("train", "ensemble", "sweep"):
        result = CliRunner().invoke(main, [str(word) for word in commands[name]])
        assert result.exit_code == 0, result.output
    return folder


def commands_of(dataset, folder: Path) -> dict[str, list[object]]:
    runs = ("--runs", folder / "runs")
    data = (*dataset.options, *runs, "--device", "cpu", "--batch-size", 8)
    train = ("train", "--head", "mean_pool", *data)
    ensemble = ("ensemble", folder / "runs" / "mean_pool-seed0", folder / "other.pt", *runs)
    sweep = ("sweep", "--head", "mean_pool", *data, "--epochs", 4, "--grid", "lr=1e-3,1e-4")
    return {
        "train": [*train, "--epochs", 2],
        "train other seeds first": [*train, "--epochs", 2, "--seeds", "1,0"],
        "evaluate again": [*train, "--epochs", 0],
        "predict": ["predict", folder / "runs" / "mean_pool-seed0", "--split", "train"],
        "predict --tta": ["predict", folder / "runs" / "mean_pool-seed0", "--tta"],
        "ensemble": [*ensemble],
        "ensemble --force": [*ensemble, "--greedy", "--force"],
        "sweep": [*sweep],
        "sweep --together": [*sweep, "--together", 2],
        "sweep --shard": [*sweep, "--shard", "0/2"],
        "sweep --halving": [*sweep, "--halving"],
    }


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        *[(name, "mean_pool-seed0") for name in ("train", "train other seeds first", "evaluate again")],
        *[(name, "mean_pool-seed0") for name in ("predict", "predict --tta")],
        *[(name, "ensemble") for name in ("ensemble", "ensemble --force")],
        *[(name, "sweep") for name in ("sweep", "sweep --together", "sweep --halving")],
        ("sweep --halving", "sweep/lr-1e-4-seed0"),
    ],
)
def test_whatever_writes_a_folder_is_refused_while_another_process_does(name, folder, finished, synthetic, heads):
    before, in_use = files_of(finished), finished / "runs" / folder
    with locked(in_use):
        result = heads(*commands_of(synthetic, finished)[name])
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, f"Error: {in_use}: in use by {HERE}")
    assert files_of(finished) == before


@pytest.mark.parametrize("name", ["sweep", "sweep --together"])
def test_a_sweep_trains_what_is_not_in_use(name, synthetic, heads, tmp_path):
    runs = tmp_path / "runs" / "sweep"
    with locked(runs / "lr-1e-4-seed0"):
        result = heads(*commands_of(synthetic, tmp_path)[name])
    assert (result.exit_code, "1 of 2 runs failed" in result.stderr) == (1, True)
    assert read_json(runs / "failed.json") == {"lr-1e-4": {"0": f"{runs / 'lr-1e-4-seed0'}: in use by {HERE}"}}
    assert (runs / "lr-1e-3-seed0" / "val_predictions.pt").exists()
    assert heads(*commands_of(synthetic, tmp_path)[name]).exit_code == 0
    assert not (runs / "failed.json").exists()


def test_tasks_of_a_sweep_share_its_folder_and_none_is_done_twice(synthetic, heads, tmp_path):
    runs = tmp_path / "runs" / "sweep"
    arguments = commands_of(synthetic, tmp_path)["sweep --shard"]
    with locked(runs, part="1of2"):
        assert heads(*arguments).exit_code == 0
    with locked(runs, part="0of2"):
        assert f"{runs}: in use by {HERE}" in heads(*arguments).stderr


# ---- two real processes


@pytest.mark.process
def test_of_two_commands_for_one_run_the_second_is_refused_and_a_killed_one_keeps_nothing(heads, tmp_path):
    dataset = write_synthetic(tmp_path / "data", train=40)
    run = tmp_path / "runs" / "mean_pool-seed0"
    options = (*dataset.options, "--runs", tmp_path / "runs", "--device", "cpu", "--epochs", 80, "--batch-size", 4)
    command = [str(word) for word in (PROGRAM, "train", "--head", "mean_pool", *options)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (run / "metrics.csv").exists() and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        first.send_signal(signal.SIGSTOP)
        os.waitpid(first.pid, os.WUNTRACED)
        before = files_of(run)
        second = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert second.returncode == 1
        expected = f"process {first.pid} on {socket.gethostname()}; wait until it ends."
        assert second.stderr == f"Error: {run}: in use by {expected}\n"
        assert files_of(run) == before
    finally:
        first.kill()
        first.wait()
    result = heads(*command[1:])
    assert (result.exit_code, (run / ".lock").exists()) == (0, False)
