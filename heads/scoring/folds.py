"""Runs that were trained on the folds of one list, joined: each predicts the part that the others were trained on."""

from __future__ import annotations

import itertools
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.files import sha256_of_json
from features.predictions import Predictions, concatenate
from heads.data.splits import all_folds, fold_of
from heads.prediction_files import BY_VALUES, ScoreKinds
from heads.runs import RunRecord, group_of, predictions_of, read_record


@dataclass(frozen=True)
class Member:
    """What predicts a list of segments by itself: a run, an ensemble, a predictions file, or the runs of all folds.

    Attributes:
        paths: the run folder or file; of folds, the run folders in the order of the folds.
        kind: of a file, what its scores are, "logits" or "probabilities"; None where they tell themselves.
    """

    paths: tuple[Path, ...]
    kind: str | None = None

    @property
    def is_joined(self) -> bool:
        """Whether it is the runs of all folds of a list."""
        return len(self.paths) > 1

    @property
    def path(self) -> Path:
        """Where it is; of folds, with a * where their paths differ."""
        return Path(_pattern([str(path) for path in self.paths]))

    @property
    def split(self) -> str:
        """How the lists were split into training and validation, such as "official", "fold:0/5" or "fold:*/5"."""
        return all_folds(len(self.paths)) if self.is_joined else read_record(self.paths[0]).split

    def predictions(self, *, tta: bool = False) -> Predictions:
        """Read the predictions for validation; of folds, each segment's by the run that was not trained on it.

        Raises:
            DataError: there are none, or a segment is in two folds.
        """
        parts = [predictions_of(path, "validation", tta=tta, kind=self.kind) for path in self.paths]
        return concatenate(parts, str(self.path)) if self.is_joined else parts[0]


def _pattern(names: Sequence[str]) -> str:
    """Return names as one, with a * where they differ.

    >>> _pattern(["runs/fold0-seed1", "runs/fold1-seed1"]), _pattern(["runs/a", "runs/a"])
    ('runs/fold*-seed1', 'runs/a')
    """
    if len(set(names)) == 1:
        return names[0]
    start = _common_start(names)
    end = _common_start([name[len(start) :][::-1] for name in names])[::-1]
    return f"{start}*{end}"


def _common_start(names: Sequence[str]) -> str:
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same)


# Of config.json: what differs between folds of one head by necessity, and what a run chooses by the numbers of its
# segments (heads/training/defaults.py), which may differ.
_COUNTED = [f"{split}_{count}" for split in ("train", "validation") for count in ("segments", "missing")]
_LISTS = ("train_csv", "validation_csv", "test_csv", "num_actions")
_OF_FOLD = ("split", "labels_digest", "times_digest", "features", *_LISTS, *_COUNTED)
_BY_SIZE = ("epochs", "warmup_epochs", "mixup", "max_steps", "head_options", "select")


def join_folds(sources: Sequence[Path], scores: ScoreKinds = BY_VALUES) -> list[Member]:
    """Return sources as members, in their order, with the runs of all folds of a list as one member.

    Runs are folds of one head if they have the same settings and there is exactly one for each fold. Where there are
    several, those belong together that share more: the seed, the folder, the name but for the fold's number. A run
    whose other folds are not there is a member by itself.

    Args:
        scores: what the scores in predictions files are.

    Raises:
        DataError: the config.json of a run is damaged.
    """
    single = dict.fromkeys(sources)
    records = {source: read_record(source) for source in single if source.is_dir()}
    waiting = {source: record for source, record in records.items() if record.head and fold_of(record.split)}
    joined: dict[Path, Member] = {}
    for ignored in ((), _BY_SIZE):
        for shared in (("seed", "folder", "name"), ("seed", "folder"), ("seed",), ()):
            sets: dict[Hashable, list[Path]] = {}
            for source, record in waiting.items():
                sets.setdefault(_key(source, record, ignored, shared), []).append(source)
            for runs in sets.values():
                runs.sort(key=lambda run: _fold(records[run]))
                if [_fold(records[run])[0] for run in runs] == list(range(_fold(records[runs[0]])[1])):
                    joined |= dict.fromkeys(runs, Member(tuple(runs)))
                    waiting = {run: record for run, record in waiting.items() if run not in joined}
    return list(dict.fromkeys(joined.get(source, Member((source,), scores.of(source))) for source in single))


def _fold(record: RunRecord) -> tuple[int, int]:
    fold = fold_of(record.split)
    assert fold is not None
    return fold


def _key(source: Path, record: RunRecord, ignored: Sequence[str], shared: Sequence[str]) -> Hashable:
    """Return what the folds of one head have in common: settings, training list, and what `shared` names."""
    fold, num_folds = _fold(record)
    settings: dict[str, Any] = {
        name: value for name, value in record.values.items() if name not in {*_OF_FOLD, *ignored, "seed"}
    }
    train = record.files.train.name if record.files.train else None
    facets = {
        "seed": record.values.get("seed"),
        "folder": source.parent,
        "name": re.sub(rf"(?<!\d){fold}(?!\d)", "*", group_of(source)),
    }
    return num_folds, train, sha256_of_json(settings), tuple(facets[name] for name in shared)
