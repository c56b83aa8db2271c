"""An ensemble as a run folder: its members, their weights, corrections of the mean, and the gain over the members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from features.annotations import NUM_CLASSES, Annotations
from features.console import short_names
from features.errors import DataError, OptionError, first_few
from features.files import write_json
from features.predictions import Predictions, write_predictions
from heads.ensembles.blend import Weights
from heads.ensembles.fitting import ALL, Fitted, unfitted
from heads.ensembles.members import different, inherited_record, need_members, need_one_list, read_members
from heads.ensembles.posthoc import Correction
from heads.ensembles.settings import EVENLY, EnsembleConfig
from heads.ensembles.survey import Classes, Gain
from heads.ensembles.validation import validate
from heads.locks import locked
from heads.prediction_files import parse_scores
from heads.runs import CONFIG, PREDICTIONS, read_record
from heads.scoring.evaluation import ScoreRow, score_alone
from heads.scoring.folds import Member, join_folds


@dataclass(frozen=True, eq=False)
class Ensemble:
    """An ensemble that was written.

    Attributes:
        folder, members: where it is, and the run folders and files of its members.
        names: of its members, M; the runs of all folds of a list are one member.
        copies: names of what was given and is left out, as a member has the same predictions.
        splits: the splits that all members predict.
        is_fitted: whether it was fitted to validation; its predictions for validation are then cross-fitted.
        weights, correction: task -> (M,), and the correction of the mean; as fitted to all of validation.
        gains: baseline -> by how many points of action@1 the ensemble is above it; empty without validation.
        corrections: name of a fitted correction -> score -> how many points it alone changes.
        disagreement: task -> percent of segments for which two members predict other classes, a mean over all pairs.
        scores: of each member on validation, then of the ensemble; empty without validation.
        num_with_actions: how many of the members have scores of actions; those of the ensemble are a mean over these.
    """

    folder: Path
    members: tuple[Path, ...]
    names: tuple[str, ...]
    copies: tuple[str, ...]
    splits: tuple[str, ...]
    is_fitted: bool
    weights: Weights
    correction: Correction
    gains: dict[str, Gain]
    corrections: dict[str, dict[str, Gain]]
    disagreement: dict[str, float]
    scores: tuple[ScoreRow, ...]
    num_with_actions: int = 0


def write_ensemble(
    members: Sequence[Path],
    folder: Path,
    *,
    settings: EnsembleConfig = EVENLY,
    annotations: Annotations | None = None,
    force: bool,
) -> Ensemble:
    """Average the predictions of members and write the result as a run folder.

    Fitted weights and corrections are estimated on validation. The predictions for validation are cross-fitted over
    videos, so that their scores are honest; those for other splits use the weights and corrections fitted to all of
    validation.

    Args:
        members: run folders or predictions files (for validation); every split that all of them predict is averaged.
            The runs of all folds of a list are one member.
        annotations: to fit to and to score against; None where there is no validation.
        force: replace an ensemble of other members.

    Raises:
        OptionError: a member is given twice, or the number of weights is not that of the members.
        DataError: a member has no predictions, members do not cover the same segments, or `folder` holds something
            else or is in use by another process.
    """
    need_members(members)
    kinds = parse_scores(settings.scores, members)
    members, copies = different(members)
    joined = join_folds(members, kinds)
    if not isinstance(settings.weights, str) and len(settings.weights) != len(joined):
        equal = f" ({first_few(copies)}: the same predictions as another member)" if copies else ""
        raise OptionError("--weights", f"{len(settings.weights)} numbers for {len(joined)} members{equal}.")
    *names, own_name = short_names(path.resolve() for path in [*(member.path for member in joined), folder])
    with locked(folder):
        _need_free(folder, members, settings, force=force)
        need_one_list(joined)
        predicted = read_members(joined, tta=settings.tta)
        watched, classes = next(iter(predicted)), Classes()
        fitted, validated, averaged = unfitted(settings, len(joined)), None, {}
        if annotations is not None and annotations.validation is not None and "validation" in predicted:
            named = dict(zip(names, joined, strict=True))
            validated = validate(
                named, predicted.pop("validation"), classes, annotations, settings=settings, source=str(folder)
            )
            fitted, averaged["validation"] = validated.fitted, validated.predictions
        elif settings.is_fitted:
            raise DataError(
                f"{folder}: there is nothing to fit to: all members must predict a labelled validation list."
            )
        for split, of_members in predicted.items():
            averaged[split] = fitted.predict(classes.watch(of_members) if split == watched else of_members)
        _write(folder, members, fitted, averaged)
        scores: tuple[ScoreRow, ...] = ()
        if validated is not None and annotations is not None:
            scores = (*validated.members, score_alone(own_name, Member((folder,)), annotations))
        return Ensemble(
            folder=folder,
            members=tuple(members),
            names=tuple(short_names(member.path.resolve() for member in joined)),
            copies=tuple(copies),
            splits=tuple(averaged),
            is_fitted=settings.is_fitted,
            weights=fitted.weights,
            correction=fitted.corrections[ALL],
            gains=validated.gains if validated else {},
            corrections=validated.corrections if validated else {},
            disagreement=classes.disagreement(),
            scores=scores,
            num_with_actions=classes.num_with_actions,
        )


# ---- the folder


def _need_free(folder: Path, members: Sequence[Path], settings: EnsembleConfig, *, force: bool) -> None:
    """Check that a folder is free, or holds the same ensemble, or one that may be replaced."""
    if folder.parent.exists() and not folder.parent.is_dir():
        raise DataError(f"{folder.parent}: cannot be written: it is no folder.")
    stored = read_record(folder)
    if not stored.values:
        return
    if stored.members is None:
        raise DataError(f"{folder}: holds a run, not an ensemble; give this one another --name.")
    if force:
        return
    remedy = "--force replaces it, --name writes beside it."
    if sorted(stored.members) != sorted(map(str, members)):
        raise DataError(f"{folder}: holds an ensemble of {len(stored.members)} other members; {remedy}")
    # Settings that came later are not in older records, and had their default.
    if stored.ensemble is not None and {**EVENLY.as_json(), **stored.ensemble} != settings.as_json():
        raise DataError(f"{folder}: holds an ensemble of these members with other settings; {remedy}")


def _write(folder: Path, members: Sequence[Path], fitted: Fitted, averaged: Mapping[str, Predictions]) -> None:
    for name in PREDICTIONS.values():  # predictions of other members go before the record names the new ones
        (folder / name).unlink(missing_ok=True)
    record: dict[str, Any] = {
        "members": [str(member) for member in members],
        "recipe": fitted.settings.as_json(),
        "weights": {task: [round(float(weight), 6) for weight in fitted.weights[task]] for task in NUM_CLASSES},
        "correction": asdict(fitted.corrections[ALL]),
        **inherited_record(members),
    }
    write_json(folder / CONFIG, record)
    for split, predictions in averaged.items():
        write_predictions(folder / PREDICTIONS[split], predictions)
