"""Predictions: verb and noun logits per segment, in the challenge's own list format. Knows no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

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

    Raises:
        DataError: a shape is wrong, a value is not finite, or a segment occurs twice.
    """

    narration_id: tuple[str, ...]
    verb: np.ndarray
    noun: np.ndarray
    source: str

    def __post_init__(self) -> None:
        num_segments = len(self.narration_id)
        if num_segments == 0:
            raise DataError(f"{self.source}: it holds no predictions.")
        if len(set(self.narration_id)) != num_segments:
            repeated = [name for name, times in Counter(self.narration_id).items() if times > 1]
            raise DataError(f"{self.source}: segments predicted twice: {first_few(repeated)}.")
        for name, logits, width in (("verb", self.verb, NUM_VERBS), ("noun", self.noun, NUM_NOUNS)):
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
        rows = [row[name] for name in names]
        return Predictions(names, self.verb[rows], self.noun[rows], self.source)


def concatenate(parts: Sequence[Predictions], source: str) -> Predictions:
    """Return the predictions for the segments of all parts, one part after the other.

    Raises:
        DataError: a segment is in two of them.
    """
    names = tuple(name for part in parts for name in part.narration_id)
    verb, noun = (np.concatenate([getattr(part, task) for part in parts]) for task in ("verb", "noun"))
    return Predictions(names, verb, noun, source)


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions in the challenge's list format: [{narration_id, verb_output (97,), noun_output (300,)}, ...].

    The rows are views of two tensors, and torch saves each tensor once, so even 13,092 segments are written quickly.
    """
    verb = torch.from_numpy(np.ascontiguousarray(predictions.verb, dtype=np.float32))
    noun = torch.from_numpy(np.ascontiguousarray(predictions.noun, dtype=np.float32))
    rows = [
        {"narration_id": name, "verb_output": verb[index], "noun_output": noun[index]}
        for index, name in enumerate(predictions.narration_id)
    ]
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
        return Predictions(
            narration_id=tuple(str(row["narration_id"]) for row in rows),
            verb=torch.stack([row["verb_output"] for row in rows]).detach().float().numpy(),
            noun=torch.stack([row["noun_output"] for row in rows]).detach().float().numpy(),
            source=name,
        )
    except (KeyError, TypeError, RuntimeError, IndexError) as error:
        raise DataError(f"{name}: not a list of {{narration_id, verb_output, noun_output}} ({error}).") from error
