"""The members of an ensemble: their checks, their predictions, and the settings that an ensemble inherits from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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


def read_members(members: Sequence[Path], *, tta: bool) -> dict[str, list[Predictions]]:
    """Read, for each split that all members predict, their predictions in the order of the first member's segments.

    Args:
        tta: of runs, the predictions with test-time augmentation.

    Returns:
        split -> predictions, one per member.

    Raises:
        DataError: there is no such split, or a member lacks a segment that another one has.
    """
    predicted = {
        split: _aligned([predictions_of(member, split, tta=tta) for member in members])
        for split in PREDICTIONS
        if all(has_predictions(member, split, tta=tta) for member in members)
    }
    if not predicted:
        remedy = "heads predict RUN --tta writes them." if tta else "are the runs finished?"
        raise DataError(f"{members[0]}: no predictions that all {len(members)} members have; {remedy}")
    return predicted


def _aligned(predicted: Sequence[Predictions]) -> list[Predictions]:
    first, *others = predicted
    for other in others:
        first.aligned(other.narration_id)  # raises if the first member lacks a segment
    return [first, *(other.aligned(first.narration_id) for other in others)]


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
