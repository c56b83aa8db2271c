"""`features ...` as a user types it: what it prints where, its exit codes, and one line for every error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from feature_files import COLUMNS, DENSE, finished, python, row, video, write_rows, write_set

from features import __version__
from features.failures import Failure, write_failures


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A feature set of one complete video and one that failed."""
    root = tmp_path / "set"
    write_set(root, video("P01_01", lengths=[3, 1]), created="2026-01-02")
    write_failures(root, "P01_02", [Failure("P01_02_0", "Undecodable", "frame 7")])
    return root


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """A folder of two splits: the two videos of the set, and one that it lacks."""
    folder = tmp_path / "annotations"
    rows = [row(0), row(1), row(0, video_id="P01_02")]
    write_rows(folder / "EPIC_100_train.csv", rows)
    write_rows(folder / "EPIC_100_test_timestamps.csv", [row(0, video_id="P02_101")], columns=COLUMNS)
    return folder


def one_line(text: str) -> bool:
    return text.endswith("\n") and "Traceback" not in text and len(text.splitlines()) == 1


def test_info_says_what_the_set_is_and_holds(command, root: Path) -> None:
    done = command("features", "info", root)
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["backbone"] == "drawn"
    assert lines["weights"] == "none from random:0 (sha256 000000000000)"
    assert lines["sampling"] == "16 frames per segment, each an image of its own"
    assert lines["complete"] == "1 videos, 2 segments"
    assert lines["missing"] == "give --annotations to count them"
    assert lines["failed"].startswith("1 segments in 1 videos")
    assert lines["created"] == "2026-01-02"


def test_info_counts_what_is_missing_of_a_folder_of_annotations(command, root: Path, annotations: Path) -> None:
    done = command("features", "info", root, "--annotations", annotations)
    assert "missing   1 videos, 1 segments\n" in done.stdout


def test_info_counts_what_is_missing_of_a_file(command, root: Path, annotations: Path) -> None:
    done = command("features", "info", root, "--annotations", annotations / "EPIC_100_train.csv")
    assert "missing   0 videos, 0 segments\n" in done.stdout


def test_info_for_programs_is_json(command, root: Path, annotations: Path) -> None:
    done = command("features", "info", root, "--annotations", annotations, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert found["featureset"]["sampling"]["num_frames"] == 16
    counts = {name: count for name, count in found.items() if name not in ("featureset", "size_bytes")}
    assert counts == {
        "complete_videos": 1,
        "complete_segments": 2,
        "complete_steps": 4,
        "failed_videos": 1,
        "failed_segments": 1,
        "missing_videos": 1,
        "missing_segments": 1,
    }


def test_info_of_a_dense_set(command, tmp_path: Path, annotations: Path) -> None:
    write_set(tmp_path / "dense", video(lengths=[]), sampling=DENSE)
    done = command("features", "info", tmp_path / "dense")
    assert "sampling  dense, a clip every 0.2 s\n" in done.stdout
    assert "complete  1 videos, 12 steps\n" in done.stdout
    asked = command("features", "info", tmp_path / "dense", "--annotations", annotations)
    assert "complete  1 videos, 12 steps that cover 2 segments\n" in asked.stdout
    assert "missing   2 videos, 2 segments\n" in asked.stdout


def test_verify_of_a_sound_set_says_so(command, root: Path) -> None:
    done = command("features", "verify", root)
    assert (done.returncode, done.stdout) == (0, f"{root}: 1 videos, no problems.\n")


def test_verify_names_every_problem_and_exits_with_1(command, root: Path) -> None:
    for video_id in ("P01_03", "P01_04"):
        (root / f"{video_id}.h5").write_bytes(b"no HDF5 at all")
    done = command("features", "verify", root)
    assert done.returncode == 1
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == [
        str(root / "P01_03.h5"),
        str(root / "P01_04.h5"),
    ]
    assert done.stderr.endswith(f"{root}: 2 problems in 3 videos.\n")


@pytest.mark.parametrize("action", ["info", "verify"])
def test_folder_that_is_no_feature_set_is_one_line_and_exit_code_1(command, tmp_path: Path, action: str) -> None:
    done = command("features", action, tmp_path / "none")
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, done.stdout) == (1, "")
    assert last == f"Error: {tmp_path / 'none'}: not a feature set: it holds no featureset.json."
    assert "Traceback" not in done.stderr


def test_damaged_video_is_one_line_and_exit_code_1(command, root: Path) -> None:
    (root / "P01_01.h5").write_bytes(b"no HDF5 at all")
    done = command("features", "info", root)
    assert (done.returncode, one_line(done.stderr)) == (1, True)
    assert "P01_01.h5: damaged" in done.stderr


def test_wrong_annotations_are_one_line_and_exit_code_1(command, root: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "own.csv", [row(0), row(1, verb_class="97")])
    done = command("features", "info", root, "--annotations", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {path}, row 3 (P01_01_1): verb_class is '97', not a class id from 0 to 96.\n"


def test_segments_given_twice_are_one_line_and_exit_code_1(command, root: Path, annotations: Path) -> None:
    twice = ["--annotations", annotations, "--annotations", annotations / "EPIC_100_train.csv"]
    done = command("features", "info", root, *twice)
    assert (done.returncode, one_line(done.stderr)) == (1, True)
    assert "3 narration_id in several files" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["info"], ["verify"], ["infos", "."], ["info", ".", "--jsn"], ["info", ".", "more"], ["info", "--annotations"]],
)
def test_wrong_usage_is_exit_code_2(command, arguments: list[str]) -> None:
    done = command("features", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "\nError: " in f"\n{done.stderr}"
    assert "Traceback" not in done.stderr


def test_version_is_that_of_the_package(command) -> None:
    assert command("features", "--version").stdout == f"features, version {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["info", "--help"], ["verify", "-h"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = """
import sys
from features.cli import main
main(sys.argv[1:], prog_name="features", standalone_mode=False)
print("loaded:", *sorted({"torch", "h5py", "pandas", "numpy"} & set(sys.modules)), file=sys.stderr)
"""
    end, out, err = finished(python(code, *arguments))
    assert (end, err) == (0, "loaded:\n")
    assert out.startswith("Usage: features")
