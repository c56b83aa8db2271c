"""Every command that README and docs show is run, in the order in which it stands there, on the miniature.

Commands are the lines of code blocks, and the code between words in the README; elsewhere such code names a command or
an option, and both have to exist. Commands of this project run in this process: processes of their own are the matter
of other tests.
"""

from __future__ import annotations

import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner
from published_features import write_downloads
from shell import ROOT
from synthetic import drawn_predictions

import extract.cli
import features.cli
import heads.cli
from features.annotations import find_splits, read_segments
from features.featureset import read_featureset

# Page -> its text, in which a command that goes on in the next line is one.
PAGES = {
    str(path.relative_to(ROOT)): re.sub(r" \\\n\s+", " ", path.read_text(encoding="utf-8"))
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "recipes" / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
    if path.exists()
}
PROGRAMS: dict[str, click.Group] = {
    "extract": extract.cli.main,
    "features": features.cli.main,
    "heads": heads.cli.main,
}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))

# Commands that are not run here, with the reason: mostly the test that runs them.
EXCLUDED = {
    r"make demo": "tests/e2e/test_demo.py",
    r"make demo-sweep": "tests/e2e/test_demo_sweep.py",
    r"make (test|test-quick|test-all)": "is running",
    r"make test-floor.*": "these tests, in another environment",
    r"make (install|clean)": "has run before `make test`, or undoes it",
    r"make (lint|docs|format)": "runs beside the tests in .ci/run, or changes files",
    r"make check-device.*": "tests/e2e/test_check_device.py",
    r"make bench|make results .*|python benchmarks/.*": "a measurement",
    r"make extract": "with BACKBONE=, below",
    r"make (extract|sweep) .*DRY_RUN=1.*": "tests/test_jobs/",
    r"make sweep .*": "is the size of the demo; tests/test_jobs/test_sweep_job.py",
    r"make recipe.*|heads evaluate demo/recipes/.*": "tests/test_jobs/test_recipe.py",
    r"make pipeline.*": "needs a SLURM; tests/test_jobs/test_extract_job.py has one of its own",
    r"extract weights .*": "needs the network; test_published.py has a hub of its own",
    r"python -m venv .*|pip install .*": "needs the network",
    r"heads watch .* camera:0": "needs a camera; tests/test_live/test_camera.py",
    r"heads watch (?!.* -o ).*": "needs a screen; tests/test_live/test_screen.py",
    r"features import (tim|rulstm) .*": "tests/test_features/formats/",
    r"python tests/support/browser.py .*": "needs a browser; tests/e2e/test_report_gallery.py",
    r"python tests/support/miniature.py .*": "tests/test_miniature.py, tests/e2e/test_learning.py",
}
# Tests have no published weights, and the heads and sweeps of the pages are as large as real data needs.
_MAKE = f"make -s -C {ROOT} VENV={sys.prefix}"
_QUICK_OPTIONS = "WEIGHTS=random:0 DEVICE=cpu LOCAL=1"
SUBSTITUTIONS = [
    (r"^(make extract .*EVERY=.*)$", r"\1 OUT={here}/dense/tiny_cnn-every0.2"),
    (r"^(make extract (?!.*EVERY=).*)$", r"\1 OUT={here}/data/features/tiny_cnn-seg16"),
    (r"^make (extract .*)$", rf"{_MAKE} \1 {_QUICK_OPTIONS}"),
    (r"\bBACKBONE=\w+", "BACKBONE=tiny_cnn"),  # tests/e2e/test_videomae.py has the real one
    (r"--backbone \w+", "--backbone tiny_cnn"),
    (r"\bdata/features/dinov2-seg16", "other/tiny_cnn-seg16"),
    # Where no other set is, as the pages train on the only set in data/features.
    (r"\bdata/features/(mtcn-\w+|opentad-[\w-]+|mine)\b", r"published/\1"),
    (r"^features merge (first|second)/\S+ \S+ (.*)$", r"features merge other/tiny_cnn-seg16 other/tiny_cnn-seg16 \2"),
    (r"^(features merge .*) --out .*$", r"\1 --out merged"),
    (r"\bdata/features/\w+-seg16", "data/features/tiny_cnn-seg16"),
    (r"^(extract run .*)$", r"\1 --weights random:0 --device cpu"),
    (r" (EPIC_100_\w+\.csv)", r" data/annotations/\1"),
    (r"--videos videos_640x360", "--videos data/videos"),
    (r"^(heads train .*)$", r"\1 --epochs 1 --device cpu"),
    (r"^(heads train .*--head (?:bilstm|multiscale_lstm|mlp).*)$", r"\1 --set hidden=4"),
    (r"^(heads train .*--head (?:attentive|context|transformer|tcn).*)$", r"\1 --set width=16"),
    (r"^(heads sweep .*)$", r"\1 --epochs 2 --device cpu"),
    (r"^(heads sweep .*--head \w+)(.*)$", r"\1:hidden=4\2"),
    (r"^(heads sweep .*)attentive:width=256(.*)$", r"\1attentive:width=16\2"),
    (r"^(heads sweep (?!.*--halving).*)--seeds 0-2\b", r"\1--seeds 0"),
    (r"^(heads sweep jobs/demo-sweep.yaml .*)$", r"\1 --seeds 0"),
    (r"\bfold:0/5( .*)$", r"fold:0/2\1 --runs folds"),  # the miniature has three participants
    (r"^(heads ensemble .*--name .*|heads submit .*--out .*)$", r"\1 --force"),  # the same names on several pages
    (r"(?<!/)\bpredictions\.pt", "runs/bilstm-seed0/val_predictions.pt"),
    (r"^(heads watch .*)P01_11(.*)$", r"\1P01_02\2 --actions actions.csv --device cpu"),
    (r" \| less -S$", ""),
]


def _blocks(text: str) -> Iterator[str]:
    """Yield the commands in the code blocks of a page, without comments."""
    fences = re.findall(r"^```(?:sh|bash|shell|console)?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    (\S.*)$", text, flags=re.MULTILINE)
    for line in [*indented, *(line for block in fences for line in block.splitlines())]:
        # A table of what is in a folder has more than one space there.
        if match := re.match(r"(?:\$ )?(?:\.venv/bin/)?((?:make|extract|features|heads|python|pip) \S.*)", line):
            yield re.sub(r"\s+#.*", "", match[1]).rstrip()


def _inline(text: str) -> list[str]:
    """Return the code between words that begins with a command's name."""
    return [" ".join(code.split()) for code in re.findall(r"`((?:make|extract|features|heads) [^`]+)`", text)]


def commands() -> list[str]:
    """Return the commands to run, each once, in the order in which they stand: of the README, then of the pages."""
    is_excluded = re.compile("|".join(f"(?:{pattern})" for pattern in EXCLUDED)).fullmatch
    lines: list[str] = []
    for page, text in PAGES.items():
        page_commands = [*_blocks(text), *(_inline(text) if page == "README.md" else [])]
        lines += sorted(page_commands, key=text.find)
    return [command for command in dict.fromkeys(lines) if not is_excluded(command) and not command.endswith("...")]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, miniature) -> Path:
    """A folder with the data where the pages say, a second feature set under other/, and predictions of others."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "data").mkdir()
    (folder / "data" / "annotations").symlink_to(miniature.annotations)
    (folder / "data" / "videos").symlink_to(miniature.videos)
    shutil.copy(ROOT / "jobs" / "demo-sweep.yaml", folder / "sweep.yaml")
    (folder / "jobs").symlink_to(ROOT / "jobs")
    extract_options = ("--backbone", "tiny_cnn", "--weights", "random:0", "--device", "cpu")
    _run(folder, ["extract", "run", *extract_options, "--out", "other/tiny_cnn-seg16"])
    _write_predictions_of_others(folder)
    write_downloads(folder, miniature.annotations)
    return folder


def _write_predictions_of_others(folder: Path) -> None:
    """Write probabilities for both lists, and ten times them for validation, as the public code writes them."""
    splits = find_splits(folder / "data" / "annotations")
    for name, csv, factor in (
        ("theirs", splits.validation, 1),
        ("summed", splits.validation, 10),
        ("theirs_test", splits.test, 1),
    ):
        drawn = drawn_predictions(read_segments(csv), seed=factor)
        scores = {
            f"{task}_output": factor * torch.from_numpy(getattr(drawn, task)).softmax(dim=1).numpy()
            for task in ("verb", "noun")
        }
        content = {"narration_id": list(drawn.narration_id), **scores}
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(content))


def _run(folder: Path, words: list[str]) -> None:
    """Run a command in the folder: make in a process, this project's own commands in this one."""
    variables = {
        "EPIC_ANNOTATIONS": str(folder / "data" / "annotations"),
        "EPIC_VIDEOS": str(folder / "data" / "videos"),
        "EPIC_FEATURES": None,
        "EPIC_RUNS": None,
    }
    if words[0] not in PROGRAMS:
        environment = {name: value for name, value in {**os.environ, **variables}.items() if value is not None}
        environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        process = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert process.returncode == 0, process.stdout + process.stderr
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # As a shell does with *, which it leaves where nothing matches.
        found = [sorted(map(str, Path().glob(word))) if "*" in word else [] for word in words[1:]]
        arguments = [path for word, paths in zip(words[1:], found, strict=True) for path in paths or [word]]
        result = CliRunner().invoke(PROGRAMS[words[0]], arguments, env=variables)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("command", commands())
def test_command_of_the_pages_works(command, workspace):
    for pattern, replacement in SUBSTITUTIONS:
        command = re.sub(pattern, replacement, command)
    _run(workspace, shlex.split(command.replace("{here}", str(workspace))))


def test_commands_and_options_that_pages_name_exist():
    text = "\n".join(PAGES.values())
    partial_commands = [command for command in _blocks(text) if command.endswith("...")]
    for command in {*_inline(text), *partial_commands}:
        program, name, *rest = command.split()
        if program == "make":
            assert name in TARGETS or "=" in name, command
            continue
        if name == "--help":
            assert program in PROGRAMS, command
            continue
        options = {option for parameter in PROGRAMS[program].commands[name].params for option in parameter.opts}
        assert {word.split("=")[0] for word in rest if word.startswith("--")} <= options | {"--help"}, command


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if "```python\n" in text])
def test_python_of_the_pages_works(page, workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("EPIC_ANNOTATIONS", str(workspace / "data" / "annotations"))
    for code in re.findall(r"^```python\n(.*?)^```", PAGES[page], flags=re.MULTILINE | re.DOTALL):
        exec(compile(_smaller_code(code), page, "exec"), {"__name__": "__main__"})


def _smaller_code(code: str) -> str:
    """Return Python with a feature set and a video that are there, and with fewer epochs."""
    code = code.replace("P01_101", "P01_01")
    code = re.sub(r"\bdata/features/\w+-seg16", "data/features/tiny_cnn-seg16", code)
    return re.sub(r"\bepochs=\d+", "epochs=1", code)


def test_make_extract_wrote_the_feature_set_the_readme_names(workspace):
    assert read_featureset(workspace / "data" / "features" / "tiny_cnn-seg16").sampling.num_frames == 16
