"""Predictions files that someone names: what the scores in each are, and a note that says what a file was taken for."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from features.errors import OptionError
from features.prediction_formats import KINDS, PredictionsFile, read_predictions_file


@dataclass(frozen=True)
class ScoreKinds:
    """What the scores in predictions files are, as --scores says.

    Attributes:
        kind: of all files that are not in `by_file`, one of KINDS; None where the scores themselves tell.
        by_file: resolved path -> one of KINDS.
    """

    kind: str | None = None
    by_file: Mapping[Path, str] = field(default_factory=dict)

    def of(self, path: Path) -> str | None:
        """Return what the scores in a file are; None where they tell themselves."""
        return self.by_file.get(path.resolve(), self.kind)


BY_VALUES = ScoreKinds()


def parse_scores(texts: Sequence[str], sources: Iterable[Path]) -> ScoreKinds:
    """Return what texts such as "probabilities" or "FILE=logits" say about the files among some sources.

    Raises:
        OptionError: a text says neither kind, says something about a file that is not there, or two contradict.
    """
    kind: str | None = None
    by_file: dict[Path, str] = {}
    files = {source.resolve() for source in sources if not source.is_dir()}
    for text in texts:
        name, _, own_kind = text.rpartition("=")
        if own_kind not in KINDS:
            raise OptionError("--scores", f"{text!r} is neither [FILE=]{KINDS[0]} nor [FILE=]{KINDS[1]}.")
        path = Path(name).resolve() if name else None
        if (path is None and kind not in (None, own_kind)) or (path in by_file and by_file[path] != own_kind):
            raise OptionError("--scores", f"both kinds for {name or 'all files'}.")
        if path is None:
            kind = own_kind
        elif path in files:
            by_file[path] = own_kind
        else:
            raise OptionError("--scores", f"{name} is none of the predictions files that are given.")
    if kind is not None and not files:
        raise OptionError("--scores", "is about predictions files, and none is given; those of runs are logits.")
    return ScoreKinds(kind, by_file)


def read_named(path: Path, kind: str | None = None) -> PredictionsFile:
    """Read a predictions file in any known format, and say once on stderr what it was taken for.

    Args:
        kind: what its scores are; None where they tell themselves.

    Raises:
        DataError: it cannot be read as predictions.
    """
    file = read_predictions_file(path, kind=kind)
    _say_once(file.note)
    return file


@functools.cache
def _say_once(note: str) -> None:
    print(note, file=sys.stderr)
