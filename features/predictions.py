"""Predictions: verb and noun logits per segment, in the challenge's own list format. Knows no model.

They may have logits of actions too, from a classifier over pairs of verb and noun, which the challenge does not score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from features.actions import UNLISTED, joined, spread, what_is_wrong
from features.annotations import NUM_NOUNS, NUM_VERBS
from features.errors import DataError, first_few
from features.tensors import load_safely, save_tensors


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits for N segments.

    Attributes:
        narration_id: N ids, each once.
        verb: (N, 97) float32 logits; log-probabilities are logits too.
        noun: (N, 300) float32 logits.
        source: the name of the predictions in messages.
        action, pairs: (N, A) float32 logits of an action classifier, and its (A, 2) int64 pairs of verb and noun; None
            where there is none.

    Raises:
        DataError: a shape is wrong, a value is not finite, or a segment or an action occurs twice.
    """

    narration_id: tuple[str, ...]
    verb: np.ndarray
    noun: np.ndarray
    source: str
    action: np.ndarray | None = None
    pairs: np.ndarray | None = None

    def __post_init__(self) -> None:
        num_segments = len(self.narration_id)
        if num_segments == 0:
            raise DataError(f"{self.source}: it holds no predictions.")
        if len(set(self.narration_id)) != num_segments:
            repeated = [name for name, times in Counter(self.narration_id).items() if times > 1]
            raise DataError(f"{self.source}: segments predicted twice: {first_few(repeated)}.")
        outputs = [("verb", self.verb, NUM_VERBS), ("noun", self.noun, NUM_NOUNS)]
        if self.action is not None and self.pairs is not None:
            if wrong := what_is_wrong(self.pairs):
                raise DataError(f"{self.source}: the pairs of its actions {wrong}.")
            outputs.append(("action", self.action, len(self.pairs)))
        elif self.action is not None or self.pairs is not None:
            raise DataError(f"{self.source}: action logits and their pairs go together, and it has only one of them.")
        for name, logits, width in outputs:
            if logits.shape != (num_segments, width):
                raise DataError(f"{self.source}: {name} logits have shape {logits.shape}, not {(num_segments, width)}.")
            invalid = np.flatnonzero(~np.isfinite(logits).all(axis=1))
            if len(invalid):
                names = first_few(self.narration_id[index] for index in invalid)
                raise DataError(f"{self.source}: {name} logits are not finite for {names}.")

    def __len__(self) -> int:
        return len(self.narration_id)

    def __repr__(self) -> str:
        return f"Predictions({len(self)} segments, from {self.source})"

    def aligned(self, narration_id: Iterable[str]) -> Predictions:
        """Return the predictions for these segments, in this order.

        Raises:
            DataError: a segment has no prediction; the message names the first few of them.
        """
        names = tuple(narration_id)
        if names == self.narration_id:
            return self
        row = {name: index for index, name in enumerate(self.narration_id)}
        missing = [name for name in names if name not in row]
        if missing:
            raise DataError(f"{self.source}: no prediction for {len(missing)} segments: {first_few(missing)}.")
        return self.rows(np.array([row[name] for name in names]))

    def rows(self, index: np.ndarray) -> Predictions:
        """Return the predictions for some segments, by their positions or by a mask (N,) bool."""
        names = tuple(np.array(self.narration_id, dtype=object)[index])
        action = None if self.action is None else self.action[index]
        return Predictions(names, self.verb[index], self.noun[index], self.source, action, self.pairs)

    def without_actions(self) -> Predictions:
        """Return them without the logits of actions, which take nine times the memory of all others."""
        return self if self.action is None else replace(self, action=None, pairs=None)


def concatenate(parts: Sequence[Predictions], source: str) -> Predictions:
    """Return the predictions for the segments of all parts, one part after the other.

    There are logits of actions if all parts have them. Where the parts have different pairs, as the folds of a list
    have, they become log-probabilities over the pairs of all parts; a part gives a pair that it does not have 1e-12.

    Raises:
        DataError: a segment is in two of them.
    """
    names = tuple(name for part in parts for name in part.narration_id)
    verb, noun = (np.concatenate([getattr(part, task) for part in parts]) for task in ("verb", "noun"))
    scored = [(part.action, part.pairs) for part in parts if part.action is not None and part.pairs is not None]
    if len(scored) < len(parts):
        return Predictions(names, verb, noun, source)
    pairs = scored[0][1]
    if all(np.array_equal(own, pairs) for _, own in scored):
        return Predictions(names, verb, noun, source, np.concatenate([action for action, _ in scored]), pairs)
    pairs = joined(own for _, own in scored)
    action = np.concatenate([spread(_log_softmax(action), own, pairs, UNLISTED) for action, own in scored])
    return Predictions(names, verb, noun, source, action, pairs)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).log_softmax(dim=1).numpy()


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions in the challenge's list format: [{narration_id, verb_output (97,), noun_output (300,)}, ...].

    With logits of actions each row has action_output (A,) too, and the last one action_pairs (A, 2): the challenge's
    code uses neither, but it wants all keys of the first row in all rows. The rows are views of few tensors, and torch
    saves each tensor once, so even 13,092 segments are written quickly.
    """
    verb = torch.from_numpy(np.ascontiguousarray(predictions.verb, dtype=np.float32))
    noun = torch.from_numpy(np.ascontiguousarray(predictions.noun, dtype=np.float32))
    rows: list[dict[str, Any]] = [
        {"narration_id": name, "verb_output": verb[index], "noun_output": noun[index]}
        for index, name in enumerate(predictions.narration_id)
    ]
    if predictions.action is not None and predictions.pairs is not None:
        rows[-1]["action_pairs"] = torch.from_numpy(np.ascontiguousarray(predictions.pairs, dtype=np.int64))
        action = torch.from_numpy(np.ascontiguousarray(predictions.action, dtype=np.float32))
        for row, logits in zip(rows, action, strict=True):
            row["action_output"] = logits
    save_tensors(path, rows)


def read_predictions(path: Path | BinaryIO, *, name: str | None = None) -> Predictions:
    """Read predictions as `write_predictions` writes them. No code in the file is run.

    features/prediction_formats.py reads the files of others.

    Args:
        name: the name of the file in messages; by default its path.

    Raises:
        DataError: the file does not exist, holds something else, or could only be loaded unsafely.
    """
    name = name or str(path)
    rows = load_safely(path, name=name)
    try:
        pairs = next((row["action_pairs"] for row in reversed(rows) if "action_pairs" in row), None)
        return Predictions(
            narration_id=tuple(str(row["narration_id"]) for row in rows),
            verb=_stacked(rows, "verb_output"),
            noun=_stacked(rows, "noun_output"),
            source=name,
            action=None if pairs is None else _stacked(rows, "action_output"),
            pairs=None if pairs is None else pairs.numpy(),
        )
    except (KeyError, TypeError, RuntimeError, IndexError, AttributeError) as error:
        raise DataError(f"{name}: not a list of {{narration_id, verb_output, noun_output}} ({error}).") from error


def _stacked(rows: Any, key: str) -> np.ndarray:
    return torch.stack([row[key] for row in rows]).detach().float().numpy()
