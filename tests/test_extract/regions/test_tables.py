"""Boxes of other detectors, as CSV and JSON lines; and where the boxes of a run's videos are found."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hand_objects import message, write_detections

from extract.regions.boxes import REGIONS
from extract.regions.source import BoxReader, find_boxes
from extract.regions.tables import COLUMNS, read_tables
from features.errors import DataError

ROWS = [
    ("P01_101", 0.0, "hand", "left", 0.9, 0.125, 0.5, 0.25, 0.75),
    ("P01_101", 0.0, "hand", "right", 0.7, 0.5, 0.5, 0.625, 0.75),
    ("P01_101", 0.0, "object", "right", 0.95, 0.5, 0.25, 0.75, 0.5),
    ("P01_101", 0.0, "object", "left", 0.6, 0.0, 0.5, 0.125, 0.75),
    ("kitchen", 3.5, "object", "", 0.8, 0.25, 0.25, 0.5, 0.5),
    ("P01_101", 0.5, "hand", "left", 0.4, 0.125, 0.5, 0.25, 0.75),
]


def _write(path: Path, rows=ROWS) -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="") as file:
        if ".jsonl" in path.suffixes:
            file.writelines(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows)
        else:
            csv.writer(file).writerows([COLUMNS, *rows])
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz", "a.jsonl.gz"])
def test_both_formats_say_the_same(tmp_path, name):
    tables = read_tables(_write(tmp_path / name), min_score=0.5)
    assert set(tables) == {"P01_101", "kitchen"}
    boxes = tables["P01_101"].boxes
    assert tables["P01_101"].seconds.tolist() == [0.0, 0.5]  # the second has too low a score, but was looked at
    assert np.isnan(boxes[1]).all()
    expected = {
        "left": [0.125, 0.5, 0.25, 0.75],
        "right": [0.5, 0.5, 0.625, 0.75],
        "held": [0.0, 0.5, 0.125, 0.75],  # by the hand with the highest score, not the object with it
        "hands": [0.0, 0.25, 0.75, 0.75],
    }
    assert {region: boxes[0, REGIONS.index(region)].tolist() for region in REGIONS} == expected
    held = tables["kitchen"].boxes[0, REGIONS.index("held")]
    assert held.tolist() == [0.25, 0.25, 0.5, 0.5]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("video", "", "names no video"),
        ("second", "x", "second is 'x', not a number"),
        ("second", -1, "before the start"),
        ("kind", "foot", "kind is 'foot', not hand or object"),
        ("side", "", "side is '', not left or right"),
        ("score", 50, "score is 50, not from 0 to 1"),
        ("right", 120.0, "is not in fractions of the picture"),
        ("right", 0.125, "has no area"),
        ("left", "nan", "left is 'nan', not a number"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_wrong_row_is_named(tmp_path, name, column, value, reason):
    wrong = list(ROWS[0])
    wrong[COLUMNS.index(column)] = value
    number = 3 if name == "a.csv" else 2
    with pytest.raises(DataError, match=rf"{name}, row {number}: .*{reason}"):
        read_tables(_write(tmp_path / name, [ROWS[1], wrong]), min_score=0.5)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "video,second\n", "has no column kind; a table of boxes has video, second, kind"),
        ("a.csv", ",".join(COLUMNS) + "\n", "holds no boxes"),
        ("a.jsonl", "[1]\n", "row 1: is no object"),
        ("a.jsonl", "{\n", "row 1: is not JSON"),
        ("a.csv.gz", "plain", "cannot be read as a table"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, content, reason):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=reason):
        read_tables(tmp_path / name, min_score=0.5)


# ---- where they are


def test_a_folder_has_a_file_per_video_anywhere_and_masks_are_passed_over(tmp_path):
    for folder in ("hand-objects", "masks"):
        write_detections(tmp_path / "P01" / folder / "P01_09.pkl", [message("P01_09", 1)])
    _write(tmp_path / "P01_101.csv", ROWS[:4])
    files = find_boxes(tmp_path, ["P01_09"], min_score=0.5)
    assert files.files == {
        "P01_09": tmp_path / "P01" / "hand-objects" / "P01_09.pkl",
        "P01_101": tmp_path / "P01_101.csv",
    }
    assert "P01_10" not in files
    with BoxReader(files, 1) as reader:
        found = [reader.start(video)() for video in ("P01_09", "P01_101")]
    assert [len(boxes.seconds) for boxes in found] == [1, 1]


def test_damaged_files_are_named_by_the_process_that_waits(tmp_path):
    (tmp_path / "P01_09.pkl").write_bytes(b"no pickle")
    with BoxReader(find_boxes(tmp_path, ["P01_09"], min_score=0.5), 1) as reader:
        result = reader.start("P01_09")
        with pytest.raises(DataError, match=r"P01_09\.pkl"):
            result()


def test_what_cannot_be_boxes_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder or table of boxes"):
        find_boxes(tmp_path / "none", ["P01_09"], min_score=0.5)
    with pytest.raises(DataError, match="holds no boxes of these videos"):
        find_boxes(tmp_path, ["P01_09"], min_score=0.5)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match="neither a folder nor a table"):
        find_boxes(tmp_path / "a.txt", ["P01_09"], min_score=0.5)
    _write(tmp_path / "P01_09.csv")
    with pytest.raises(DataError, match=r"P01_09\.csv: is of P01_101, kitchen; a file in a folder of boxes"):
        find_boxes(tmp_path, ["P01_09"], min_score=0.5).read("P01_09")
    write_detections(tmp_path / "P01_09.pkl", [message("P01_09", 1)])
    with pytest.raises(DataError, match="the boxes of P01_09 are there twice"):
        find_boxes(tmp_path, ["P01_09"], min_score=0.5)


def test_other_boxes_have_another_fingerprint(tmp_path):
    path = write_detections(tmp_path / "P01_09.pkl", [message("P01_09", 1)])
    first = find_boxes(tmp_path, ["P01_09"], min_score=0.5).fingerprint("P01_09")
    write_detections(path, [message("P01_09", 2)])
    assert find_boxes(tmp_path, ["P01_09"], min_score=0.5).fingerprint("P01_09") != first
    table = find_boxes(_write(tmp_path / "a.csv"), [], min_score=0.5)
    changed = find_boxes(_write(tmp_path / "a.csv", ROWS[1:]), [], min_score=0.5)
    assert table.fingerprint("kitchen") == changed.fingerprint("kitchen")
    assert table.fingerprint("P01_101") != changed.fingerprint("P01_101")
