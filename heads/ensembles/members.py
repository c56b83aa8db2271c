"""The members of an ensemble: their checks, their predictions, and the settings that an ensemble inherits from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from features.errors import DataError, OptionError, first_few
from features.predictions import Predictions
from heads.data.splits import all_folds, fold_of, scored_csv
from heads.ensembles.blend import blend, uniform
from heads.runs import PREDICTIONS, has_predictions, need_existing, predictions_of, read_record
from heads.scoring.folds import Member
from heads.scoring.groups import without_copies


def need_members(members: Sequence[Path]) -> None:
    """Check that there are members, that they exist, and that none is given twice.

    Raises:
        OptionError: there is none, or one is given twice.
        DataError: one is missing.
    """
    if not members:
        raise OptionError(None, "an ensemble needs members.")
    need_existing(members)
    times = Counter(member.resolve() for member in members)
    repeated = dict.fromkeys(str(member) for member in members if times[member.resolve()] > 1)
    if repeated:
        raise OptionError(None, f"{first_few(repeated)}: given twice; each member counts once.")


def different(members: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return the members with predictions of their own, and the names of those with the predictions of another one.

    Raises:
        DataError: a file cannot be read.
    """
    kept, copies = without_copies(members, by_settings=False)
    return [member for member in members if member.resolve() in kept], [name for of in copies.values() for name in of]


def need_one_list(members: Sequence[Member]) -> None:
    """Check that members are scored on one list, as far as they record it.

    Raises:
        DataError: they are scored on different lists, or on different folds of one.
    """
    first_of: dict[str, Member] = {}
    for member in members:
        csv = scored_csv(member.split, read_record(member.paths[0]).files)
        if csv is not None:
            first_of.setdefault(csv.name if member.split == "official" else f"{member.split} of {csv.name}", member)
    if len(first_of) > 1:
        lists = ", ".join(f"{member.path} on {name}" for name, member in first_of.items())
        raise DataError(f"members are scored on different lists: {lists}; name members of one list.")


@dataclass(frozen=True, eq=False)
class MemberPredictions:
    """The predictions of all members for one split, for the segments of the first member and in its order.

    They are read anew each time that they are gone through, one after the other, so that few are in memory.

    Attributes:
        first: of the first member.
        others: the other members.
        tta: whether those of runs are the predictions with test-time augmentation.
    """

    first: Predictions
    others: tuple[Member, ...]
    split: str
    tta: bool

    def __iter__(self) -> Iterator[Predictions]:
        """Yield the predictions of each member.

        Raises:
            DataError: a member lacks a segment that another one has.
        """
        others = (_predictions(member, self.split, tta=self.tta) for member in self.others)
        return _aligned(chain([self.first], others))

    def aligned(self, narration_id: Iterable[str]) -> MemberPredictions:
        """Return them with the segments in this order."""
        return replace(self, first=self.first.aligned(narration_id))


def read_members(members: Sequence[Member], *, tta: bool) -> dict[str, MemberPredictions]:
    """Return the predictions of members for each split that all of them predict.

    Args:
        tta: of runs, the predictions with test-time augmentation.

    Raises:
        DataError: there is no such split.
    """
    predicted = {
        split: MemberPredictions(_predictions(members[0], split, tta=tta), tuple(members[1:]), split, tta)
        for split in PREDICTIONS
        if all(_has_predictions(member, split, tta=tta) for member in members)
    }
    if not predicted:
        remedy = "heads predict RUN --tta writes them." if tta else "are the runs finished?"
        raise DataError(f"{members[0].path}: no predictions that all {len(members)} members have; {remedy}")
    return predicted


def _has_predictions(member: Member, split: str, *, tta: bool) -> bool:
    if member.is_joined and split == "train":  # each fold was trained on most of it
        return False
    return all(has_predictions(path, split, tta=tta) for path in member.paths)


def _predictions(member: Member, split: str, *, tta: bool) -> Predictions:
    """Read a member's predictions for a split; of folds, the mean for a list that none of them was trained on."""
    if split == "validation":
        return member.predictions(tta=tta)
    parts = _aligned(predictions_of(path, split, tta=tta) for path in member.paths)
    if not member.is_joined:
        return next(parts)
    return blend(parts, uniform(len(member.paths)), "probabilities", source=str(member.path))


def _aligned(predicted: Iterable[Predictions]) -> Iterator[Predictions]:
    """Yield predictions for the same segments, in the order of the first.

    Raises:
        DataError: one of them lacks a segment that the first has, or the other way round.
    """
    first = None
    for predictions in predicted:
        first = predictions if first is None else first
        first.aligned(predictions.narration_id)  # raises if the first lacks a segment
        yield predictions.aligned(first.narration_id)


def inherited_record(members: Sequence[Path]) -> dict[str, Any]:
    """Return what the config.json of an ensemble takes over from its members: annotation files, split, feature sets."""
    records = [read_record(member) for member in members]
    inherited = {
        name: next((record.values[name] for record in records if name in record.values), None)
        for name in ("train_csv", "validation_csv", "test_csv", "split")
    }
    folds = [fold_of(record.split) for record in records if record.values]
    if any(record.split == "all" for record in records):  # one member that was trained on validation is enough
        inherited["split"] = "all"
    elif folds and None not in folds and len(set(folds)) > 1:
        inherited["split"] = all_folds(max(fold[1] for fold in folds if fold))
    # Of all members: the pretraining of every backbone counts for the levels of supervision in a submission.
    inherited["features"] = list(dict.fromkeys(root for record in records for root in record.features))
    return {name: value for name, value in inherited.items() if value}
