"""`features ...` as a user types it: what it prints where, its exit codes, and one line for every error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from feature_files import COLUMNS, DENSE, REGIONS, finished, python, row, video, write_rows, write_set
from shell import output_here

from features import __version__
from features.cli import main
from features.failures import Failure, write_failures
from features.featureset import Sampling


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


def is_one_line(text: str) -> bool:
    return text.endswith("\n") and "Traceback" not in text and len(text.splitlines()) == 1


def test_info_says_what_the_set_is_and_holds(command, root: Path) -> None:
    process = command("features", "info", root)
    assert (process.returncode, process.stderr) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in process.stdout.splitlines())
    assert lines["backbone"] == "drawn"
    assert lines["weights"] == "none from random:0 (sha256 000000000000)"
    assert lines["sampling"] == "16 frames per segment, each an image of its own"
    assert lines["complete"] == "1 videos, 2 segments"
    assert lines["missing"] == "give --annotations to count them"
    assert lines["failed"].startswith("1 segments in 1 videos")
    assert lines["created"] == "2026-01-02"


def test_info_says_which_share_of_the_steps_has_each_region(command, tmp_path: Path) -> None:
    has_region = np.array([[True, False]] * 6 + [[True, True]] * 2)
    write_set(tmp_path / "set", video(has_region=has_region), **REGIONS, created="2026-01-02")
    lines = dict(line.split(maxsplit=1) for line in command("features", "info", tmp_path / "set").stdout.splitlines())
    assert lines["regions"] == "boxes drawn, size 32"
    assert lines["cells"] == "hands:mean in 100.0 %, held:mean in 25.0 % of the steps"


def test_info_counts_what_is_missing_of_a_folder_of_annotations(command, root: Path, annotations: Path) -> None:
    process = command("features", "info", root, "--annotations", annotations)
    assert "missing   1 videos, 1 segments\n" in process.stdout


def test_info_counts_what_is_missing_of_a_file(command, root: Path, annotations: Path) -> None:
    process = command("features", "info", root, "--annotations", annotations / "EPIC_100_train.csv")
    assert "missing   0 videos, 0 segments\n" in process.stdout


def test_info_for_programs_is_json(command, root: Path, annotations: Path) -> None:
    process = command("features", "info", root, "--annotations", annotations, "--json")
    record = json.loads(process.stdout)
    assert (process.returncode, process.stderr) == (0, "")
    assert record["featureset"]["sampling"]["num_frames"] == 16
    counts = {name: count for name, count in record.items() if name not in ("featureset", "size_bytes")}
    assert counts == {
        "complete_videos": 1,
        "complete_segments": 2,
        "complete_steps": 4,
        "failed_videos": 1,
        "failed_segments": 1,
        "missing_videos": 1,
        "missing_segments": 1,
        "views": {"centre": 1},
        "regions": {},
    }


def test_info_of_a_dense_set(command, tmp_path: Path, annotations: Path) -> None:
    write_set(tmp_path / "dense", video(lengths=[]), sampling=DENSE)
    process = command("features", "info", tmp_path / "dense")
    assert "sampling  dense, a clip every 0.2 s\n" in process.stdout
    assert "complete  1 videos, 12 steps\n" in process.stdout
    second_process = command("features", "info", tmp_path / "dense", "--annotations", annotations)
    assert "complete  1 videos, 12 steps that cover 2 segments\n" in second_process.stdout
    assert "missing   2 videos, 2 segments\n" in second_process.stdout


@pytest.mark.parametrize(("clip_fps", "how"), [(7.5, "at 7.5 fps"), (None, "spread over it")])
def test_info_says_which_frames_a_clip_shows(tmp_path: Path, clip_fps: float | None, how: str) -> None:
    sampling = Sampling("segment", clip_frames=16, steps_per_clip=8, num_frames=32, clip_fps=clip_fps)
    write_set(tmp_path / "set", video(), sampling=sampling)
    assert f"32 frames per segment, in clips of 16 frames {how}, 8 steps per clip\n" in output_here(
        main, "info", tmp_path / "set"
    )


def test_verify_of_a_sound_set_says_so(command, root: Path) -> None:
    process = command("features", "verify", root)
    assert (process.returncode, process.stdout) == (0, f"{root}: 1 videos, no problems.\n")


def test_verify_names_every_problem_and_exits_with_1(command, root: Path) -> None:
    for video_id in ("P01_03", "P01_04"):
        (root / f"{video_id}.h5").write_bytes(b"no HDF5 at all")
    process = command("features", "verify", root)
    assert process.returncode == 1
    assert [line.split(": ")[0] for line in process.stdout.splitlines()] == [
        str(root / "P01_03.h5"),
        str(root / "P01_04.h5"),
    ]
    assert process.stderr.endswith(f"{root}: 2 problems in 3 videos.\n")


@pytest.mark.parametrize("action", ["info", "verify"])
def test_folder_that_is_no_feature_set_is_one_line_and_exit_code_1(command, tmp_path: Path, action: str) -> None:
    process = command("features", action, tmp_path / "none")
    last_line = process.stderr.splitlines()[-1]
    assert (process.returncode, process.stdout) == (1, "")
    assert last_line == f"Error: {tmp_path / 'none'}: not a feature set: it holds no featureset.json."
    assert "Traceback" not in process.stderr


def test_damaged_video_is_one_line_and_exit_code_1(command, root: Path) -> None:
    (root / "P01_01.h5").write_bytes(b"no HDF5 at all")
    process = command("features", "info", root)
    assert (process.returncode, is_one_line(process.stderr)) == (1, True)
    assert "P01_01.h5: damaged" in process.stderr


def test_wrong_annotations_are_one_line_and_exit_code_1(command, root: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "own.csv", [row(0), row(1, verb_class="97")])
    process = command("features", "info", root, "--annotations", path)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == f"Error: {path}, row 3 (P01_01_1): verb_class is '97', not a class id from 0 to 96.\n"


def test_segments_given_twice_are_one_line_and_exit_code_1(command, root: Path, annotations: Path) -> None:
    options = ["--annotations", annotations, "--annotations", annotations / "EPIC_100_train.csv"]
    process = command("features", "info", root, *options)
    assert (process.returncode, is_one_line(process.stderr)) == (1, True)
    assert "3 narration_id in several files" in process.stderr


@pytest.mark.parametrize(
    "arguments",
    [["info"], ["verify"], ["infos", "."], ["info", ".", "--jsn"], ["info", ".", "more"], ["info", "--annotations"]],
)
def test_wrong_usage_is_exit_code_2(command, arguments: list[str]) -> None:
    process = command("features", *arguments)
    assert (process.returncode, process.stdout) == (2, "")
    assert "\nError: " in f"\n{process.stderr}"
    assert "Traceback" not in process.stderr


def test_version_is_that_of_the_package(command) -> None:
    assert command("features", "--version").stdout == f"features, version {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["info", "--help"], ["verify", "-h"], ["import", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = """
import sys
from features.cli import main
main(sys.argv[1:], prog_name="features", standalone_mode=False)
print("loaded:", *sorted({"torch", "h5py", "pandas", "numpy"} & set(sys.modules)), file=sys.stderr)
"""
    exit_code, out, err = finished(python(code, *arguments))
    assert (exit_code, err) == (0, "loaded:\n")
    assert out.startswith("Usage: features")
