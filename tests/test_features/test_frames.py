"""Pickled tables of pandas, read without pandas' own reader, and compared with what it reads."""

from __future__ import annotations

from pathlib import Path

import hostile
import numpy as np
import pandas as pd
import pytest

from features.errors import DataError
from features.frames import read_frame

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def intervals() -> pd.DataFrame:
    """Return the table that is in the golden files."""
    start = np.array([0.0, 0.2, 0.4])
    columns = {
        "video_id": ["P01_01"] * 3,
        "start_sec": start,
        "stop_sec": [1.0, 1.2, 1.4],
        "narration_sec": [0.5, 0.7, 0.9],
        "start_frame": [0, 12, 24],
        "stop_frame": [60, 72, 84],
    }
    return pd.DataFrame(columns, index=pd.Index([f"P01_01_{number}" for number in range(3)], name="narration_id"))


TABLES = {
    "as TIM writes them": intervals(),
    "numbered rows": intervals().reset_index(),
    "some rows": intervals()[intervals().start_sec > 0.1],
    "another order": intervals()[["start_frame", "stop_sec", "video_id"]].sort_values("stop_sec", ascending=False),
    "all objects": intervals().astype(object),
    "small numbers": intervals().astype({"start_sec": "float32", "stop_frame": "int16"}),
    "column by column": pd.DataFrame(np.asfortranarray(np.arange(12.0).reshape(4, 3)), columns=list("abc")),
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", TABLES)
def test_tables_are_read_as_pandas_reads_them(tmp_path, name, protocol) -> None:
    path = tmp_path / "table.pkl"
    TABLES[name].to_pickle(path, protocol=protocol)
    frame, expected = read_frame(path), pd.read_pickle(path)
    assert (list(frame.columns), list(frame.index)) == (list(expected.columns), list(expected.index))
    for column in expected:
        assert frame[column].tolist() == expected[column].tolist()


@pytest.mark.parametrize("version", ["1.2", "2.2"])
def test_tables_of_older_versions_of_pandas_are_read(version) -> None:
    frame = read_frame(GOLDEN / f"intervals-pandas{version}.pkl")
    assert frame.to_dict("list") == intervals().to_dict("list")
    assert list(frame.index) == list(intervals().index)


@pytest.mark.parametrize(
    "content",
    [[1], {"video_id": ["P01_01"]}, pd.Series([1, 2]), pd.DataFrame({"a": [[1], [2]]}), pd.DataFrame({"a": [len]})],
    ids=["a list", "a dictionary", "a series", "lists in a column", "a function in a column"],
)
def test_what_is_no_plain_table_is_refused(tmp_path, content) -> None:
    path = tmp_path / "table.pkl"
    pd.to_pickle(content, path)
    with pytest.raises(DataError, match=r"table\.pkl: cannot be read as data alone") as error:
        read_frame(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [*hostile.RUNNING])
def test_hostile_pickles_run_nothing(tmp_path, name) -> None:
    marker = tmp_path / "ran"
    path = hostile.as_pickle(hostile.RUNNING[name](marker), tmp_path / "a.pkl")
    with pytest.raises(DataError):
        read_frame(path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["an array of objects", "an array larger than its data", "no end"])
def test_malformed_pickles_are_refused(tmp_path, name) -> None:
    with pytest.raises(DataError):
        read_frame(hostile.as_pickle(hostile.MALFORMED[name], tmp_path / "a.pkl"))


@pytest.mark.parametrize("size", [0.1, 0.5, 0.9])
def test_a_table_that_is_cut_short_is_refused(tmp_path, size) -> None:
    content = (GOLDEN / "intervals-pandas2.2.pkl").read_bytes()
    (tmp_path / "a.pkl").write_bytes(content[: int(size * len(content))])
    with pytest.raises(DataError, match="cannot be read as data alone"):
        read_frame(tmp_path / "a.pkl")


def test_a_range_of_a_trillion_rows_is_refused(tmp_path) -> None:
    path = tmp_path / "a.pkl"
    pd.DataFrame(index=pd.RangeIndex(1 << 40)).to_pickle(path)
    with pytest.raises(DataError, match="in a way that is not known here"):
        read_frame(path)
