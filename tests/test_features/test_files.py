"""Files that are there whole or not at all, whatever happens to the process that writes them."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import socket
from pathlib import Path

import pytest
from feature_files import finished, kill_when_stopped, names_in, python

from features.errors import DataError
from features.files import read_json, sha256_of_file, sha256_of_json, write_json, write_text, written_whole

# What a text file is written as, in a process that stops where the text is whole but not yet in its place.
STOP_BEFORE_RENAME = """
import sys, time
from pathlib import Path
from features.files import write_text

def stop(event, arguments):
    if event == "os.rename":
        print("stopped", flush=True)
        time.sleep(60)

sys.addaudithook(stop)
write_text(Path(sys.argv[1]), "new")
"""
WRITE_A_MEGABYTE = """
import sys
from pathlib import Path
from features.errors import DataError
from features.files import write_text

try:
    write_text(Path(sys.argv[1]), "x" * 1_000_000)
except DataError as error:
    sys.exit(f"DataError {error}")
"""


def kill_in_the_middle_of_writing(path: Path) -> None:
    kill_when_stopped(python(STOP_BEFORE_RENAME, path))


def test_killed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "old")
    kill_in_the_middle_of_writing(path)
    assert path.read_text() == "old"


def test_killed_write_of_a_new_file_leaves_none(tmp_path: Path) -> None:
    kill_in_the_middle_of_writing(tmp_path / "note.txt")
    assert not (tmp_path / "note.txt").exists()


def test_next_write_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    kill_in_the_middle_of_writing(tmp_path / "note.txt")
    assert [name.endswith(".tmp") for name in names_in(tmp_path)] == [True]
    write_text(tmp_path / "note.txt", "whole")
    assert names_in(tmp_path) == ["note.txt"]


@pytest.mark.parametrize("owner", [f"{socket.gethostname()}.1", "elsewhere.99999999"], ids=["running", "other machine"])
def test_temporary_file_of_a_process_that_may_still_write_stays(tmp_path: Path, owner: str) -> None:
    temporary = tmp_path / f".note.txt.{owner}.tmp"
    temporary.write_text("half")
    write_text(tmp_path / "note.txt", "whole")
    assert names_in(tmp_path) == [temporary.name, "note.txt"]


def test_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    limit = (100_000, 100_000)
    process = python(WRITE_A_MEGABYTE, path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    code, _, err = finished(process)
    assert (code, err) == (1, f"DataError {path}: cannot be written: File too large.\n")


def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "old")
    limit = (100_000, 100_000)
    finished(python(WRITE_A_MEGABYTE, path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)))
    assert (names_in(tmp_path), path.read_text()) == (["note.txt"], "old")


def test_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "old")
    with contextlib.suppress(ZeroDivisionError), written_whole(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert (names_in(tmp_path), path.read_text()) == (["note.txt"], "old")


def test_file_is_not_visible_before_it_is_whole(tmp_path: Path) -> None:
    with written_whole(tmp_path / "note.txt") as temporary:
        temporary.write_text("half")
        visible_names = [name for name in names_in(tmp_path) if not name.startswith(".")]
    assert visible_names == []


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "note.txt", "whole")
    assert (tmp_path / "a" / "b" / "note.txt").read_text() == "whole"


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "folder" / "note.txt"
    with pytest.raises(DataError) as error:
        write_text(path, "never")
    assert str(error.value) == f"{path}: cannot be written: Not a directory."


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": {"é": True}}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "not a JSON file"), (b"", "not a JSON file"), (b"\xff\xfe{}", "not a JSON file"), (None, "cannot be read")],
)
def test_wrong_json_file_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "value.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_json(path)
    assert str(error.value).startswith(str(path))


def test_digest_of_a_file_is_sha256_of_its_bytes(tmp_path: Path) -> None:
    content = b"features" * 400_000  # more than one block
    (tmp_path / "file").write_bytes(content)
    assert sha256_of_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_digest_of_json_depends_on_values_and_not_on_the_order_of_keys() -> None:
    assert sha256_of_json({"a": [1], "b": 2}) == sha256_of_json({"b": 2, "a": [1]})
    assert sha256_of_json({"a": [1], "b": 2}) != sha256_of_json({"a": [1], "b": 3})
