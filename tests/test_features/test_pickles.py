"""Pickles of others are read as data: plain values and arrays come back, and nothing in them runs."""

from __future__ import annotations

import copyreg
import pickle
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path, PosixPath

import hostile
import numpy as np
import pytest
import torch
from feature_files import finished, python
from hostile import MALFORMED, RUNNING, TENSOR, WRAPPINGS, as_legacy, as_pickle, as_zip

from features.checkpoints import read_published
from features.errors import DataError
from features.pickle_machine import StandIn
from features.pickles import read_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
PLAIN = {
    "numbers": [0, -1, 255, 65536, 2**31, -(2**70), 1.5, float("inf"), True, False, None, 3 + 2j],
    "texts": ["", "a", "ü" * 300, b"", b"\x00\xff" * 200, bytearray(b"abc")],
    ("a", 1): ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    b"sets": [set(), {1, 2}, frozenset("ab")],
    "dictionaries": [{}, OrderedDict(b=1, a=2), Counter("aab"), defaultdict(list, {"x": [1]})],
}
ARRAYS = [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    np.array([], dtype=np.int64),
    np.array(5, dtype=np.uint8),
    np.array([True, False]),
    np.array(["ab", "c"]),
    np.array([b"ab", b"c"]),
    np.arange(3, dtype=">i4"),
    np.arange(3) * 1j,
]


def _written(path: Path, value: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_come_back(tmp_path, protocol):
    assert read_pickle(_written(tmp_path / "a.pkl", PLAIN, protocol)) == PLAIN


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_come_back(tmp_path, protocol):
    path = _written(tmp_path / "a.pkl", ARRAYS, protocol)
    for array, expected in zip(read_pickle(path), pickle.loads(path.read_bytes()), strict=True):
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
        assert np.array_equal(array, expected)
        array[...] = array  # may be changed


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_names_of_numpy_1_and_of_numpy_2_are_known(tmp_path, protocol, core):
    content = pickle.dumps([np.float64(2.5), np.float32(0.5), np.int64(3), np.arange(3)], protocol=min(protocol, 3))
    assert b"numpy._core.multiarray" in content or b"numpy.core.multiarray" in content
    (tmp_path / "a.pkl").write_bytes(content.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", core))
    *numbers, array = read_pickle(tmp_path / "a.pkl")
    assert numbers == [2.5, 0.5, 3]
    assert list(array) == [0, 1, 2]


def test_arrays_and_texts_of_python_2_are_read(tmp_path):
    (tmp_path / "a.pkl").write_bytes(
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x04\x01\x00\xff\xfftbs."
    )
    assert read_pickle(tmp_path / "a.pkl")["a"].tolist() == [1, -1]


def test_other_objects_become_stand_ins(tmp_path):
    value = {"args": Namespace(lr=3, path=PosixPath("/a")), Namespace: [1], "kept": 2, "f": Path.touch}
    content = read_pickle(_written(tmp_path / "a.pkl", value, 4))
    stand_ins = [content.pop("args"), content.pop("f")]
    assert [stand_in.name for stand_in in stand_ins if isinstance(stand_in, StandIn)] == [
        "argparse.Namespace",
        "pathlib.Path.touch",
    ]
    assert content.pop("kept") == 2
    assert [(key.name, item) for key, item in content.items()] == [("argparse.Namespace", [1])]


def test_values_that_occur_twice_are_one(tmp_path):
    shared = [1]
    first, second = read_pickle(_written(tmp_path / "a.pkl", [shared, shared]))
    assert first is second


# ---- hostile files

every_wrapping = pytest.mark.parametrize("wrap", WRAPPINGS, ids=lambda wrap: wrap.__name__)


def _outcome(path: Path) -> object:
    """Return what is read from a file, or the one line that refuses it."""
    try:
        return read_published(path)
    except DataError as error:
        line = str(error)
        assert line.startswith(f"{path}: cannot be read as data alone (")
        assert line.isprintable()
        assert len(line) < len(str(path)) + 300
        assert not any(word in line.lower() for word in ("weights_only", "unsafe", "trust", "allow", "pickle_module"))
        return line


READ_ALL = """
import contextlib, pickle, sys
sys.path.insert(0, sys.argv[1])
for path in sys.argv[2:]:
    with contextlib.suppress(Exception), open(path, "rb") as file:
        pickle.load(file)
"""


def test_hostile_files_would_run_elsewhere(tmp_path):
    """Or the test below would say nothing."""
    markers = [tmp_path / f"{number}.ran" for number in range(len(RUNNING))]
    paths = [
        as_pickle(make(marker), marker.with_suffix(".pkl"))
        for make, marker in zip(RUNNING.values(), markers, strict=True)
    ]
    assert finished(python(READ_ALL, Path(hostile.__file__).parent, *paths))[0] == 0
    assert {name for name, marker in zip(RUNNING, markers, strict=True) if not marker.exists()} == set()


@every_wrapping
@pytest.mark.parametrize("name", RUNNING)
def test_hostile_file_does_nothing(name, wrap, tmp_path):
    marker = tmp_path / "ran"
    path = wrap(RUNNING[name](marker), tmp_path / "a.pth")
    outcome = _outcome(path)
    assert isinstance(outcome, (StandIn, str))
    assert list(tmp_path.iterdir()) == [path]


@every_wrapping
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_file_is_refused_or_harmless(name, wrap, tmp_path):
    outcome = _outcome(wrap(MALFORMED[name], tmp_path / "a.pth"))
    assert not isinstance(outcome, torch.Tensor)


def test_a_file_may_not_call_what_another_program_has_registered(tmp_path, monkeypatch):
    copyreg.add_extension("posix", "system", 1)
    monkeypatch.setitem(copyreg._extension_cache, 1, lambda text: Path(text).touch())
    try:
        path = as_pickle(b"\x80\x02\x82\x01X\x04\x00\x00\x00" + b"aran" + b"\x85R.", tmp_path / "a.pkl")
        assert "EXT1" in _outcome(path)
    finally:
        copyreg.remove_extension("posix", "system", 1)


@pytest.mark.parametrize(
    "keys",
    [b"]K\x01" + b"\x85" * 1_000_000 + b"a.", b"\x80\x02].", b"\x80\x02]U\x011a.", b"\x80\x02K\x01."],
    ids=["a deep tuple", "none", "another", "a number"],
)
def test_data_under_other_keys_are_refused(keys, tmp_path):
    outcome = _outcome(as_legacy(TENSOR, tmp_path / "a.pth", keys=keys))
    assert isinstance(outcome, str)


@pytest.mark.parametrize("wrap", [as_zip, as_legacy])
def test_tensor_in_such_a_file_is_read(wrap, tmp_path):
    """Or a mistake in what writes these files would refuse them all."""
    assert torch.equal(read_published(wrap(TENSOR, tmp_path / "a.pth")), torch.zeros(2))
