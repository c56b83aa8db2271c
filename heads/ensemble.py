"""Several predictions as one: the mean of their probabilities. Knows no checkpoint.

Averaging what networks trained from different seeds say is the surest gain there is (Lakshminarayanan et al., "Simple
and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS 2017).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.errors import DataError, OptionError, first_few
from features.files import write_json
from features.predictions import Predictions, write_predictions
from heads.metrics import log_softmax
from heads.runs import CONFIG, PREDICTIONS, predictions_of, read_config


@dataclass(frozen=True)
class Ensemble:
    """What was written: the folder, its members, and the splits all of them predict."""

    folder: Path
    members: tuple[Path, ...]
    splits: tuple[str, ...]


def average(members: Sequence[Predictions], *, source: str) -> Predictions:
    """Average the probabilities of members, verb and noun apart; give log-probabilities.

    Raises:
        DataError: there are no members, or one lacks a segment that another has.
    """
    if not members:
        raise DataError(f"{source}: an ensemble needs members.")
    names = members[0].narration_id
    aligned = [members[0], *[member.aligned(names) for member in members[1:]]]
    for member in members[1:]:
        members[0].aligned(member.narration_id)
    return Predictions(
        narration_id=names,
        verb=_mean_probability([member.verb for member in aligned]),
        noun=_mean_probability([member.noun for member in aligned]),
        source=source,
    )


def _mean_probability(logits: list[np.ndarray]) -> np.ndarray:
    """Average in logarithms, where no probability is too small to be told from 0."""
    log_probabilities = [log_softmax(member) for member in logits]
    return (np.logaddexp.reduce(log_probabilities) - np.log(len(logits))).astype(np.float32)


def write_ensemble(members: Sequence[Path], folder: Path, *, force: bool) -> Ensemble:
    """Average what runs predict and write the result as a run folder of its own.

    Args:
        members: run folders; what each of them predicts (validation, test) is averaged.
        force: replace an ensemble of other members.

    Raises:
        OptionError: a member is given twice.
        DataError: a member has no predictions, members do not cover the same segments, or `folder` holds something
            else.
    """
    absent = [str(member) for member in members if not member.is_dir()]
    if absent:
        raise DataError(f"{first_few(absent)}: no such run folder.")
    twice = [str(name) for name, times in Counter(member.resolve() for member in members).items() if times > 1]
    if twice:
        raise OptionError(f"{first_few(twice)}: given twice; each member counts once.")
    _need_free(folder, members, force=force)
    splits = [split for split, name in PREDICTIONS.items() if all((member / name).is_file() for member in members)]
    if not splits:
        raise DataError(f"{members[0]}: no predictions that all {len(members)} members have; are the runs finished?")
    averaged = {
        split: average([predictions_of(member, split) for member in members], source=str(folder)) for split in splits
    }
    first = read_config(members[0])
    inherited = {name: first[name] for name in ("train_csv", "validation_csv", "test_csv") if name in first}
    for name in PREDICTIONS.values():  # of other members: gone before anything says that these are there
        (folder / name).unlink(missing_ok=True)
    write_json(folder / CONFIG, {"members": _names(members), "mean_of": "probabilities", **inherited})
    for split, predictions in averaged.items():
        write_predictions(folder / PREDICTIONS[split], predictions)
    return Ensemble(folder, tuple(members), tuple(splits))


def _need_free(folder: Path, members: Sequence[Path], *, force: bool) -> None:
    if folder.parent.exists() and not folder.parent.is_dir():
        raise DataError(f"{folder.parent}: cannot be written: it is no folder.")
    there = read_config(folder)
    if not there:
        return
    if "members" not in there:
        raise DataError(f"{folder}: holds a run, not an ensemble; give this one another --name.")
    if there["members"] != _names(members) and not force:
        raise DataError(
            f"{folder}: holds an ensemble of {len(there['members'])} other members; --force replaces it, --name "
            "writes beside it."
        )


def _names(members: Sequence[Path]) -> list[str]:
    return sorted(str(member) for member in members)
