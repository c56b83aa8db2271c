"""`make extract` on a real SLURM: an array does every video once, and survives what clusters do to jobs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from annotate import annotate
from cluster import ROOT, Cluster, checkout_in, needs_slurm, running_slurm
from encode import write_video
from feature_files import video as feature_video
from feature_files import write_set
from holding import pending_signals, wait_until
from miniature import Miniature

from features.annotations import read_segments
from features.check import info, verify
from features.featureset import read_featureset
from features.files import write_json
from features.predictions import read_predictions
from features.store import read_video, video_ids
from heads.runs import read_record

EXTRACT = Path(sys.executable).with_name("extract")


class _Cluster(Cluster):
    """With miniature data: two tasks get three videos each, and no video takes longer than a blink."""

    def submit(self, out: Path, *, tasks: int = 2, backbone: str = "tiny_cnn", **variables: object) -> str:
        """Submit `make extract`; return the job's id."""
        logs = out.with_name(f"{out.name}-logs")
        words = ("extract", f"BACKBONE={backbone}", "WEIGHTS=random:0", "DEVICE=cpu", f"OUT={out}")
        return self.make(*words, TASKS=tasks, LOGS=logs, **variables)


@contextlib.contextmanager
def _watched(out: Path) -> Iterator[None]:
    """Within, look at every video's file as soon as it is there or replaced: none is ever one that verify refuses."""
    checked_files: set[tuple[str, int, int]] = set()
    problems: list[str] = []
    stop_event = threading.Event()

    def check_files() -> None:
        for path in out.glob("[!.]*.h5"):
            stat = path.stat()
            if (path.name, stat.st_ino, stat.st_mtime_ns) not in checked_files:
                checked_files.add((path.name, stat.st_ino, stat.st_mtime_ns))
                problems.extend(verify(out, [path.stem]))

    def watch() -> None:
        while not stop_event.wait(0.02):
            check_files()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(watch)
        try:
            yield
        finally:
            stop_event.set()
        future.result()
    check_files()
    assert checked_files
    assert problems == []


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[_Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    times = {}
    for video in range(6):
        write_video(folder / "videos" / "P01" / f"P01_{video:02}.mp4", num_frames=60)
        times |= {f"P01_{video:02}_{number}": (number * 0.5, number * 0.5 + 1) for number in range(2)}
    annotate(folder / "segments.csv", times)
    variables = {"EPIC_ANNOTATIONS": str(folder / "segments.csv"), "EPIC_VIDEOS": str(folder / "videos")}
    with running_slurm(folder, nodes=3) as environment:  # g2 is one that fails, and g3 one that is taken away
        yield _Cluster(folder, environment | variables)


@pytest.fixture(scope="module")
def scenario_results(cluster, request) -> Iterator[dict[Callable, Future]]:
    """What is mostly waiting, begun before the first test and looked at in the last ones, where these were selected."""
    miniature = request.getfixturevalue("miniature")
    scenarios = {
        "test_last_task_of_an_array_has_another_turn_alone": _stop_the_last_task,
        "test_pipeline_ends_with_a_submission_of_its_own_set": _run_the_pipeline,
        "test_task_near_its_time_limit_has_another_turn": _meet_the_time_limit,
        "test_array_whose_node_fails_begins_again_and_goes_on": _lose_the_node,
        "test_array_that_is_preempted_goes_on": _give_way_to_urgent_work,
    }
    test_names = {item.name for item in request.session.items}
    selected_scenarios = [scenario for test, scenario in scenarios.items() if test in test_names]
    with ThreadPoolExecutor(len(scenarios)) as pool:
        yield {scenario: pool.submit(scenario, cluster, miniature) for scenario in selected_scenarios}


@pytest.fixture(scope="module")
def local_set(cluster, scenario_results) -> Path:
    """The set of a local run."""
    out = cluster.folder / "local"
    make = ("make", "-s", "-C", ROOT, f"VENV={sys.prefix}", "extract", "BACKBONE=tiny_cnn", "WEIGHTS=random:0")
    cluster.run(*make, "DEVICE=cpu", f"OUT={out}", LOCAL=1)
    return out


def _assert_same(cluster: _Cluster, out: Path, local_set: Path) -> None:
    """A set is whole, sound, and that of the local run."""
    counts = info(out, read_segments(cluster.folder / "segments.csv"))
    assert (counts.complete_segments, counts.failed_segments, counts.missing_segments) == (12, 0, 0)
    assert list(verify(out)) == []
    for video_id in video_ids(local_set):
        ours, theirs = (read_video(root, video_id, digest=read_featureset(root).digest) for root in (out, local_set))
        assert ours.narration_id == theirs.narration_id
        np.testing.assert_allclose(ours.features, theirs.features, rtol=2**-10, atol=1e-3)
    assert not (out / "running").exists()


def _log(out: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(out.with_name(f"{out.name}-logs").glob("*.log")))


# ---- what clusters do to jobs, all at once; each gives its set, and what there is to see of it
# The tasks stop by themselves before the second of their videos is there.


def _stop_the_last_task(cluster: _Cluster, _: Miniature) -> tuple[Path, str]:
    """Send USR1 to the task that has the array's own id, as SLURM does before the time limit; return the id as well."""
    out = cluster.folder / "last"
    site = cluster.holding_site("last", "os.rename:.h5:2", tasks=[1])
    with _watched(out):
        job = cluster.submit(out, SITE=site)
        (pid,) = cluster.held("last")
        wait_until(lambda: "task 0 ended with exit code 0" in _log(out), "the other task to end")
        cluster.stop(f"{job}_1", pid)
        assert cluster.finish(job) == {"COMPLETED"}
    return out, job


def _meet_the_time_limit(cluster: _Cluster, _: Miniature) -> tuple[Path, str]:
    """Hold a task up until SLURM itself sends USR1; return what `extract status` shows of it meanwhile."""
    out = cluster.folder / "limit"
    site = cluster.holding_site("limit", "os.remove:.mp4:1")  # of a copy
    with _watched(out):
        job = cluster.submit(out, tasks=1, SITE=site, STAGE=1)
        (pid,) = cluster.held("limit")
        status = cluster.run(EXTRACT, "status", out, "--slurm")
        assert list((cluster.folder / "scratch").glob("*/*.mp4"))
        _set_time_limit(cluster, job, minutes=_minutes_of(cluster, job) + 3)  # USR1 comes five minutes before the limit
        wait_until(lambda: signal.SIGUSR1 in pending_signals(pid), "USR1 from SLURM")
        _set_time_limit(cluster, job, minutes=60)
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: "Asking for another turn." in _log(out), "the task to ask for another turn")
        assert cluster.finish(job) == {"COMPLETED"}
    return out, status


def _minutes_of(cluster: _Cluster, job: str) -> int:
    """Return for how many minutes a job has run."""
    days_hours, minutes, _ = f"0:{cluster.run('squeue', '-h', '-o', '%M', '-j', job).strip()}".rsplit(":", 2)
    assert days_hours == "0"
    return int(minutes)


def _set_time_limit(cluster: _Cluster, job: str, *, minutes: int) -> None:
    cluster.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")


def _lose_the_node(cluster: _Cluster, _: Miniature) -> Path:
    """Kill slurmd in mid-job, and one of the two tasks with it; the other one goes on unknown to SLURM."""
    out = cluster.folder / "node"
    site = cluster.holding_site("node", "os.rename:.h5:2", tasks=[0, 1], lines="SITE_EXTRACT_OPTIONS+=(--nodelist=g2)")
    pid_file = cluster.folder / "slurm" / "run" / "slurmd.g2.pid"
    with _watched(out):
        job = cluster.submit(out, SITE=site)
        pids = set(cluster.held("node", 2))
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
        killed_pids = _processes_of(f"SLURM_ARRAY_JOB_ID={job}", "SLURM_ARRAY_TASK_ID=0")
        for pid in killed_pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: "State=DOWN" in cluster.run("scontrol", "show", "node", "g2"), "the node to be missed")
        (unknown_pid,) = pids.difference(killed_pids)
        os.kill(unknown_pid, signal.SIGCONT)
        cluster.run("slurmd", "-f", cluster.environment["SLURM_CONF"], "-N", "g2")
        assert cluster.finish(job) == {"COMPLETED"}
    return out


def _processes_of(*variables: str) -> list[int]:
    """Return the processes with these in their environment, and the SLURM step that watches over them first."""
    entries = {variable.encode() for variable in variables}
    pids = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if entries <= set(environ.read_bytes().split(b"\0")):
                pids.append(int(environ.parent.name))
    parents = {int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]) for pid in pids}
    steps = [pid for pid in parents if Path(f"/proc/{pid}/comm").read_text().startswith("slurmstepd")]
    assert steps
    return [*steps, *pids]


def _give_way_to_urgent_work(cluster: _Cluster, _: Miniature) -> Path:
    """Hold both tasks up until SLURM pre-empts them; it sends SIGCONT with its SIGTERM."""
    out = cluster.folder / "preempted"
    site = cluster.holding_site(
        "preempted", "os.rename:.h5:2", tasks=[0, 1], lines="SITE_EXTRACT_OPTIONS+=(--nodelist=g3)"
    )
    with _watched(out):
        job = cluster.submit(out, SITE=site)
        cluster.held("preempted", 2)
        urgent_options = ("--partition=urgent", "--nodelist=g3", "--exclusive", "--output=/dev/null", "--wrap=true")
        cluster.run("sbatch", *urgent_options)
        assert cluster.finish(job) == {"COMPLETED"}
    return out


def _assert_begun_again(log: str) -> None:
    """The task that began again kept the videos that were finished before, and failed in none."""
    ((num_done, num_kept),) = re.findall(
        r"asked for 6 segments in 3 videos: (\d) done, ([1-9]) there before, 0 failed", log
    )
    assert int(num_done) + int(num_kept) == 6


@needs_slurm
def test_array_does_every_video_once(cluster, local_set):
    out = cluster.folder / "array"
    with _watched(out):
        job = cluster.submit(out, tasks=4)
        assert cluster.finish(job) == {"COMPLETED"}
    _assert_same(cluster, out, local_set)
    counts = sorted(re.findall(r"asked for (\d) segments in \d videos: (\d) done, 0 there before, 0 failed", _log(out)))
    assert counts == [("2", "2"), ("2", "2"), ("4", "4"), ("4", "4")]


@needs_slurm
def test_last_task_of_an_array_has_another_turn_alone(cluster, local_set, scenario_results):
    out, job = scenario_results[_stop_the_last_task].result()
    assert f"task 1 of 2, job {job} on" in _log(out)  # the array's own id
    assert "stopped by SIGUSR1. Finished work is kept" in _log(out)
    assert re.findall(r"task (\d) of 2, job \d+ on \S+, start (\d)", _log(out)) == [("0", "1"), ("1", "1"), ("1", "2")]
    _assert_begun_again(_log(out))
    _assert_same(cluster, out, local_set)


@needs_slurm
@pytest.mark.slow
def test_task_that_is_requeued_goes_on(cluster, local_set):
    out = cluster.folder / "requeued"
    with _watched(out):
        job = cluster.submit(out, SITE=cluster.holding_site("requeued", "os.rename:.h5:2", tasks=[1]))
        cluster.held("requeued")
        cluster.run("scontrol", "requeue", f"{job}_1")
        assert cluster.finish(job) == {"COMPLETED"}
    assert "stopped by SIGTERM. Finished work is kept" in _log(out)
    _assert_begun_again(_log(out))
    _assert_same(cluster, out, local_set)


@needs_slurm
@pytest.mark.slow
def test_killed_task_is_completed_by_another_array_of_other_size(cluster, local_set):
    out = cluster.folder / "killed"
    with _watched(out):
        job = cluster.submit(out, SITE=cluster.holding_site("killed", "os.rename:.h5:2", tasks=[0, 1]))
        for pid in cluster.held("killed", 2):  # scancel --signal=KILL would send TERM first
            os.kill(pid, signal.SIGKILL)
        assert cluster.finish(job) == {"FAILED"}
        assert "ended with exit code 137" in _log(out)
        assert (len(list(out.glob("[!.]*.h5"))), list(verify(out))) == (2, [])
        assert cluster.finish(cluster.submit(out, tasks=3)) == {"COMPLETED"}
    shutil.rmtree(out / "running")  # the notes of the killed ones
    _assert_same(cluster, out, local_set)


@needs_slurm
@pytest.mark.slow
def test_two_arrays_on_one_set_do_no_harm(cluster, local_set):
    out = cluster.folder / "twice"
    with _watched(out):
        first_job = cluster.submit(out, SITE=cluster.holding_site("twice", "os.rename:.h5:1", tasks=[0, 1]))
        held_pids = cluster.held("twice", 2)
        assert cluster.finish(cluster.submit(out)) == {"COMPLETED"}
        for pid in held_pids:
            os.kill(pid, signal.SIGCONT)
        assert cluster.finish(first_job) == {"COMPLETED"}
    _assert_same(cluster, out, local_set)


@needs_slurm
def test_extraction_with_failures_fails_its_task(cluster):
    out = cluster.folder / "failing"
    assert "FAILED" in cluster.finish(cluster.submit(out, backbone="tiny_cn"))
    assert "did you mean 'tiny_cnn'?" in _log(out)


def _pipeline(
    cluster: _Cluster, miniature: Miniature, folder: Path, checkout: Path, **variables: object
) -> dict[str, set[str]]:
    """Run `make pipeline` in a folder, on the miniature; return the states of each step's job once none is left."""
    make = ("make", "-s", "-C", checkout, "pipeline", "BACKBONE=tiny_cnn", "WEIGHTS=random:0", "DEVICE=cpu")
    folders = {
        "EPIC_ANNOTATIONS": miniature.annotations,
        "EPIC_VIDEOS": miniature.videos,
        "EPIC_FEATURES": folder / "features",
        "EPIC_RUNS": folder / "runs",
        "LOGS": folder / "logs",
    }
    output = cluster.run(*make, "SEEDS=0-1", "HEAD=logistic", "TASKS=2", **{**folders, **variables})
    jobs = dict(re.findall(r"(verify|train|ensemble|submit) (\d+)", output.rsplit("After it:", 1)[1]))
    jobs["extract"] = re.search(r"Submitted job (\d+)", output)[1]
    job_ids = ",".join(jobs.values())
    wait_until(lambda: not cluster.run("squeue", "-h", "-j", job_ids).strip(), "the pipeline to end")
    return {step: set(cluster.states(job).values()) for step, job in jobs.items()}


def _run_the_pipeline(cluster: _Cluster, miniature: Miniature) -> tuple[Path, dict[str, set[str]]]:
    """Run it where every folder has a space in its name, beside another feature set and a run on that.

    Returns:
        The folder, and the states of each step's job.
    """
    folder = cluster.folder / "a pipe line"
    folder.mkdir()
    for name in ("annotations", "videos"):
        (folder / name).symlink_to(getattr(miniature, name))
    write_set(folder / "features" / "tiny_cnn-seg32", feature_video())
    write_json(folder / "runs" / "logistic-seed0" / "config.json", {"head": "logistic", "seed": 0})
    here = {f"EPIC_{name.upper()}": folder / name for name in ("annotations", "videos")}
    site = cluster.site("a site", "")
    states = _pipeline(cluster, miniature, folder, checkout_in(folder / "check out"), SITE=site, **here)
    return folder, states


@needs_slurm
def test_pipeline_ends_with_a_submission_of_its_own_set(scenario_results, miniature):
    folder, states = scenario_results[_run_the_pipeline].result()
    assert states == {step: {"COMPLETED"} for step in ("extract", "verify", "train", "ensemble", "submit")}
    runs = folder / "runs" / "logistic-tiny_cnn-seg16"
    assert read_record(runs / "logistic-seed1").features == (str(folder / "features" / "tiny_cnn-seg16"),)
    test = read_segments(miniature.annotations / "EPIC_100_test_timestamps.csv")
    submission = read_predictions(runs / "ensemble" / "submission" / "submission.pt")
    assert sorted(submission.narration_id) == sorted(test.narration_id)


@needs_slurm
def test_pipeline_of_which_slurm_refuses_a_step_leaves_no_job(cluster, miniature):
    site = cluster.site("refused", "SITE_EXTRACT_OPTIONS+=(--hold) SITE_TRAIN_OPTIONS+=(--partition=absent)\n")
    with pytest.raises(AssertionError) as caught:
        _pipeline(cluster, miniature, cluster.folder / "refused", ROOT, SITE=site, VENV=sys.prefix)
    output = str(caught.value)
    (extraction,) = re.findall(r"Submitted job (\d+)", output)
    assert "train: SLURM does not take this step" in output
    verification = re.search(rf"The jobs before it are cancelled: {extraction} (\d+)\.\n", output)[1]
    assert "Error 1" in output  # what make says of the exit code of a recipe
    for job in (extraction, verification):
        assert cluster.finish(job) == {"CANCELLED"}


@needs_slurm
@pytest.mark.slow
def test_failing_extraction_keeps_the_steps_after_it_from_running(cluster, miniature):
    videos = shutil.copytree(miniature.videos, cluster.folder / "all_but_one")
    next(videos.rglob("*.mp4")).unlink()
    folder = cluster.folder / "broken"
    states = _pipeline(cluster, miniature, folder, ROOT, EPIC_VIDEOS=videos, VENV=sys.prefix)
    assert states.pop("extract") == {"COMPLETED", "FAILED"}
    assert states == {step: {"CANCELLED"} for step in ("verify", "train", "ensemble", "submit")}
    logs = folder / "logs"
    assert {path.name.split("-")[0] for path in logs.iterdir()} == {"extract"}
    assert "Failed in 1 videos" in "".join(path.read_text() for path in logs.iterdir())


@needs_slurm
@pytest.mark.slow
def test_task_near_its_time_limit_has_another_turn(cluster, local_set, scenario_results):
    out, status = scenario_results[_meet_the_time_limit].result()
    assert "stopped by SIGUSR1. Finished work is kept" in _log(out)
    assert "Asking for another turn." in _log(out)
    assert "start 2" in _log(out)
    _assert_same(cluster, out, local_set)
    assert re.search(r"^\d+_0 +RUNNING ", status, flags=re.MULTILINE)
    counts = {kind: int(num) for kind, num in re.findall(r"^(\w+) +(\d+) +\d+$", status, re.MULTILINE)}
    assert (counts["failed"], counts["all"]) == (0, 6)
    assert list((cluster.folder / "scratch").iterdir()) == []
    assert re.search(r"^On \S+, task 0 of 1: ", status, re.MULTILINE)


@needs_slurm
@pytest.mark.slow
def test_array_whose_node_fails_begins_again_and_goes_on(cluster, local_set, scenario_results):
    out = scenario_results[_lose_the_node].result()
    shutil.rmtree(out / "running")  # the note of the killed one
    assert "start 2" in _log(out)
    _assert_same(cluster, out, local_set)


@needs_slurm
@pytest.mark.slow
def test_array_that_is_preempted_goes_on(cluster, local_set, scenario_results):
    out = scenario_results[_give_way_to_urgent_work].result()
    assert "stopped by SIGTERM. Finished work is kept" in _log(out)
    assert "start 2" in _log(out)
    _assert_same(cluster, out, local_set)
