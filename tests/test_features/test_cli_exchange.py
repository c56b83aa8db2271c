"""`features import`, `export` and `merge` as a user types them: what they print where, and their exit codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from feature_files import DENSE, names_in, video, write_set
from published_features import SEGMENTS, VIDEOS, drawn, write_annotations, write_mtcn

from features.cli import main
from features.formats.registry import FORMATS


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*words: object) -> Result:
        return CliRunner().invoke(main, list(map(str, words)))

    return invoke


@pytest.fixture
def to(tmp_path) -> tuple[object, ...]:
    """The options that every import needs."""
    return ("--out", "set", "--annotations", write_annotations(tmp_path / "annotations"))


def write_dense(folder: Path, *videos: str) -> None:
    folder.mkdir()
    for video_id in videos:
        np.savez(folder / f"{video_id}.npz", feats=drawn(int(VIDEOS.get(video_id, (9,))[0] * 30 - 32) // 16 + 1, 8))


def test_an_import_counts_what_it_did(run, to) -> None:
    write_dense(Path("files"), "P01_01", "P02_101", "P77_01")
    result = run("import", "actionformer", "files", *to)
    assert result.exit_code == 0
    assert result.stdout == "set: 5 segments in 2 videos of files: 5 done, 0 there before, 0 failed.\n"
    assert "files holds nothing of 1 annotated videos: P01_02.\n" in result.stderr
    assert "Left out, as the annotations do not have them: 1 ids, P77_01.\n" in result.stderr
    assert "import actionformer: 5/5 segments" in result.stderr
    again = run("import", "actionformer", "files", *to)
    assert again.stdout == "set: 5 segments in 2 videos of files: 0 done, 5 there before, 0 failed.\n"


def test_a_set_that_holds_features_of_other_files_says_so(run, to) -> None:
    write_dense(Path("files"), "P01_01")
    write_dense(Path("others"), "P01_01", "P02_101")
    assert "other files" not in run("import", "actionformer", "files", *to).stderr
    assert "other files" not in run("import", "actionformer", "files", *to).stderr
    result = run("import", "actionformer", "others", *to)
    assert "set holds features of other files as well: files/P01_01.npz, " in result.stderr


def test_failures_are_counted_and_the_exit_code_is_1(run, to) -> None:
    write_mtcn(Path("mtcn.hdf5"), [name for name in SEGMENTS if name != "P01_01_1"], dim=8)
    result = run("import", "mtcn", "mtcn.hdf5", "--part", "visual", *to)
    assert result.exit_code == 1
    assert result.stdout == "set: 6 segments in 3 videos of mtcn.hdf5: 5 done, 0 there before, 1 failed.\n"
    assert "Failed in 1 videos: P01_01. The reasons are in set/failures" in result.stderr


def test_info_shows_where_an_imported_set_is_from(run, to) -> None:
    write_mtcn(Path("mtcn.hdf5"), list(SEGMENTS), dim=8)
    run("import", "mtcn", "mtcn.hdf5", "--part", "audio", *to)
    lines = dict(line.split(maxsplit=1) for line in run("info", "set").stdout.splitlines())
    assert lines["backbone"] == "mtcn:audio"
    assert lines["weights"] == "as published by MTCN (Kazakos et al., BMVC 2021)"
    assert lines["sampling"] == "640 frames per segment, in clips of 64 frames at 60 fps, 1 steps per clip"
    assert lines["imported"] == "format mtcn, part audio, clips 10"


def test_info_of_plain_arrays_by_segment_claims_nothing_of_frames(run, to) -> None:
    Path("files").mkdir()
    for name in SEGMENTS:
        np.save(f"files/{name}.npy", drawn(3, 8))
    assert run("import", "npy", "files", "--backbone", "mine", *to).exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in run("info", "set").stdout.splitlines())
    assert (lines["backbone"], lines["sampling"]) == ("mine", "steps spread over each segment")


@pytest.mark.parametrize(
    ("words", "exit_code", "line"),
    [
        (("mtnc", "files"), 2, "no format 'mtnc'; did you mean 'mtcn'?"),
        (("mtcn", "files"), 2, "--part: is needed: mtcn has visual, audio."),
        (("mtcn", "files", "--part", "visual", "--fps", 30), 2, "--fps: is not an option of mtcn"),
        (("npz", "files"), 2, "--fps: is needed: files holds an array per video"),
        (("npz", "files", "--part", "rgb"), 2, "--part: npz has no parts."),
        (("actionformer", "files", "--intervals", "a.pkl"), 2, "--intervals: is not an option of actionformer"),
        (("npy", "none"), 1, "none: no such file or folder."),
        (("npy", "files"), 1, "files: holds no file named *.npy; give the file, or the folder of files."),
        (("rulstm", "files", "--part", "rgb"), 1, "files: holds no rgb/data.mdb"),
    ],
)
def test_mistakes_are_one_line(run, to, words, exit_code, line) -> None:
    write_dense(Path("files"), "P01_01")
    result = run("import", *words, *to)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert line in result.stderr.splitlines()[-1]
    assert not Path("set").exists()


def test_the_help_names_every_format(run) -> None:
    text = run("import", "--help").stdout
    assert [name for name in FORMATS if name not in text] == []


def test_export_and_merge_say_what_they_wrote(run, to) -> None:
    write_dense(Path("files"), *VIDEOS)
    run("import", "actionformer", "files", *to)
    result = run("export", "set", "--format", "npz", "--out", "out")
    assert (result.exit_code, result.stdout) == (0, "out: 3 arrays; out/README.txt says what they are.\n")
    result = run("merge", "set", "set", "--out", "merged")
    assert result.stdout == "merged: 3 videos, 3 of them in several sets; 0 failures.\n"
    assert names_in(Path("merged")) == names_in(Path("set"))


def test_export_of_a_video_with_missing_rows_is_exit_code_1(run) -> None:
    seconds = np.array([0.1, 0.3, 0.5, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9, 2.1, 2.3, 2.5])
    write_set(Path("set"), video(lengths=[], seconds=seconds), sampling=DENSE)
    result = run("export", "set", "--format", "npy", "--out", "out")
    assert result.exit_code == 1
    assert "Left out, as rows are missing: 1 videos, P01_01." in result.stderr
