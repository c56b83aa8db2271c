"""test.json, the file for the challenge's public server, from its text to arrays. heads/submission/ writes it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from features.annotations import NUM_CLASSES
from features.errors import DataError, first_few


def read_record(content: bytes, source: str) -> dict[str, Any]:
    """Return the record in a test.json of the challenge, of which nothing but that it is one is checked.

    Raises:
        DataError: it is no JSON, a name in it is repeated, or it has no results.
    """
    try:
        record = json.loads(content, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: not JSON as it should be ({error}).") from error
    if not isinstance(record, dict):
        raise DataError(f"{source}: not a record of version, challenge and results.")
    if (challenge := record.get("challenge")) != "action_recognition":
        raise DataError(f"{source}: challenge is {challenge!r}, not 'action_recognition'.")
    if not isinstance(record.get("results"), dict) or not record["results"]:
        raise DataError(f"{source}: no results in it.")
    return record


def scores_in(record: Mapping[str, Any], source: str) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Return the ids of the N segments in the record of a test.json, and by task their scores, (N, K) float64.

    Raises:
        DataError: a segment has not a score for each class.
    """
    results = record["results"]
    scores = {task: np.empty((len(results), num)) for task, num in NUM_CLASSES.items()}
    for row, (name, result) in enumerate(results.items()):
        for task, num in NUM_CLASSES.items():
            scores[task][row] = _scores(result, task, num, f"{source}, {name}")
    return tuple(results), scores


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
