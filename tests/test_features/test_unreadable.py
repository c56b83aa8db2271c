"""A file that the system does not let be read is not called damaged, and nobody is told to delete it."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from feature_files import row, video, write_rows, write_set
from forbidden import forbidden, locked, refused_for

from features.annotations import read_segments
from features.cli import main
from features.direct import find_features, read_unchanged
from features.errors import DataError
from features.failures import failures_path, read_failures
from features.featureset import FILE_NAME, read_featureset
from features.files import read_json
from features.predictions import read_predictions
from features.store import opened, read_features, read_rows, read_times, read_video, video_path

ROOT, VIDEO = Path("set"), "P01_01"
READERS = {
    "read_video": read_video,
    "read_times": read_times,
    "read_features": read_features,
    "read_rows": lambda *place, digest: read_rows(*place, slice(1), digest=digest),
    "find_features": find_features,
}


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The digest of a set of one video, in the folder that the test works in."""
    monkeypatch.chdir(tmp_path)
    return write_set(ROOT, video(VIDEO)).digest


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_video_without_permission_is_no_damage(reader: Callable, digest: str) -> None:
    path = video_path(ROOT, VIDEO)
    with forbidden(path), refused_for(f"{path}: cannot be read: Permission denied", "owner"):
        reader(ROOT, VIDEO, digest=digest)
    reader(ROOT, VIDEO, digest=digest)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_locked_video_is_no_damage(reader: Callable, digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    path = video_path(ROOT, VIDEO)
    with locked(path), refused_for(f"{path}: locked", "HDF5_USE_FILE_LOCKING=FALSE"):
        reader(ROOT, VIDEO, digest=digest)
    reader(ROOT, VIDEO, digest=digest)


# What HDF5 says of system calls that fail, before and while it reads data or looks an object up.
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ETIMEDOUT], ids=errno.errorcode.get)
@pytest.mark.parametrize("kind", [OSError, RuntimeError, KeyError])
def test_error_of_the_system_while_reading_is_no_damage(number: int, kind: type[Exception], digest: str) -> None:
    text = f"Can't read data (file read failed: time = 1, errno = {number}, error message = '{os.strerror(number)}')"
    with (
        refused_for(f"P01_01.h5: cannot be read: {os.strerror(number)}"),
        opened(video_path(ROOT, VIDEO), digest),
    ):
        raise kind(text)


@pytest.mark.parametrize("number", [0, errno.EINVAL, errno.EOVERFLOW], ids=str)
def test_place_that_is_in_no_file_is_damage(number: int, digest: str) -> None:
    text = f"Can't read data (file read failed: time = 1, errno = {number}, error message = '{os.strerror(number)}')"
    with pytest.raises(DataError, match=r"P01_01\.h5: damaged"), opened(video_path(ROOT, VIDEO), digest):
        raise OSError(text)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOLCK, errno.ENOSYS, errno.EIO], ids=errno.errorcode.get)
def test_file_system_without_locks_is_named(number: int, digest: str) -> None:
    text = f"Unable to open file (unable to lock file, errno = {number}, error message = '{os.strerror(number)}')"
    with refused_for("locked", "HDF5_USE_FILE_LOCKING=FALSE"), opened(video_path(ROOT, VIDEO), digest):
        raise OSError(text)


def test_command_reads_a_file_with_the_advice_that_the_message_gives(command, digest: str, monkeypatch) -> None:
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    with locked(video_path(ROOT, VIDEO)):
        process = command("features", "verify", "set")
        assert process.returncode == 1
        assert "HDF5_USE_FILE_LOCKING=FALSE" in process.stdout
        monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
        assert command("features", "verify", "set").returncode == 0


def test_features_that_were_read_before_are_refused_without_permission(digest: str) -> None:
    location = find_features(ROOT, VIDEO, digest=digest)
    assert location is not None
    with forbidden(location.path):
        assert read_unchanged(location) is None


def _annotations(path: Path) -> Path:
    return write_rows(path, [row(0)])


def _compressed(path: Path) -> Path:
    path.write_bytes(gzip.compress(_annotations(Path("plain.csv")).read_bytes()))
    return path


OTHER_FILES: dict[str, tuple[Callable[[], Path], Callable[[Path], object]]] = {
    "featureset": (lambda: ROOT / FILE_NAME, lambda path: read_featureset(path.parent)),
    "failures": (lambda: _json(failures_path(ROOT, VIDEO)), lambda path: read_failures(ROOT, VIDEO)),
    "json": (lambda: _json(Path("some.json")), read_json),
    "annotations": (lambda: _annotations(Path("some.csv")), read_segments),
    "compressed": (lambda: _compressed(Path("some.csv.gz")), read_segments),
    "predictions": (lambda: _json(Path("some.pt")), read_predictions),
}


def _json(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({}))
    return path


@pytest.mark.parametrize(("make", "reader"), OTHER_FILES.values(), ids=OTHER_FILES)
def test_other_file_without_permission_is_no_damage(make: Callable, reader: Callable, digest: str) -> None:
    path = make()
    with forbidden(path), refused_for(f"{path}: cannot be read: Permission denied"):
        reader(path)


def test_folder_that_cannot_be_entered_is_one_line(digest: str) -> None:
    with forbidden(ROOT):
        result = CliRunner().invoke(main, ["verify", "set"])
    assert result.exit_code == 1
    assert re.search(r"^Error: set\S*: cannot be read: Permission denied", result.stderr, re.MULTILINE)


def test_damage_is_still_called_so(digest: str) -> None:
    path = video_path(ROOT, VIDEO)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"P01_01\.h5: damaged .*delete it and run the extraction again"):
        read_video(ROOT, VIDEO, digest=digest)
