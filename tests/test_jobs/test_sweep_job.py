"""`make sweep` on a real SLURM: the tasks of an array share the runs, and lose none whatever happens to them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import ROOT, Cluster, checkout_in, needs_slurm, running_slurm
from holding import wait_until
from synthetic import write_synthetic

from features.files import read_json
from heads.runs import read_metrics

EPOCHS = 8
SPEC = """\
grid:
  lr: [1e-4, 1e-3, 1e-2]
  loss: [ce, focal]
head: mlp:hidden=32
epochs: {epochs}
batch-size: 8
device: cpu
features: {features}
annotations: {annotations}
"""


@pytest.fixture(scope="module")
def sweep_folder(tmp_path_factory) -> Path:
    """A folder with features, and sweep.yaml on them."""
    folder = tmp_path_factory.mktemp("sweeps")
    dataset = write_synthetic(folder / "data", train=40, validation=12, test=4)
    spec = SPEC.format(epochs=EPOCHS, features=dataset.features, annotations=dataset.annotations)
    (folder / "sweep.yaml").write_text(spec)
    (folder / "halved.yaml").write_text(f"{spec}halving: true\n")
    diverging = spec.replace("1e-4, 1e-3, 1e-2", "1e30, 1e28").replace(f"epochs: {EPOCHS}", "epochs: 2")
    (folder / "failing.yaml").write_text(f"{diverging}warmup_epochs: 0\n")
    return folder


@pytest.fixture(scope="module")
def cluster(sweep_folder) -> Iterator[Cluster]:
    with running_slurm(sweep_folder, nodes=1) as environment:
        yield Cluster(sweep_folder, environment)


def _submit(
    cluster: Cluster, name: str, *, tasks: int = 2, spec: str = "sweep.yaml", **variables: object
) -> tuple[str, Path]:
    """Submit a sweep into runs of its own; return the job's id and the sweep's folder."""
    runs = cluster.folder / name
    variables = {"EPIC_RUNS": runs, "LOGS": runs / "logs", **variables}
    job = cluster.make("sweep", f"SPEC={cluster.folder / spec}", TASKS=tasks, **variables)
    return job, runs / "sweep"


@pytest.fixture(scope="module")
def local_sweep(cluster) -> Path:
    """The folder of a sweep that ran in one go, where it was typed."""
    runs = cluster.folder / "local"
    make = ("make", "-s", "-C", ROOT, f"VENV={sys.prefix}", "sweep", f"SPEC={cluster.folder / 'sweep.yaml'}")
    cluster.run(*make, LOCAL=1, EPIC_RUNS=runs)
    return runs / "sweep"


def _metrics(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("*/metrics.csv")}


def _finish_times(folder: Path) -> dict[str, int]:
    """When the runs that are finished were last trained."""
    return {path.parent.name: path.with_name("last.pth").stat().st_mtime_ns for path in folder.glob("*/test_pred*")}


def _log(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.with_name("logs").glob("*.log")))


@needs_slurm
def test_tasks_share_the_runs_and_end_as_one_sweep_does(cluster, local_sweep):
    job, folder = _submit(cluster, "array", tasks=4)
    assert cluster.finish(job) == {"COMPLETED"}
    assert sorted(re.findall(r"^(\d) of 6 runs in", _log(folder), flags=re.MULTILINE)) == ["1", "1", "2", "2"]
    assert len(_finish_times(folder)) == 6
    assert _metrics(folder) == _metrics(local_sweep)


# A task stops by itself in the second of its three runs, before it keeps the second epoch.
_IN_THE_SECOND_RUN = f"os.rename:last.pth:{EPOCHS + 2}"


@needs_slurm
@pytest.mark.slow
@pytest.mark.parametrize("interruption", ["requeue", "USR1"])
def test_task_that_has_another_turn_goes_on(interruption, cluster, local_sweep):
    site = cluster.holding_site(interruption, _IN_THE_SECOND_RUN, tasks=[1])
    job, folder = _submit(cluster, interruption, SITE=site)
    (pid,) = cluster.held(interruption)
    wait_until(lambda: "task 0 ended with exit code 0" in _log(folder), "the other task to end")
    finished_before = _finish_times(folder)
    assert len(finished_before) == 4
    if interruption == "USR1":  # as SLURM sends it before the time limit
        cluster.stop(f"{job}_1", pid)
    else:
        cluster.run("scontrol", "requeue", f"{job}_1")
    assert cluster.finish(job) == {"COMPLETED"}
    assert f"task 1 of 2, job {job} on" in _log(folder)  # the array's own id
    assert re.findall(r"task (\d) of 2, job .*, start (\d)", _log(folder)) == [("0", "1"), ("1", "1"), ("1", "2")]
    assert ("Asking for another turn." in _log(folder)) == (interruption == "USR1")
    assert finished_before.items() <= _finish_times(folder).items()
    assert _metrics(folder) == _metrics(local_sweep)


@needs_slurm
def test_training_near_its_time_limit_has_another_turn(cluster):
    logs = cluster.folder / "training"
    logs.mkdir()
    site = cluster.holding_site("training", "os.rename:last.pth:3", tasks=[1])
    heads = Path(sys.executable).with_name("heads")
    command = (heads, "train", "--head", "mlp:hidden=32", "--epochs", EPOCHS, "--batch-size", 8, "--device", "cpu")
    data = cluster.folder / "data"
    folders = ("--features", data / "features", "--annotations", data / "annotations", "--runs", data / "runs")
    options = ("--parsable", "--mem=300M", "--array=0-1", f"--output={logs}/%a.log", ROOT / "jobs" / "train.sbatch")
    job = cluster.run("sbatch", *options, site, *command, *folders).strip()
    (pid,) = cluster.held("training")
    log = logs / "1.log"
    cluster.stop(f"{job}_1", pid)
    assert cluster.finish(job) == {"COMPLETED"}
    assert re.findall(r"seed 1, job (\d+) on \S+, start (\d)", log.read_text()) == [(job, "1"), (job, "2")]
    assert "heads train: stopped by SIGUSR1. Finished work is kept" in log.read_text()
    assert "start 2" not in (logs / "0.log").read_text()
    rows = read_metrics(data / "runs" / "mlp-seed1" / "metrics.csv")
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))


@needs_slurm
@pytest.mark.slow
def test_killed_tasks_are_completed_by_an_array_of_another_size(cluster, local_sweep):
    site = cluster.holding_site("killed", _IN_THE_SECOND_RUN, tasks=[0, 1])
    job, folder = _submit(cluster, "killed", SITE=site)
    for pid in cluster.held("killed", 2):
        os.kill(pid, signal.SIGKILL)
    assert cluster.finish(job) == {"FAILED"}
    assert "ended with exit code 137" in _log(folder)
    finished_before = _finish_times(folder)
    assert len(finished_before) == 2
    job, _ = _submit(cluster, "killed", tasks=3)
    assert cluster.finish(job) == {"COMPLETED"}
    assert finished_before.items() <= _finish_times(folder).items()
    assert _metrics(folder) == _metrics(local_sweep)


@needs_slurm
@pytest.mark.slow
def test_failures_of_tasks_stand_beside_each_other_until_the_sweep_is_done_otherwise(cluster):
    job, folder = _submit(cluster, "failing", spec="failing.yaml")
    assert cluster.finish(job) == {"FAILED"}
    failures = [set(read_json(folder / f"failed-{task}of2.json")) for task in (0, 1)]
    assert [len(names) for names in failures] == [2, 2]
    assert failures[0].isdisjoint(failures[1])
    job, _ = _submit(cluster, "failing", spec="failing.yaml", tasks=1)
    assert cluster.finish(job) == {"FAILED"}
    assert [path.name for path in folder.glob("failed*.json")] == ["failed.json"]
    assert set(read_json(folder / "failed.json")) == failures[0] | failures[1]


@needs_slurm
@pytest.mark.slow
def test_one_task_may_halve(cluster):
    job, folder = _submit(cluster, "halved", spec="halved.yaml", tasks=1)
    assert cluster.finish(job) == {"COMPLETED"}
    assert len(_finish_times(folder)) == 2  # of 6, 3 go on and then 2
    assert sum(decision["stopped"] for decision in read_json(folder / "halving.json")) == 4


# ---- without SLURM


@pytest.fixture
def make(sweep_folder, tmp_path):
    """Run `make sweep` with a stand-in for sbatch; return how it ended, and the words that sbatch was given, if any."""
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(f"#!/bin/bash\nprintf '%q ' \"$@\" >{tmp_path / 'call'}\necho 7\n")
    sbatch.chmod(0o755)
    base = {name: value for name, value in os.environ.items() if name not in ("SITE", "EPIC_RUNS", "EPIC_FEATURES")}
    environment = base | {"PATH": f"{sbatch.parent}:{os.environ['PATH']}", "LOGS": str(tmp_path / "logs")}

    def run(
        spec: str, *, checkout: Path = ROOT, **variables: str
    ) -> tuple[subprocess.CompletedProcess[str], list[str] | None]:
        words = ["make", "-s", "-C", str(checkout), "sweep", f"SPEC={sweep_folder / spec}"]
        words += [f"VENV={sys.prefix}"] if checkout == ROOT else []
        process = subprocess.run(words, env=environment | variables, capture_output=True, text=True, check=False)
        call = tmp_path / "call"
        return process, shlex.split(call.read_text()) if call.exists() else None

    return run


def test_submission_asks_for_what_training_needs_and_says_how_to_watch_it(make, sweep_folder, tmp_path):
    process, words = make("sweep.yaml", TASKS="3", LIMIT="2", EPIC_RUNS="/scratch/runs")
    assert process.returncode == 0, process.stderr
    assert {"--array=0-2%2", "--gpus-per-node=1", "--time=04:00:00"} <= set(words)
    program = words[words.index("env") :]
    assert "EPIC_RUNS=/scratch/runs" in program  # jobs may start in a clean environment
    assert program[-2:] == ["sweep", str(sweep_folder / "sweep.yaml")]
    assert "Submitted job 7, 3 tasks." in process.stdout
    assert "  squeue --jobs 7\n" in process.stdout
    assert f"  tail -f {tmp_path / 'logs'}/sweep-7_0.log\n" in process.stdout
    assert process.stdout.endswith(f"heads sweep {sweep_folder / 'sweep.yaml'} --dry-run\n")


def test_checkout_and_data_may_have_spaces_in_their_names(make, tmp_path):
    checkout = checkout_in(tmp_path / "check out")
    process, words = make("sweep.yaml", checkout=checkout, EPIC_RUNS=f"{tmp_path}/my runs", LOGS=f"{tmp_path}/my logs")
    assert process.returncode == 0, process.stderr
    assert f"EPIC_RUNS={tmp_path}/my runs" in words
    assert str(checkout / ".venv" / "bin" / "heads") in words
    tail, watch = (shlex.split(line) for line in process.stdout.splitlines()[-2:])
    assert tail == ["tail", "-f", f"{tmp_path}/my logs/sweep-7_0.log"]
    assert watch[1:] == [*words[words.index("env") + 1 :], "--dry-run"]


def test_last_line_of_a_submission_tells_how_far_the_runs_are(make):
    process, _ = make("sweep.yaml")
    watch_process = subprocess.run(
        process.stdout.splitlines()[-1], shell=True, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert watch_process.stdout.count("to do") == 6, watch_process.stderr


@pytest.mark.parametrize(
    ("spec", "variables", "message"),
    [
        ("halved.yaml", {}, "--halving: compares all runs with each other, and --shard 3/4 is a part of them"),
        ("sweep.yaml", {"TASKS": "7"}, "there are only 6 runs to deal"),
        ("sweep.yaml", {"TASKS": "none"}, "'none' is not a number of tasks above 0"),
        ("absent.yaml", {}, "absent.yaml: cannot be read"),
    ],
)
def test_what_no_task_could_do_is_not_submitted(spec, variables, message, make):
    process, words = make(spec, **variables)
    assert process.returncode != 0
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert words is None


def test_dry_run_prints_the_command_and_deals_the_runs_and_submits_nothing(make):
    process, words = make("sweep.yaml", DRY_RUN="1", SITE="vsc-wice", TASKS="2")
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("sbatch --parsable --clusters=wice ")
    assert "module load PyTorch" in process.stdout
    assert re.findall(r"-seed0 +(\d)  to do$", process.stdout, flags=re.MULTILINE) == ["0", "1"] * 3
    assert words is None


def test_where_there_is_no_slurm_the_sweep_runs_here_and_may_halve(make, tmp_path):
    process, words = make("halved.yaml", LOCAL="1", EPIC_RUNS=str(tmp_path / "runs"))
    assert process.returncode == 0, process.stderr
    assert len(_finish_times(tmp_path / "runs" / "sweep")) == 2
    assert words is None


def test_sweep_without_a_spec_says_what_is_missing():
    words = ["make", "-s", "-C", str(ROOT), f"VENV={sys.prefix}", "sweep"]
    process = subprocess.run(words, capture_output=True, text=True, check=False)
    assert process.returncode != 0
    assert "SPEC is missing" in process.stderr
