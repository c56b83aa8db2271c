"""What docs/cluster.md says holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from extract.backbones import get
from extract.sampling import choose_sampling
from features.console import human_size

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| ([\d.]+ GB) \| ([\d.]+ GB) \| ([\d.]+ GB) \|$", PAGE, flags=re.MULTILINE)
# Of the published annotation files.
SEGMENTS, HOURS = 89_977, 100.03


def _size(name: str, num_frames: int, every_s: float | None) -> str:
    entry = get(name)
    sampling = choose_sampling(num_frames, every_s, entry.clip)
    steps = SEGMENTS * -(-num_frames // entry.clip.num_frames) * sampling.steps_per_clip
    if every_s is not None:
        steps = HOURS * 3600 / every_s
    return human_size(steps * (2 * entry.dim + 12))


def test_there_is_a_row_for_a_handful_of_backbones():
    assert len(ROWS) >= 5


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_disk_that_the_table_names_is_that_of_the_registry(row):
    assert row[1:] == (_size(row[0], 16, None), _size(row[0], 32, None), _size(row[0], 16, 0.2))


def test_links_into_the_repository_resolve():
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", PAGE)
    assert links
    assert all((ROOT / "docs" / link.partition("#")[0]).exists() for link in links)


def test_variables_of_the_table_are_those_that_the_scripts_know():
    table = PAGE.split("| variable |", 1)[1].split("\n\n", 1)[0]
    scripts = (ROOT / "jobs" / "extract.sh").read_text()
    for name in re.findall(r"`([A-Z_]+)(?:=1)?`", table):
        assert f"#   {name}=" in scripts or f"{name}=" in scripts
