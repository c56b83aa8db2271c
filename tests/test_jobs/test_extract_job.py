"""`make extract` on a real SLURM: an array does every video once, and survives what clusters do to jobs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from annotate import annotate
from encode import write_video
from miniature import Miniature

from features.annotations import read_segments
from features.check import info, verify
from features.featureset import read_featureset
from features.predictions import read_predictions
from features.store import read_video, video_ids

ROOT = Path(__file__).resolve().parents[2]
SLURM = ROOT / "tests" / "slurm-local.sh"
needs_slurm = pytest.mark.skipif(shutil.which("slurmctld") is None, reason="SLURM is not installed")
SITE = """\
SITE_OPTIONS=(--gpus-per-node=1 --cpus-per-task=1 --mem=400M --time=10)
site_setup() { :; }
"""


@dataclass(frozen=True)
class _Cluster:
    """A SLURM of our own, and miniature data to extract with r3d_18, which takes a second a segment."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: object, **variables: object) -> str:
        """Run a command in the folder; give what it prints."""
        ran = subprocess.run(
            [str(word) for word in command],
            cwd=self.folder,
            env=self.environment | {name: str(value) for name, value in variables.items()},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def submit(self, out: Path, *, tasks: int = 2, backbone: str = "r3d_18") -> str:
        """Submit `make extract`; give the job's id."""
        make = ("make", "-s", "-C", ROOT, f"VENV={sys.prefix}", "extract", f"BACKBONE={backbone}")
        said = self.run(
            *make, "WEIGHTS=random:0", "DEVICE=cpu", f"OUT={out}", TASKS=tasks, LOGS=out.with_name(f"{out.name}-logs")
        )
        return said.split("Submitted job ", 1)[1].split(",", 1)[0]

    def states(self, job: str) -> dict[str, str]:
        """Give the state of each task of a job that has begun, JobId -> state."""
        lines = self.run("scontrol", "show", "job", "-o", job).splitlines()
        fields = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
        return {one["JobId"]: one["JobState"] for one in fields}

    def wait(self, condition: Callable[[], bool], what: str, *, seconds: float = 120) -> None:
        """Wait until a condition holds, or fail."""
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, f"waited in vain for {what}"
            time.sleep(0.2)

    def finish(self, job: str) -> set[str]:
        """Wait until no task of a job is left; give the states in which they ended."""
        self.wait(lambda: not self.run("squeue", "-h", "-j", job).strip(), f"job {job} to end")
        return set(self.states(job).values())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[_Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    times = {}
    for video in range(4):
        write_video(folder / "videos" / "P01" / f"P01_{video:02}.mp4", num_frames=180)
        times |= {f"P01_{video:02}_{number}": (number * 0.5, number * 0.5 + 1) for number in range(8)}
    annotate(folder / "segments.csv", times)
    (folder / "test.env").write_text(SITE)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
    subprocess.run(["bash", SLURM, "start", folder / "slurm"], env=clean, check=True, timeout=120)
    variables = {
        "SLURM_CONF": str(folder / "slurm" / "conf" / "slurm.conf"),
        "SITE": str(folder / "test.env"),
        "EPIC_ANNOTATIONS": str(folder / "segments.csv"),
        "EPIC_VIDEOS": str(folder / "videos"),
        "OMP_NUM_THREADS": "1",
    }
    try:
        yield _Cluster(folder, clean | variables)
    finally:
        subprocess.run(["bash", SLURM, "stop", folder / "slurm"], env=clean, check=True, timeout=120)


@pytest.fixture(scope="module")
def local(cluster) -> Path:
    """The set of a local run."""
    out = cluster.folder / "local"
    make = ("make", "-s", "-C", ROOT, f"VENV={sys.prefix}", "extract", "BACKBONE=r3d_18", "WEIGHTS=random:0")
    cluster.run(*make, "DEVICE=cpu", f"OUT={out}", LOCAL=1)
    return out


def _assert_same(cluster: _Cluster, out: Path, local: Path) -> None:
    """A set is whole, sound, and that of the local run."""
    found = info(out, read_segments(cluster.folder / "segments.csv"))
    assert (found.complete_segments, found.failed_segments, found.missing_segments) == (32, 0, 0)
    assert list(verify(out)) == []
    for video_id in video_ids(local):
        ours, theirs = (read_video(root, video_id, digest=read_featureset(root).digest) for root in (out, local))
        assert ours.narration_id == theirs.narration_id
        np.testing.assert_allclose(ours.features, theirs.features, rtol=2**-10, atol=1e-3)


def _log(out: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(out.with_name(f"{out.name}-logs").glob("*.log")))


@needs_slurm
def test_array_does_every_video_once(cluster, local):
    out = cluster.folder / "array"
    job = cluster.submit(out, tasks=4)
    assert cluster.finish(job) == {"COMPLETED"}
    _assert_same(cluster, out, local)
    assert _log(out).count("asked for 8 segments in 1 videos: 8 done, 0 there before, 0 failed") == 4


@needs_slurm
def test_task_near_its_time_limit_has_another_turn(cluster, local):
    out = cluster.folder / "limit"
    job = cluster.submit(out)
    cluster.wait(lambda: _log(out).count("r3d_18: 0/16") == 2, "both tasks to begin")
    cluster.run("scancel", "--signal=USR1", "--batch", f"{job}_0")
    assert cluster.finish(job) == {"COMPLETED"}
    assert "stopped by SIGUSR1" in _log(out)
    assert "start 2" in _log(out)
    _assert_same(cluster, out, local)


@needs_slurm
def test_task_that_is_requeued_goes_on(cluster, local):
    out = cluster.folder / "requeued"
    job = cluster.submit(out)
    cluster.wait(lambda: _log(out).count("r3d_18: 0/16") == 2, "both tasks to begin")
    cluster.run("scontrol", "requeue", f"{job}_1")
    assert cluster.finish(job) == {"COMPLETED"}
    assert "start 2" in _log(out)
    _assert_same(cluster, out, local)


@needs_slurm
def test_killed_task_is_completed_by_another_array_of_other_size(cluster, local):
    out = cluster.folder / "killed"
    job = cluster.submit(out)
    cluster.wait(lambda: len(list(out.glob("*.h5"))) >= 1, "a first video")
    cluster.run("scancel", "--signal=KILL", "--full", job)
    assert cluster.finish(job) != {"COMPLETED"}
    assert list(verify(out)) == []
    assert cluster.finish(cluster.submit(out, tasks=3)) == {"COMPLETED"}
    _assert_same(cluster, out, local)


@needs_slurm
def test_two_arrays_on_one_set_do_no_harm(cluster, local):
    out = cluster.folder / "twice"
    jobs = [cluster.submit(out), cluster.submit(out)]
    assert [cluster.finish(job) for job in jobs] == [{"COMPLETED"}, {"COMPLETED"}]
    _assert_same(cluster, out, local)


@needs_slurm
def test_extraction_with_failures_fails_its_task(cluster):
    out = cluster.folder / "failing"
    assert "FAILED" in cluster.finish(cluster.submit(out, backbone="r3d_19"))
    assert "did you mean 'r3d_18'?" in _log(out)


def _pipeline(cluster: _Cluster, miniature: Miniature, name: str, **variables: str) -> dict[str, str]:
    """Submit `make pipeline` on the miniature; give the id of each step's job once none is left."""
    folder = cluster.folder / name
    make = ("make", "-s", "-C", ROOT, f"VENV={sys.prefix}", "pipeline", "BACKBONE=tiny_cnn", "DEVICE=cpu", "SEEDS=0-1")
    places = {
        "EPIC_ANNOTATIONS": miniature.annotations,
        "EPIC_VIDEOS": miniature.videos,
        "EPIC_FEATURES": folder / "features",
        "EPIC_RUNS": folder / "runs",
        "LOGS": folder / "logs",
    }
    said = cluster.run(*make, "HEAD=mean_pool", "TASKS=2", **places, **variables)
    jobs = dict(re.findall(r"(verify|train|ensemble|submit) (\d+)", said.rsplit("After it:", 1)[1]))
    jobs["extract"] = re.search(r"Submitted job (\d+)", said)[1]
    cluster.wait(lambda: not cluster.run("squeue", "-h").strip(), "the pipeline to end")
    return jobs


@needs_slurm
def test_pipeline_ends_with_a_submission(cluster, miniature):
    jobs = _pipeline(cluster, miniature, "pipeline", WEIGHTS="random:0")
    assert {step: set(cluster.states(job).values()) for step, job in jobs.items()} == {
        step: {"COMPLETED"} for step in ("extract", "verify", "train", "ensemble", "submit")
    }
    submission = cluster.folder / "pipeline" / "runs" / "ensemble" / "submission" / "submission.pt"
    test = read_segments(miniature.annotations / "EPIC_100_test_timestamps.csv")
    assert sorted(read_predictions(submission).narration_id) == sorted(test.narration_id)


@needs_slurm
def test_failing_extraction_keeps_the_steps_after_it_from_running(cluster, miniature):
    jobs = _pipeline(cluster, miniature, "broken", WEIGHTS="default")  # nobody published weights of tiny_cnn
    states = {step: set(cluster.states(job).values()) for step, job in jobs.items()}
    assert states.pop("extract") == {"FAILED"}
    assert states == {step: {"CANCELLED"} for step in ("verify", "train", "ensemble", "submit")}
    logs = cluster.folder / "broken" / "logs"
    assert {path.name.split("-")[0] for path in logs.iterdir()} == {"extract"}
    assert "nobody published weights for tiny_cnn" in "".join(path.read_text() for path in logs.iterdir())


@needs_slurm
def test_status_shows_the_jobs_of_a_running_array(cluster):
    out = cluster.folder / "watched"
    job = cluster.submit(out)
    cluster.wait(lambda: _log(out).count("r3d_18: 0/16") == 2, "both tasks to begin")
    extract = Path(sys.executable).with_name("extract")
    said = cluster.run(extract, "status", out, "--slurm")
    assert re.search(rf"^{job}_0 +RUNNING ", said, flags=re.MULTILINE)
    assert re.search(r"^asked +4 +32$", said, flags=re.MULTILINE)
    assert cluster.finish(job) == {"COMPLETED"}
    assert "No jobs in the queue." in cluster.run(extract, "status", out, "--slurm")


# ---- without SLURM


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_scripts_are_clean():
    scripts = [*(ROOT / "jobs").rglob("*.*"), SLURM]
    ran = subprocess.run(["shellcheck", "-x", *scripts], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def _dry_run(**variables: str) -> subprocess.CompletedProcess[str]:
    make = ["make", "-s", "-C", str(ROOT), f"VENV={sys.prefix}", "extract", "BACKBONE=videomae", "DRY_RUN=1"]
    environment = {name: value for name, value in os.environ.items() if name != "SITE"}
    return subprocess.run(make, env=environment | variables, capture_output=True, text=True, timeout=60, check=False)


def test_dry_run_for_wice_names_what_vsc_asks_for():
    ran = _dry_run(SITE="vsc-wice", ACCOUNT="lp_mine", TASKS="16", LIMIT="4", EPIC_WEIGHTS="/scratch/weights")
    assert ran.returncode == 0, ran.stderr
    words = shlex.split(ran.stdout)
    assert words[:2] == ["sbatch", "--parsable"]
    options = {"--clusters=wice", "--account=lp_mine", "--partition=gpu_a100", "--gpus-per-node=1", "--array=0-15%4"}
    assert options <= set(words)
    # All that the job needs comes as arguments: VSC's jobs start in a clean environment.
    assert words[words.index("--weights-dir") + 1] == "/scratch/weights"
    assert words[-2:] == ["--out", "data/features/videomae-seg16"]
    site = (ROOT / "jobs" / "sites" / "vsc-wice.env").read_text()
    assert "module load PyTorch/2.1.2-foss-2023a-CUDA-12.1.1" in site


def test_unknown_site_is_refused_with_those_there_are():
    ran = _dry_run(SITE="vsc-wce")
    assert ran.returncode == 2
    assert "SITE: no " in ran.stderr
    assert "generic vsc-wice" in ran.stderr


@pytest.mark.parametrize("wrong", [{"TASKS": "0"}, {"TASKS": "many"}, {"LIMIT": "-1"}], ids=str)
def test_wrong_number_of_tasks_is_refused(wrong):
    ran = _dry_run(**wrong)
    assert ran.returncode == 2
    assert f"'{next(iter(wrong.values()))}' is not a number of tasks above 0" in ran.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_signal_ends_an_extraction_in_good_order(number, miniature, tmp_path):
    words = ["extract", "run", "--annotations", miniature.annotations, "--videos", miniature.videos]
    words += ["--backbone", "r3d_18", "--weights", "random:0", "--device", "cpu", "--out", tmp_path / "set"]
    program = [str(Path(sys.executable).with_name("extract")), *map(str, words[1:])]
    running = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "set" / "featureset.json").is_file():
        time.sleep(0.05)
    time.sleep(1)
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 128 + number
    assert f"stopped by {number.name}. What is finished is kept" in said
    assert "Traceback" not in said
    assert list(verify(tmp_path / "set")) == []
    assert not list((tmp_path / "set").rglob("*.tmp"))
    assert not (tmp_path / "set" / "failures").exists()


def test_task_without_videos_ends_well(miniature, tmp_path):
    options = ["--annotations", miniature.annotations, "--videos", miniature.videos, "--out", tmp_path / "set"]
    program = [Path(sys.executable).with_name("extract"), "run", *options, "--backbone", "tiny_cnn"]
    program += ["--weights", "random:0", "--device", "cpu", "--shard", "99/100"]
    ran = subprocess.run(list(map(str, program)), capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "asked for 0 segments in 0 videos" in ran.stdout
