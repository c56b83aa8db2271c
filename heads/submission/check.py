"""The check of files for the servers: what a server would refuse is refused here first."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from features.annotations import NUM_CLASSES, Segments
from features.challenge_json import read_record, scores_in
from features.errors import DataError
from features.prediction_formats import are_probabilities, is_torch_zip
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
    if all(are_probabilities(getattr(predictions, task)) for task in NUM_CLASSES):
        kind = f"{kind} that are probabilities, which the public scoring code takes for logits (heads submit converts)"
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
    if not zipfile.is_zipfile(path) or is_torch_zip(path):
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


def _from_json(content: bytes, source: str) -> Predictions:
    record = read_record(content, source)
    if (version := record.get("version")) != CHALLENGE_VERSION:
        raise DataError(f"{source}: version is {version!r}, not {CHALLENGE_VERSION!r}.")
    levels = [record.get(name) for name in ("sls_pt", "sls_tl", "sls_td")]
    if not all(type(level) is int and 0 <= level <= 5 for level in levels):
        raise DataError(f"{source}: levels of supervision are {levels}, not whole numbers from 0 to 5.")
    names, scores = scores_in(record, source)
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and is refused as such
        verb, noun = (scores[task].astype(np.float32) for task in ("verb", "noun"))
    return Predictions(names, verb, noun, source)
