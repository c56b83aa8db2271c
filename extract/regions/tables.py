"""Boxes of other detectors: a table as CSV or JSON lines, a box per row.

    video,second,kind,side,score,left,top,right,bottom
    P01_101,12.34,hand,left,0.97,0.10,0.52,0.31,0.80
    P01_101,12.34,object,left,0.81,0.28,0.50,0.36,0.61        what the left hand holds

`kind` is hand or object; of objects, only those that a hand holds are listed. `side` is left or right; of an object it
is the hand that holds it, and may be empty. Boxes are fractions of the width and height of the upright picture, and
`second` counts from the start of the video.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from extract.regions.boxes import Hands, Held, VideoBoxes, video_boxes
from features.errors import DataError
from features.files import unreadable

COLUMNS = ("video", "second", "kind", "side", "score", "left", "top", "right", "bottom")
ENDINGS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz")
_KINDS = {"hand": 0, "object": 1}
_SIDES = {"left": 0, "right": 1, "": -1}
_BEYOND = 1e-3  # of the picture, by which rounding may put a box beyond its border


@dataclass
class _Rows:
    """The rows of a video, one after the other: second, kind, side, score, left, top, right, bottom."""

    values: array[float] = field(default_factory=lambda: array("d"))


def read_tables(path: Path, *, min_score: float) -> dict[str, VideoBoxes]:
    """Read a table of boxes: the boxes of each video in it.

    Args:
        min_score: the least score of a row that counts. A row with less still says that its frame was looked at.

    Raises:
        DataError: the file cannot be read, lacks a column, or a row is wrong; the message names the row.
    """
    rows: dict[str, _Rows] = {}
    for number, record in _records(path):
        video, values = _checked(record, f"{path}, row {number}")
        rows.setdefault(video, _Rows()).values.extend(values)
    if not rows:
        raise DataError(f"{path}: holds no boxes.")
    return {video: _video(np.array(own.values).reshape(-1, 8), min_score) for video, own in rows.items()}


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each row, as an editor counts lines, and its values by column."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            yield from (_json_lines(path, text) if ".jsonl" in path.suffixes else _csv_rows(path, text))
    except (EOFError, UnicodeDecodeError, gzip.BadGzipFile, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table ({error}).") from error
    except OSError as error:
        raise unreadable(path, error) from error


def _csv_rows(path: Path, text: io.TextIOWrapper) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(text)
    if lacking := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
        raise DataError(f"{path}: has no column {lacking[0]}; a table of boxes has {', '.join(COLUMNS)}.")
    for record in reader:
        yield reader.line_num, record


def _json_lines(path: Path, text: io.TextIOWrapper) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, row {number}: is not JSON ({error}).") from error
        if not isinstance(record, dict):
            raise DataError(f"{path}, row {number}: is no object with {', '.join(COLUMNS)}.")
        yield number, record


def _checked(record: dict[str, Any], place: str) -> tuple[str, tuple[float, ...]]:
    """Return the video and the values of a row, or raise a DataError that begins with `place`."""
    video, kind, side = record.get("video"), record.get("kind"), record.get("side") or ""
    if not isinstance(video, str) or not video:
        raise DataError(f"{place}: names no video.")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise DataError(f"{place}: kind is {kind!r}, not {' or '.join(_KINDS)}.")
    if not isinstance(side, str) or side not in _SIDES or (kind == "hand" and not side):
        raise DataError(f"{place}: side is {side!r}, not left or right" + (", or empty." if kind == "object" else "."))
    second, score, *box = (_number(record, column, place) for column in ("second", "score", *COLUMNS[-4:]))
    if second < 0:
        raise DataError(f"{place}: second is {second:g}, before the start of the video.")
    if not 0 <= score <= 1:
        raise DataError(f"{place}: score is {score:g}, not from 0 to 1.")
    left, top, right, bottom = box
    if min(box) < -_BEYOND or max(box) > 1 + _BEYOND:
        raise DataError(
            f"{place}: box {left:g}, {top:g}, {right:g}, {bottom:g} is not in fractions of the picture, from 0 to 1."
        )
    if not (left < right and top < bottom):
        raise DataError(
            f"{place}: box {left:g}, {top:g}, {right:g}, {bottom:g} has no area: left < right, top < bottom."
        )
    return video, (second, _KINDS[kind], _SIDES[side], score, *box)


def _number(record: dict[str, Any], column: str, place: str) -> float:
    value = record.get(column)
    try:
        number = float(value) if isinstance(value, (str, int, float)) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{place}: {column} is {value!r}, not a number.")
    return number


def _video(rows: np.ndarray, min_score: float) -> VideoBoxes:
    """Return the boxes of the rows of a video, (N, 8)."""
    seconds, frame = np.unique(rows[:, 0], return_inverse=True)
    order = np.argsort(frame, kind="stable")
    rows, frame = rows[order], frame[order]
    counts = rows[:, 3] >= min_score
    is_hand, is_object = ((rows[:, 1] == kind) & counts for kind in _KINDS.values())
    side, score, boxes = rows[:, 2].astype(np.int64), rows[:, 3].astype(np.float32), rows[:, 4:].clip(0, 1)
    num = int(is_hand.sum())
    hands = Hands(
        frame[is_hand],
        boxes[is_hand].astype(np.float32),
        score[is_hand],
        side[is_hand],
        np.zeros(num, np.int64),
        np.zeros((num, 2), np.float32),
    )
    own = _scores_of_holders(hands, frame[is_object], side[is_object], score[is_object])
    return video_boxes(seconds, hands, Held(frame[is_object], boxes[is_object].astype(np.float32), own))


def _scores_of_holders(hands: Hands, frame: np.ndarray, side: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the score of the hand that holds each object; its own where no such hand is listed."""
    best: dict[tuple[int, int], float] = {}
    for key_frame, key_side, value in zip(hands.frame.tolist(), hands.side.tolist(), hands.score.tolist(), strict=True):
        best[key_frame, key_side] = max(value, best.get((key_frame, key_side), 0.0))
    keys = zip(frame.tolist(), side.tolist(), score.tolist(), strict=True)
    return np.array([best.get((key_frame, key_side), own) for key_frame, key_side, own in keys], np.float32)
