"""Predictions files of others, read as ours: the formats of the public code, and probabilities instead of logits.

The list and the dict format are those of epic-kitchens/C1-Action-Recognition, written by torch.save or pickle, and
test.json is the file for the public server. No code in a file is run. features/predictions.py writes our own files.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from features.actions import what_is_wrong
from features.annotations import NUM_CLASSES
from features.challenge_json import read_record, scores_in
from features.checkpoints import read_published
from features.errors import DataError, UnreadableError, first_few
from features.files import unreadable
from features.pickle_machine import StandIn
from features.predictions import Predictions
from features.tensors import load_safely

KINDS = ("logits", "probabilities")
_FLOOR = 1e-12  # of a probability whose logarithm is taken
_TOLERANCE = 1e-3  # of a sum of probabilities
_ID = "narration_id"
_KEYS = {task: f"{task}_output" for task in NUM_CLASSES}
_ACTION, _PAIRS = "action_output", "action_pairs"  # both are optional
_ALL_KEYS = (_ID, *_KEYS.values())


@dataclass(frozen=True, eq=False)
class PredictionsFile:
    """A predictions file that was read.

    Attributes:
        kind: what its scores were taken for, one of KINDS.
        note: a sentence for people that says what the file was taken for.
    """

    predictions: Predictions
    kind: str
    note: str


@dataclass(frozen=True, eq=False)
class _Content:
    """The content of a file as it is: its format in words, the ids, and by task the scores (N, K) of any type.

    With scores of actions (N, A) there are their pairs (A, 2) too.
    """

    layout: str
    narration_id: tuple[str, ...]
    scores: Mapping[str, np.ndarray]
    action: np.ndarray | None = None
    pairs: np.ndarray | None = None


def read_predictions_file(path: Path, *, kind: str | None = None) -> PredictionsFile:
    """Read a predictions file in any known format: the list or the dict format, test.json, or a zip that holds one.

    Scores are probabilities if all rows of verbs and nouns are within 0..1 and sum to 1, up to 1e-3. Their logarithm is
    taken, of at least 1e-12. Logits stay as they are, but for rounding to float32.

    Args:
        kind: what the scores are, one of KINDS; None where the scores themselves tell.

    Raises:
        DataError: the file does not exist, is damaged or in no known format, or its scores cannot be probabilities.
    """
    path = Path(path)
    content = _read(path, str(path))
    seen = "probabilities" if all(map(are_probabilities, content.scores.values())) else "logits"
    verb, noun = (_as_logits(content, task, kind or seen, str(path)) for task in ("verb", "noun"))
    action = None if content.action is None else _as_logits(content, "action", kind or seen, str(path))
    predictions = Predictions(content.narration_id, verb, noun, str(path), action, content.pairs)
    return PredictionsFile(predictions, kind or seen, f"{path}: {_described(content, kind, seen)}")


def _described(content: _Content, given: str | None, seen: str) -> str:
    """Return what a file is taken for, and how to take it otherwise."""
    taken = f"taken for {content.layout}: {given or seen} of {len(content.narration_id):,} segments"
    if given is not None:
        return f"{taken}, as --scores says"
    if seen == "probabilities":
        return f"{taken}, so their logarithm is used (--scores logits uses them as they are)"
    sums = [f"{task} {total:.3g}" for task, scores in content.scores.items() if (total := _common_sum(scores))]
    if sums:  # as a sum over crops, or probabilities of one task
        return f"{taken}. But rows are never below 0 and have one sum ({', '.join(sums)}): --scores probabilities?"
    return taken


def are_probabilities(scores: np.ndarray) -> bool:
    """Return whether all rows are within 0..1 and sum to 1, up to 1e-3."""
    return bool(
        ((scores >= 0) & (scores <= 1)).all() and (np.abs(scores.sum(axis=1, dtype=np.float64) - 1) <= _TOLERANCE).all()
    )


def _common_sum(scores: np.ndarray) -> float:
    """Return the sum that all rows have, if no score is below 0; else 0."""
    if not (scores >= 0).all():
        return 0.0
    sums = scores.sum(axis=1, dtype=np.float64)
    return float(sums[0]) if (np.abs(sums - sums[0]) <= _TOLERANCE * sums[0]).all() else 0.0


def _as_logits(content: _Content, task: str, kind: str, name: str) -> np.ndarray:
    scores = content.action if task == "action" and content.action is not None else content.scores[task]
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and is refused as such
        if kind == "logits":
            return scores.astype(np.float32)
        below = np.flatnonzero((scores < 0).any(axis=1))
        if len(below):
            names = first_few(content.narration_id[index] for index in below)
            raise DataError(f"{name}: {task} scores are below 0 for {names}, so they are no probabilities (--scores).")
        return np.log(np.maximum(scores.astype(np.float64), _FLOOR)).astype(np.float32)


# ---- what kind of file it is


def _read(path: Path, name: str, *, in_zip: bool = False) -> _Content:
    try:
        with open(path, "rb") as file:
            start = file.read(64).lstrip()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError) as error:
        raise DataError(f"{name}: no such file.") from error
    except OSError as error:
        raise unreadable(name, error) from error
    if start[:1] == b"{":
        return _Content("the challenge's test.json", *scores_in(read_record(path.read_bytes(), name), name))
    if start[:2] != b"PK":
        return _of_lists(read_published(path, name=name), name)
    try:
        members = _members_of(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise DataError(f"{name}: damaged ({error}).") from error
    if _is_of_torch(members):
        return _of_lists(_read_torch(path, name), name)
    if len(members) != 1 or in_zip:
        raise DataError(f"{name}: holds {first_few(members) or 'nothing'}, and not just one predictions file.")
    return _read_member(path, members[0], name)


def is_torch_zip(path: Path) -> bool:
    """Return whether a file is a zip that torch.save wrote: such a zip holds a data.pkl in a folder.

    Raises:
        OSError, zipfile.BadZipFile: it cannot be read, or is damaged.
    """
    return zipfile.is_zipfile(path) and _is_of_torch(_members_of(path))


def _is_of_torch(members: Sequence[str]) -> bool:
    return any(member.endswith("/data.pkl") for member in members)


def _members_of(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _read_member(path: Path, member: str, name: str) -> _Content:
    """Read the only file in a zip; in a temporary copy, as its tensors are read where they lie."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "member")
        try:
            with zipfile.ZipFile(path) as archive, archive.open(member) as source, open(copy, "wb") as target:
                shutil.copyfileobj(source, target)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
            raise DataError(f"{name}: damaged ({error}).") from error
        return _read(copy, f"{name}/{member}", in_zip=True)


def _read_torch(path: Path, name: str) -> object:
    """Read a zip file of torch.save; by torch itself if it holds tensors only, which is faster."""
    try:
        return load_safely(path, name=name)
    except UnreadableError:
        raise
    except DataError:
        return read_published(path, name=name)


# ---- the list format and the dict format


def _of_lists(content: object, name: str) -> _Content:
    """Return the content of the list format, a dict per segment, or of the dict format, an array per key."""
    if isinstance(content, dict):
        _need_keys(content, name)
        ids = _ids(content[_ID], name)
        scores = {
            task: _matrix(content[key], (len(ids), NUM_CLASSES[task]), f"{name}: {key}") for task, key in _KEYS.items()
        }
        layout, pairs = f"the challenge's dict format with {_type_of(content)}", _pairs(content, name)
        if pairs is None or _ACTION not in content:
            return _Content(layout, ids, scores)
        action = _matrix(content[_ACTION], (len(ids), len(pairs)), f"{name}: {_ACTION}")
        return _Content(layout, ids, scores, action, pairs)
    if not isinstance(content, (list, tuple)):
        raise DataError(
            f"{name}: holds {_words_for(content)}, and neither a list of {{{', '.join(_ALL_KEYS)}}} per segment nor a "
            "dict of these."
        )
    if not content:
        raise DataError(f"{name}: it holds no predictions.")
    for number, row in enumerate(content, start=1):
        _need_keys(row, f"{name}, entry {number}")
    ids = tuple(_id(row[_ID], f"{name}, entry {number}") for number, row in enumerate(content, start=1))
    scores = {
        task: _stacked((row[key] for row in content), ids, NUM_CLASSES[task], f"{name}: {key}")
        for task, key in _KEYS.items()
    }
    layout = f"the challenge's list format with {_type_of(content[0])}"
    pairs = _pairs(next((row for row in reversed(content) if _PAIRS in row), {}), name)
    if pairs is None:
        return _Content(layout, ids, scores)
    lacking = [segment for segment, row in zip(ids, content, strict=True) if _ACTION not in row]
    if lacking:
        raise DataError(f"{name}: {_PAIRS} in it, and no {_ACTION} of {first_few(lacking)}.")
    action = _stacked((row[_ACTION] for row in content), ids, len(pairs), f"{name}: {_ACTION}")
    return _Content(layout, ids, scores, action, pairs)


def _pairs(record: Mapping[str, object], name: str) -> np.ndarray | None:
    """Return the pairs that scores of actions are of, (A, 2); None where a file has none."""
    if _PAIRS not in record:
        return None
    pairs = _array(record[_PAIRS], f"{name}: {_PAIRS}")
    if wrong := what_is_wrong(pairs):
        raise DataError(f"{name}: {_PAIRS} {wrong}.")
    return pairs.astype(np.int64)


def _need_keys(row: object, where: str) -> None:
    if not isinstance(row, dict):
        raise DataError(f"{where}: {_words_for(row)} is no dict of {', '.join(_ALL_KEYS)}.")
    missing = [key for key in _ALL_KEYS if key not in row]
    if missing:
        raise DataError(f"{where}: no {' and no '.join(missing)} in it.")


def _words_for(value: object) -> str:
    """Return what a value is; not the value itself, which may be of any length and depth."""
    return f"an object {value.name!r:.60}" if isinstance(value, StandIn) else f"a value of type {type(value).__name__}"


def _type_of(row: Mapping[str, object]) -> str:
    types = {torch.Tensor: "tensors", np.ndarray: "numpy arrays"}
    return next((text for kind, text in types.items() if isinstance(row[_KEYS["verb"]], kind)), "plain lists")


def _ids(values: Any, name: str) -> tuple[str, ...]:
    if not isinstance(values, (list, tuple, np.ndarray)):
        raise DataError(f"{name}: {_ID} is {_words_for(values)}, not a list.")
    return tuple(_id(value, name) for value in (values.ravel() if isinstance(values, np.ndarray) else values))


def _id(value: Any, where: str) -> str:
    """Return the id of a segment: a text, bytes, or a list of one, as a batch of one has it."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if not isinstance(value, str):
        raise DataError(f"{where}: a {_ID} is {_words_for(value)}, not a text.")
    return str(value)  # numpy has a class of its own


def _matrix(values: object, shape: tuple[int, int], where: str) -> np.ndarray:
    """Return scores of N segments as an array of this shape, (N, K)."""
    if isinstance(values, (list, tuple)):
        if len(values) != shape[0]:
            raise DataError(f"{where} has {len(values)} rows for {shape[0]} segments.")
        return _stacked(values, (f"row {row}" for row in range(shape[0])), shape[1], where)
    return _shaped(_array(values, where), shape, where)


def _stacked(rows: Iterable[object], names: Iterable[object], width: int, where: str) -> np.ndarray:
    arrays = [
        _shaped(_array(row, f"{where} of {name}"), (width,), f"{where} of {name}")
        for row, name in zip(rows, names, strict=True)
    ]
    return np.stack(arrays)


def _shaped(array: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return an array in a shape that differs from its own by axes of length 1 alone."""
    if [size for size in array.shape if size != 1] != [size for size in shape if size != 1]:
        raise DataError(f"{where} has shape {array.shape}, not {shape}.")
    return array.reshape(shape)


def _array(value: object, where: str) -> np.ndarray:
    """Return numbers as an array of their own type; bfloat16, which numpy has not, as float32."""
    try:
        if isinstance(value, torch.Tensor):
            value = value.detach()
            array = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        else:
            array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # of uneven rows, and of tensors without plain data
        raise DataError(f"{where} is no array of numbers.") from error
    if array.dtype.kind not in "fiu":
        raise DataError(f"{where} is no array of numbers.")
    return array
