"""The record of failures beside a feature set: its kinds, what is on disk, and that older records are read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from features.errors import DataError
from features.failures import Failure, FailureKind, failed_video_ids, read_failures, write_failures
from features.files import write_json

TOP = Path(__file__).resolve().parents[2]


FAILURES = [
    Failure("P01_01_1", FailureKind.BEYOND_END, "P01_01.mp4: ends at 3.2 s", None),
    Failure("P01_01_2", FailureKind.UNDECODABLE, "é", 17),
]


def test_failures_come_back(tmp_path: Path) -> None:
    write_failures(tmp_path, "P01_01", FAILURES)
    assert read_failures(tmp_path, "P01_01") == FAILURES


def test_failures_are_a_json_file_of_the_video(tmp_path: Path) -> None:
    write_failures(tmp_path, "P01_01", FAILURES[:1])
    assert json.loads((tmp_path / "failures/P01_01.json").read_text())["segments"] == [
        {"narration_id": "P01_01_1", "error": "BeyondEnd", "message": "P01_01.mp4: ends at 3.2 s", "frame": None}
    ]


def test_run_without_failures_clears_those_of_an_earlier_one(tmp_path: Path) -> None:
    write_failures(tmp_path, "P01_01", FAILURES)
    write_failures(tmp_path, "P01_01", [])
    assert (read_failures(tmp_path, "P01_01"), failed_video_ids(tmp_path)) == ([], [])


def test_clearing_where_nothing_failed_is_no_error(tmp_path: Path) -> None:
    write_failures(tmp_path, "P01_01", [])
    assert list(tmp_path.iterdir()) == []


def test_videos_with_failures_are_listed_by_id(tmp_path: Path) -> None:
    for video_id in ("P02_101", "P01_01"):
        write_failures(tmp_path, video_id, FAILURES)
    assert failed_video_ids(tmp_path) == ["P01_01", "P02_101"]


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"segments": [{"narration_id": "P01_01_1"}]}', '{"segments": 1}']
)
def test_damaged_record_of_failures_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "failures").mkdir()
    (tmp_path / "failures/P01_01.json").write_text(content)
    with pytest.raises(DataError, match=r"P01_01\.json"):
        read_failures(tmp_path, "P01_01")


# ---- kinds


def test_the_values_on_disk_are_those_of_earlier_versions() -> None:
    kinds = "MissingVideo UnreadableVideo BeyondEnd NoFrames Undecodable NotFinite WorkerDied WorkerHung NoBoxes"
    assert [kind.value for kind in FailureKind] == [*kinds.split(), "KeptEarlier", "NotInSource", "WrongRows"]


@pytest.mark.parametrize("kind", FailureKind)
def test_a_kind_is_its_text_and_says_what_to_do(kind: FailureKind) -> None:
    assert (kind, str(kind), f"{kind}", json.dumps({kind: kind})) == (
        kind.value,
        kind.value,
        kind.value,
        f'{{"{kind.value}": "{kind.value}"}}',
    )
    assert kind.meaning.endswith(".")
    assert kind.remedy.endswith(".")


def test_kinds_that_are_read_are_members_and_others_stay_text(tmp_path: Path) -> None:
    segments = [
        {"narration_id": "P01_01_0", "error": "Undecodable", "message": "frame 7", "frame": 7},
        {"narration_id": "P01_01_1", "error": "OfAnotherVersion", "message": "why"},
    ]
    write_json(tmp_path / "failures" / "P01_01.json", {"video_id": "P01_01", "segments": segments})
    known_failure, unknown_failure = read_failures(tmp_path, "P01_01")
    assert known_failure.error is FailureKind.UNDECODABLE
    assert (unknown_failure.error, unknown_failure.frame) == ("OfAnotherVersion", None)
    write_failures(tmp_path, "P01_01", [known_failure, unknown_failure])
    assert read_failures(tmp_path, "P01_01") == [known_failure, unknown_failure]


def test_the_table_of_kinds_in_the_docs_is_the_enum() -> None:
    text = (TOP / "docs" / "features.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", text, flags=re.MULTILINE)
    assert rows == [(kind.value, kind.meaning, kind.remedy) for kind in FailureKind]


def test_no_kind_is_written_as_text_in_the_code() -> None:
    values = "|".join(kind.value for kind in FailureKind)
    modules = [path for package in ("extract", "heads", "features") for path in (TOP / package).rglob("*.py")]
    names = [path.name for path in modules if re.search(f'"({values})"', path.read_text(encoding="utf-8"))]
    assert names == ["failures.py"]
