"""What `make extract` and `make pipeline` hand to SLURM, without one; and what an extraction does that they submit."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from annotate import annotate
from cluster import ROOT, SLURM, checkout_in
from holding import held_pids, hold_variables

from extract.backbones import get
from features.check import verify
from features.store import video_ids


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_scripts_are_clean():
    scripts = [*(path for path in (ROOT / "jobs").rglob("*.*") if path.suffix in (".sh", ".sbatch", ".env")), SLURM]
    process = subprocess.run(["shellcheck", "-x", *scripts], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout


@pytest.fixture
def submit(tmp_path):
    """Run make with stand-ins for sbatch and scancel; return what it printed, and the words of each call.

    CLUSTER is what sbatch adds to the id of a job, REFUSED the job that it does not take.
    """
    calls = tmp_path / "calls"
    (tmp_path / "bin").mkdir()
    note = f"#!/bin/bash\nprintf '%q ' \"$@\" >>{calls}\necho >>{calls}\nnumber=$(wc -l <{calls})\n"
    scripts = {
        # With --parsable, and with a line before it, as where a site has a wrapper.
        "sbatch": f'{note}[[ $number != "${{REFUSED:-}}" ]] || exit 1\necho "Be brief."\necho "$number$CLUSTER"\n',
        "scancel": f"{note}exit ${{SCANCEL_CODE:-0}}\n",
    }
    for name, script in scripts.items():
        (tmp_path / "bin" / name).write_text(script)
        (tmp_path / "bin" / name).chmod(0o755)
    # A proxy that is not there: no network.
    base = {name: value for name, value in os.environ.items() if name not in ("SITE", "EPIC_WEIGHTS")}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    paths = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOGS": str(tmp_path / "logs")}
    environment = base | proxies | paths

    def make(
        *words: str, checkout: Path = ROOT, **variables: str
    ) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
        command = ["make", "-s", "-C", str(checkout), f"VENV={sys.prefix}", *words]
        process = subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=False)
        return process, [shlex.split(line) for line in calls.read_text().splitlines()] if calls.exists() else []

    return make


def test_each_step_of_the_pipeline_waits_for_the_one_before_and_asks_for_what_it_needs(submit):
    process, jobs = submit("pipeline", "BACKBONE=tiny_cnn", "WEIGHTS=random:0", "SEEDS=0-4", TASKS="3")
    assert process.returncode == 0, process.stderr
    assert [[word for word in words if word.startswith("--dependency")] for words in jobs] == [
        [],
        *[[f"--dependency=afterok:{number}"] for number in (1, 2, 3, 4)],
    ]
    assert [["--gpus-per-node=1" in words for words in jobs]] == [[True, False, True, False, False]]
    assert ["--array=0-2" in jobs[0], "--array=0-4" in jobs[2]] == [True, True]
    scripts = [next(Path(word).name for word in words if word.endswith(".sbatch")) for words in jobs]
    assert scripts == ["extract.sbatch", "run.sbatch", "train.sbatch", "run.sbatch", "run.sbatch"]


STEPS = ("extract", "verify", "train", "ensemble", "submit")


@pytest.mark.parametrize("number", range(1, 6))
def test_pipeline_stops_at_a_step_that_slurm_refuses_and_cancels_those_before_it(number, submit):
    process, calls = submit("pipeline", "BACKBONE=tiny_cnn", "WEIGHTS=random:0", REFUSED=str(number))
    assert f"\n{STEPS[number - 1]}: SLURM does not take this step" in f"\n{process.stderr}"
    assert process.stderr.rstrip().endswith("pipeline] Error 1")  # of the script; make itself ends with 2
    earlier = [str(job) for job in range(1, number)]
    assert calls[number:] == ([earlier] if earlier else [])


def test_jobs_that_cannot_be_cancelled_are_named_with_their_cluster(submit):
    variables = {"SITE": "vsc-wice", "CLUSTER": ";wice", "REFUSED": "3", "SCANCEL_CODE": "1"}
    process, calls = submit("pipeline", "BACKBONE=tiny_cnn", "WEIGHTS=random:0", **variables)
    assert calls[3:] == [["--clusters=wice", "1", "2"]]
    assert "Do so yourself: scancel --clusters=wice 1 2\n" in process.stderr


@pytest.mark.parametrize("answer", ["Submitted batch job 7", ";wice", ""])
def test_answer_that_is_no_job_is_taken_for_none(answer, submit, tmp_path):
    (tmp_path / "bin" / "sbatch").write_text(f"#!/bin/bash\necho '{answer}'\n")
    for target in ("extract", "pipeline"):
        process, _ = submit(target, "BACKBONE=tiny_cnn", "WEIGHTS=random:0")
        assert process.returncode != 0
        assert f"sbatch: answers '{answer}', which is not the number of a job." in process.stderr
        assert "Submitted" not in process.stdout


def test_pipeline_trains_on_its_own_set_into_a_folder_of_its_own(submit):
    variables = {"EPIC_FEATURES": "all my features", "EPIC_RUNS": "all my runs"}
    process, jobs = submit("pipeline", "BACKBONE=tiny_cnn", "FRAMES=8", "WEIGHTS=random:0", "HEAD=bilstm", **variables)
    assert process.returncode == 0, process.stderr
    train = jobs[2]
    assert train[train.index("--features") + 1] == "all my features/tiny_cnn-seg8"
    assert all("EPIC_RUNS=all my runs/bilstm-tiny_cnn-seg8" in words for words in jobs[1:])


def test_checkout_and_data_may_have_spaces_in_their_names(submit, tmp_path):
    checkout = checkout_in(tmp_path / "check out")
    variables = {"EPIC_VIDEOS": "my videos", "EPIC_FEATURES": "my features", "LOGS": f"{tmp_path}/my logs"}
    process, (words,) = submit("extract", "BACKBONE=tiny_cnn", "VENV=.venv", checkout=checkout, **variables)
    assert process.returncode == 0, process.stderr
    program = words[words.index("run") - 1]
    assert program == str(checkout / ".venv" / "bin" / "extract")
    assert words[words.index("--videos") + 1] == "my videos"
    assert words[words.index("--out") + 1] == "my features/tiny_cnn-seg16"
    # The commands that it prints to watch the job can be pasted.
    _, _, tail, status = (shlex.split(line) for line in process.stdout.splitlines())
    assert tail == ["tail", "-f", f"{tmp_path}/my logs/extract-1_0.log"]
    assert status[:3] == [program, "status", "my features/tiny_cnn-seg16"]


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("VENV=/a b/.venv", "VENV: '/a b/.venv' is not one name without spaces; take another folder"),
        ("VENV=", "VENV: '' is not one name"),
        ("OUT=it's", 'OUT: "it\'s" has an apostrophe in it'),
    ],
)
def test_name_that_make_cannot_hand_on_is_one_line(variable, message, submit):
    process, calls = submit("extract", "BACKBONE=tiny_cnn", variable)
    assert (process.returncode, process.stdout, calls) == (2, "", [])
    assert message in process.stderr
    assert process.stderr.count("\n") == 1


def test_tasks_of_all_arrays_meet_their_time_limit_in_the_same_words():
    scripts = [(ROOT / "jobs" / f"{name}.sbatch").read_text() for name in ("extract", "sweep", "train")]
    ends = {script.split("# From here on, ")[1] for script in scripts}
    assert len(ends) == 1
    assert all("#SBATCH --signal=B:USR1@" in script for script in scripts)


def test_cluster_that_must_be_named_is_named_everywhere(submit):
    process, jobs = submit("pipeline", "BACKBONE=tiny_cnn", "WEIGHTS=random:0", SITE="vsc-wice", CLUSTER=";wice")
    assert process.returncode == 0, process.stderr
    assert all("--clusters=wice" in words for words in jobs)
    assert "--dependency=afterok:1" in jobs[1]
    assert "\n  squeue --clusters=wice --jobs 1\n" in process.stdout
    status = "extract status data/features/tiny_cnn-seg16 --annotations data/annotations --slurm"
    assert f"\n  SLURM_CLUSTERS=wice {Path(sys.prefix) / 'bin'}/{status}\n" in process.stdout


def test_tokens_layers_clips_and_views_are_handed_on_and_all_but_views_name_the_folder(submit):
    choice = ("TOKENS=mean+cls", "LAYERS=5,last", "CLIP=8", "VIEWS=centre,augment:3")
    _, jobs = submit("pipeline", "BACKBONE=avion_vitb_epic", "WEIGHTS=random:0", *choice)
    extraction = jobs[0][jobs[0].index("--tokens") :]
    options = ["--tokens", "mean+cls", "--layers", "5,last", "--clip", "8", "--views", "centre,augment:3"]
    assert extraction[:8] == options
    folder = "data/features/avion_vitb_epic-seg16-mean+cls-layers5-last-clip8"
    assert extraction[extraction.index("--out") + 1] == folder
    training = next(job for job in jobs if "train" in job)
    assert training[training.index("--features") + 1] == folder


def test_weights_that_cannot_be_fetched_keep_all_from_being_submitted(submit, tmp_path):
    process, jobs = submit("pipeline", "BACKBONE=resnet50", EPIC_WEIGHTS=str(tmp_path / "weights"))
    assert process.returncode != 0
    assert "resnet50: cannot fetch" in process.stderr
    assert "Nothing was submitted." in process.stderr
    assert jobs == []


def test_weights_that_are_there_need_no_network(submit, tmp_path):
    path = tmp_path / "weights" / "checkpoints" / get("resnet50").weights.url.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    process, jobs = submit("pipeline", "BACKBONE=resnet50", EPIC_WEIGHTS=str(tmp_path / "weights"))
    assert process.returncode == 0, process.stderr
    assert len(jobs) == 5
    assert jobs[0][jobs[0].index("--weights-dir") + 1] == str(tmp_path / "weights")


def _dry_run(**variables: str) -> subprocess.CompletedProcess[str]:
    make = ["make", "-s", "-C", str(ROOT), f"VENV={sys.prefix}", "extract", "DRY_RUN=1"]
    environment = {name: value for name, value in os.environ.items() if name != "SITE"} | {"BACKBONE": "videomae"}
    return subprocess.run(make, env=environment | variables, capture_output=True, text=True, check=False)


def test_dry_run_for_wice_names_what_vsc_asks_for_and_deals_the_videos(tmp_path):
    annotations = annotate(tmp_path / "segments.csv", {f"P01_{video:02}_0": (0.0, 10.0) for video in range(4)})
    site = {"SITE": "vsc-wice", "ACCOUNT": "lp_mine", "TASKS": "2", "LIMIT": "1"}
    process = _dry_run(**site, EPIC_WEIGHTS="/scratch/weights", EPIC_ANNOTATIONS=str(annotations))
    assert process.returncode == 0, process.stderr
    command, *script = process.stdout.splitlines()
    words = shlex.split(command)
    assert words[:2] == ["sbatch", "--parsable"]
    options = {"--clusters=wice", "--account=lp_mine", "--partition=gpu_a100", "--gpus-per-node=1", "--array=0-1%1"}
    assert options <= set(words)
    # All that the job needs comes as arguments: VSC's jobs start in a clean environment.
    assert words[words.index("--weights-dir") + 1] == "/scratch/weights"
    assert words[-2:] == ["--out", "data/features/videomae-seg16"]
    assert [line.strip(" ;") for line in script].count("module load PyTorch/2.1.2-foss-2023a-CUDA-12.1.1") == 1
    assert re.search(r"^0 +2 +2 +50.00%\n1 +2 +2 +50.00%\nall +4 +4$", process.stdout, re.MULTILINE)


def test_dry_run_without_annotations_still_prints_the_command_and_says_why_there_is_no_plan(tmp_path):
    process = _dry_run(SITE="vsc-wice", EPIC_ANNOTATIONS=str(tmp_path / "nowhere"))
    assert process.returncode == 0
    assert process.stdout.startswith("sbatch --parsable --clusters=wice ")
    assert "nowhere: no such file" in process.stderr


def test_dry_run_of_a_backbone_that_there_is_not_fails():
    process = _dry_run(SITE="vsc-wice", BACKBONE="videomea")
    assert process.returncode == 2
    assert "did you mean 'videomae'?" in process.stderr


def test_unknown_site_is_refused_with_those_there_are():
    process = _dry_run(SITE="vsc-wce")
    assert process.returncode == 2
    assert "SITE: no " in process.stderr
    assert "generic vsc-wice" in process.stderr


@pytest.mark.parametrize("variables", [{"TASKS": "0"}, {"TASKS": "many"}, {"LIMIT": "-1"}], ids=str)
def test_wrong_number_of_tasks_is_refused(variables):
    process = _dry_run(**variables)
    assert process.returncode == 2
    assert f"'{next(iter(variables.values()))}' is not a number of tasks above 0" in process.stderr


def test_stage_that_is_neither_1_nor_0_is_refused():
    process = _dry_run(STAGE="yes")
    assert process.returncode == 2
    assert "STAGE: 'yes' is not 1 or 0" in process.stderr


# Of a time limit that is near, and of pre-emption.
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGUSR1, id="SIGUSR1"),
        pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_signal_ends_an_extraction_in_good_order(number, miniature, tmp_path):
    words = ["extract", "run", "--annotations", miniature.annotations, "--videos", miniature.videos]
    words += ["--backbone", "tiny_cnn", "--weights", "random:0", "--device", "cpu", "--out", tmp_path / "set"]
    program = [str(Path(sys.executable).with_name("extract")), *map(str, words[1:])]
    held = tmp_path / "held"
    environment = {**os.environ, **hold_variables(held, "os.rename:.h5:2")}
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True, env=environment)
    held_pids(held, go_on=lambda: process.poll() is None)
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    _, stderr = process.communicate()
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}. Finished work is kept" in stderr
    assert "Traceback" not in stderr
    assert list(verify(tmp_path / "set")) == []
    assert 1 <= len(video_ids(tmp_path / "set")) < 7
    assert not list((tmp_path / "set").rglob("*.tmp"))
    assert not (tmp_path / "set" / "failures").exists()


def test_task_without_videos_ends_well(miniature, tmp_path):
    options = ["--annotations", miniature.annotations, "--videos", miniature.videos, "--out", tmp_path / "set"]
    program = [Path(sys.executable).with_name("extract"), "run", *options, "--backbone", "tiny_cnn"]
    program += ["--weights", "random:0", "--device", "cpu", "--shard", "99/100"]
    process = subprocess.run(list(map(str, program)), capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "asked for 0 segments in 0 videos" in process.stdout
