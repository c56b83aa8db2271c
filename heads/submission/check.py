"""The check of files for the servers: what a server would refuse is refused here first."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from features.annotations import NUM_CLASSES, Segments
from features.errors import DataError, first_few
from features.predictions import Predictions, read_predictions
from heads.submission.files import CHALLENGE_VERSION, need_exactly, need_sound

_LIST, _JSON = "submission.pt", "test.json"


def check_file(path: Path, segments: Segments | None, *, expect: int | None = None) -> str:
    """Check a submission.pt, a zip that holds one, or a zip with the public challenge's test.json; return its content.

    Args:
        segments: the list that the server scores; without it, only the file itself is checked.

    Raises:
        DataError: the file is none of these, is damaged, or would be refused.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    kind, predictions = _read(path)
    if segments is not None:
        need_exactly(predictions, segments)
    need_sound(predictions, expect=expect)
    against = f", those of {segments.source}" if segments is not None else ""
    return f"{path}: {kind} for {len(predictions)} segments{against}: sound.{_ties(predictions)}"


def _ties(predictions: Predictions) -> str:
    """Return a sentence about segments of which several classes have the best score; nothing where there are none."""
    tied = np.zeros(len(predictions), dtype=bool)
    for task in NUM_CLASSES:
        scores = getattr(predictions, task)
        tied |= (scores == scores.max(axis=1, keepdims=True)).sum(axis=1) > 1
    if not tied.any():
        return ""
    return (
        f" In {tied.sum()} segments several classes share the best score: the server's sort decides which comes first, "
        "and here it is the lowest id."
    )


def _read(path: Path) -> tuple[str, Predictions]:
    if not zipfile.is_zipfile(path) or _is_torch_file(path):
        return "a list of scores", read_predictions(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if names not in ([_LIST], [_JSON]):
                held = ", ".join(names) or "nothing"
                raise DataError(f"{path}: holds {held}, and not just {_LIST} or just {_JSON}.")
            content = archive.read(names[0])
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{path}: damaged ({error}).") from error
    if names == [_LIST]:
        return f"a zip with {_LIST}", read_predictions(io.BytesIO(content), name=f"{path}/{_LIST}")
    return f"a zip with {_JSON}", _from_json(content, f"{path}/{_JSON}")


def _is_torch_file(path: Path) -> bool:
    """Whether torch.save wrote a zip: such a zip holds a data.pkl in a folder."""
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def _from_json(content: bytes, source: str) -> Predictions:
    try:
        record = json.loads(content, object_pairs_hook=_without_repeats)
    except ValueError as error:
        raise DataError(f"{source}: not JSON as it should be ({error}).") from error
    expected = {"version": CHALLENGE_VERSION, "challenge": "action_recognition"}
    if not isinstance(record, dict):
        raise DataError(f"{source}: not a record of {', '.join(expected)} and results.")
    for name, value in expected.items():
        if record.get(name) != value:
            raise DataError(f"{source}: {name} is {record.get(name)!r}, not {value!r}.")
    levels = [record.get(name) for name in ("sls_pt", "sls_tl", "sls_td")]
    if not all(type(level) is int and 0 <= level <= 5 for level in levels):
        raise DataError(f"{source}: levels of supervision are {levels}, not whole numbers from 0 to 5.")
    results = record.get("results")
    if not isinstance(results, dict) or not results:
        raise DataError(f"{source}: no results in it.")
    scores = {task: np.empty((len(results), num), dtype=np.float32) for task, num in NUM_CLASSES.items()}
    for row, (name, result) in enumerate(results.items()):
        for task, num in NUM_CLASSES.items():
            with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and is refused as such
                scores[task][row] = _scores(result, task, num, f"{source}, {name}")
    return Predictions(tuple(results), scores["verb"], scores["noun"], source)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; ValueError where a key is repeated, of which Python would silently keep the last value."""
    record = dict(pairs)
    if len(record) < len(pairs):
        repeated = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
        raise ValueError(f"twice in it: {first_few(repeated)}")
    return record


def _scores(result: Any, task: str, num_classes: int, where: str) -> list[float]:
    scores = result.get(task) if isinstance(result, dict) else None
    if not isinstance(scores, dict) or scores.keys() != {str(index) for index in range(num_classes)}:
        raise DataError(f"{where}: {task} has not just the classes 0 to {num_classes - 1}.")
    values = [scores[str(index)] for index in range(num_classes)]
    if not all(type(value) in (int, float) for value in values):
        raise DataError(f"{where}: {task} scores are not all numbers.")
    try:
        return [float(value) for value in values]
    except OverflowError as error:
        raise DataError(f"{where}: {task} scores are beyond what a number can be.") from error
