"""The members of an ensemble: their checks, their predictions, and the settings that an ensemble inherits from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from features.errors import DataError, OptionError, first_few
from features.predictions import Predictions
from heads.runs import PREDICTIONS, has_predictions, need_existing, predictions_of, read_record


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
    others: tuple[Path, ...]
    split: str
    tta: bool

    def __iter__(self) -> Iterator[Predictions]:
        """Yield the predictions of each member.

        Raises:
            DataError: a member lacks a segment that another one has.
        """
        yield self.first
        for member in self.others:
            predictions = predictions_of(member, self.split, tta=self.tta)
            self.first.aligned(predictions.narration_id)  # raises if the first member lacks a segment
            yield predictions.aligned(self.first.narration_id)

    def aligned(self, narration_id: Iterable[str]) -> MemberPredictions:
        """Return them with the segments in this order."""
        return replace(self, first=self.first.aligned(narration_id))


def read_members(members: Sequence[Path], *, tta: bool) -> dict[str, MemberPredictions]:
    """Return the predictions of members for each split that all of them predict.

    Args:
        tta: of runs, the predictions with test-time augmentation.

    Raises:
        DataError: there is no such split.
    """
    predicted = {
        split: MemberPredictions(predictions_of(members[0], split, tta=tta), tuple(members[1:]), split, tta)
        for split in PREDICTIONS
        if all(has_predictions(member, split, tta=tta) for member in members)
    }
    if not predicted:
        remedy = "heads predict RUN --tta writes them." if tta else "are the runs finished?"
        raise DataError(f"{members[0]}: no predictions that all {len(members)} members have; {remedy}")
    return predicted


def inherited_record(members: Sequence[Path]) -> dict[str, Any]:
    """Return what the config.json of an ensemble takes over from its members: annotation files, split, feature sets."""
    records = [read_record(member) for member in members]
    inherited = {
        name: next((record.values[name] for record in records if name in record.values), None)
        for name in ("train_csv", "validation_csv", "test_csv", "split")
    }
    if any(record.split == "all" for record in records):  # one member that was trained on validation is enough
        inherited["split"] = "all"
    # Of all members: the pretraining of every backbone counts for the levels of supervision in a submission.
    inherited["features"] = list(dict.fromkeys(root for record in records for root in record.features))
    return {name: value for name, value in inherited.items() if value}
