"""Every command that the README names is run, in the order it stands there, on the miniature."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from extract import backbones
from features.featureset import read_featureset
from heads.models import catalogue as models
from heads.registry import options_of

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Run by other tests, or by whoever runs this one; each with the reason it is not run here.
ELSEWHERE = {
    "make demo": "tests/e2e/test_demo.py",
    "make demo-sweep": "tests/e2e/test_demo_sweep.py",
    "make test": "is running",
    "make test-floor": "these tests, in another environment",
    "make install": "has run before `make test`",
    "make lint": "runs beside the tests in .ci/run",
    "make bench": "a measurement",
    "make extract": "with BACKBONE=, below",
    "make sweep SPEC=jobs/demo-sweep.yaml TASKS=1": "is the size of the demo; tests/test_jobs/test_sweep_job.py",
    "make pipeline": "needs a SLURM; tests/test_jobs/test_extract_job.py has one of its own",
    "extract weights videomae slowfast": "needs the network; test_published.py has a hub of its own",
}
# No weights can be had in a test, and the README's heads have the sizes of real data.
_HERE = f"make -C {ROOT} VENV={sys.prefix}"
_QUICKLY = "WEIGHTS=random:0 DEVICE=cpu LOCAL=1"
SMALLER = [
    (
        r"^make (extract .* EVERY=.*)$",
        rf"{_HERE} \1 {_QUICKLY} OUT={{here}}/dense",
    ),
    (
        r"^make (extract .*)$",
        rf"{_HERE} \1 {_QUICKLY} OUT={{here}}/data/features/resnet50-seg16",
    ),
    (r"^(extract run .*)$", r"\1 --weights random:0 --device cpu"),
    (
        r"EPIC_100_train.csv EPIC_100_validation.csv",
        "data/annotations/EPIC_100_train.csv data/annotations/EPIC_100_validation.csv",
    ),
    (r"--videos videos_640x360", "--videos data/videos"),
    (r"\b(resnet50|videomae)\b", "tiny_cnn"),  # tests/e2e/test_videomae.py has the real one
    (r"^(heads train --head .*)$", r"\1 --set hidden=4 --epochs 1 --device cpu"),
    (r"^(heads sweep .*) --head bilstm (.*)$", r"\1 --head bilstm:hidden=4 \2 --device cpu"),
    (r"^(heads sweep .*)$", r"\1 --epochs 2"),
    (r"\bjobs/demo-sweep.yaml\b", f"{ROOT}/jobs/demo-sweep.yaml"),
]


def commands() -> list[str]:
    """Give the commands of the README: indented lines and inline code that begin with a command's name."""
    text = re.sub(r" \\\n\s+", " ", README)
    inline = re.findall(r"`((?:make|extract|features|heads) [^`]+)`", text)
    indented = re.findall(r"^    ((?:make|extract|features|heads) [^#\n]+)", text, flags=re.MULTILINE)
    found = {command.strip(): text.index(command) for command in inline + indented}
    return sorted(found, key=found.get)


@pytest.fixture(scope="module")
def here(tmp_path_factory, miniature) -> Path:
    """A folder as the README describes it, with the data where it says."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "data").mkdir()
    (folder / "data" / "annotations").symlink_to(miniature.annotations)
    (folder / "data" / "videos").symlink_to(miniature.videos)
    return folder


@pytest.mark.parametrize("command", [command for command in commands() if command not in ELSEWHERE])
def test_command_of_the_readme_works(command, here):
    for pattern, replacement in SMALLER:
        command = re.sub(pattern, replacement, command)
    words = shlex.split(command.replace("{here}", str(here)))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "EPIC_ANNOTATIONS": str(here / "data" / "annotations"),
        "EPIC_VIDEOS": str(here / "data" / "videos"),
    }
    ran = subprocess.run(words, cwd=here, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_table_of_backbones_is_that_of_the_registry():
    form = r"^\| `(\w+)`(?: \(`(\w+)`\))? \| ([^|]+) \| [^|]+ \| (\d+) \| (\d+) \| ([\d,.]+) \|$"
    rows = re.findall(form, README, flags=re.MULTILINE)
    aliases = {name: alias for alias, name in backbones.ALIASES.items()}
    assert [(*row[:3], int(row[3]), int(row[4]), float(row[5].replace(",", ""))) for row in rows] == [
        (name, aliases.get(name, ""), entry.pretraining, entry.clip.num_steps, entry.dim, entry.gflops)
        for name, entry in ((name, backbones.get(name)) for name in backbones.names())
    ]


def test_table_of_heads_is_that_of_the_registry():
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| `([^`]+)` \|$", README, flags=re.MULTILINE)
    expected = {}
    for name in models.names():
        options = options_of(models.get(name).config())
        expected[name] = " ".join(f"{key}={value}" for key, value in options.items())
    assert dict(rows) == expected


def test_links_into_the_repository_resolve():
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert links
    assert all((ROOT / link.partition("#")[0]).exists() for link in links)


def test_make_extract_wrote_the_feature_set_the_readme_names(here):
    assert read_featureset(here / "data" / "features" / "tiny_cnn-seg16").sampling.num_frames == 16
