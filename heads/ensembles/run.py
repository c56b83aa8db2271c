"""An ensemble as a run folder: its members, their weights, corrections of the mean, and the gain over the members."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from features.annotations import NUM_CLASSES, Annotations, Segments
from features.errors import DataError, OptionError
from features.files import write_json
from features.predictions import Predictions, write_predictions
from heads.ensembles.blend import LikelihoodCollector, Weights
from heads.ensembles.fitting import ALL, NONE, Fitted, cross_fitted, unfitted
from heads.ensembles.members import MemberPredictions, inherited_record, need_members, read_members
from heads.ensembles.posthoc import Correction, prior_of
from heads.ensembles.settings import EVENLY, EnsembleConfig
from heads.ensembles.survey import Classes, Gain, Scores, gain
from heads.locks import locked
from heads.runs import CONFIG, PREDICTIONS, read_record
from heads.scoring.evaluation import ScoreRow, covered_by, labelled_validation, score_as_one
from heads.scoring.metrics import compare

# The scores that show whether to apply corrections.
CORRECTED = ("action@1", "action@5", "action calibration")


@dataclass(frozen=True, eq=False)
class Ensemble:
    """An ensemble that was written.

    Attributes:
        folder, members: where it is, and its members.
        splits: the splits that all members predict.
        is_fitted: whether it was fitted to validation; its predictions for validation are then cross-fitted.
        weights, correction: task -> (M,), and the correction of the mean; as fitted to all of validation.
        gains: baseline -> by how many points of action@1 the ensemble is above it; empty without validation.
        corrections: name of a fitted correction -> score -> how many points it alone changes.
        disagreement: task -> percent of segments for which two members predict other classes, a mean over all pairs.
        scores: of each member on validation, then of the ensemble; empty without validation.
    """

    folder: Path
    members: tuple[Path, ...]
    splits: tuple[str, ...]
    is_fitted: bool
    weights: Weights
    correction: Correction
    gains: dict[str, Gain]
    corrections: dict[str, dict[str, Gain]]
    disagreement: dict[str, float]
    scores: tuple[ScoreRow, ...]


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
        annotations: to fit to and to score against; None where there is no validation.
        force: replace an ensemble of other members.

    Raises:
        OptionError: a member is given twice, or the number of weights is not that of the members.
        DataError: a member has no predictions, members do not cover the same segments, or `folder` holds something
            else or is in use by another process.
    """
    need_members(members)
    if not isinstance(settings.weights, str) and len(settings.weights) != len(members):
        raise OptionError("--weights", f"{len(settings.weights)} numbers for {len(members)} members.")
    with locked(folder):
        _need_free(folder, members, settings, force=force)
        predicted = read_members(members, tta=settings.tta)
        classes = Classes()
        watched = next(iter(predicted))
        fitted, validated, averaged = unfitted(settings, len(members)), None, {}
        if annotations is not None and annotations.validation is not None and "validation" in predicted:
            validated = _validate(members, predicted.pop("validation"), classes, annotations, settings, folder)
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
            scores = (*validated.members, score_as_one(folder.name, [folder], annotations))
        return Ensemble(
            folder=folder,
            members=tuple(members),
            splits=tuple(averaged),
            is_fitted=settings.is_fitted,
            weights=fitted.weights,
            correction=fitted.corrections[ALL],
            gains=validated.gains if validated else {},
            corrections=validated.corrections if validated else {},
            disagreement=classes.disagreement(),
            scores=scores,
        )


# ---- validation: cross-fitted predictions and the gains they show


@dataclass(frozen=True, eq=False)
class _Validated:
    """An ensemble on validation: as fitted to all of it, its cross-fitted predictions, their gains, its members."""

    fitted: Fitted
    predictions: Predictions
    gains: dict[str, Gain]
    corrections: dict[str, dict[str, Gain]]
    members: tuple[ScoreRow, ...]


def _validate(
    paths: Sequence[Path],
    members: MemberPredictions,
    classes: Classes,
    annotations: Annotations,
    settings: EnsembleConfig,
    folder: Path,
) -> _Validated:
    """Fit an ensemble to validation, predict validation cross-fitted, and compute the gains.

    Where nothing is fitted, the members are gone through once, else twice: to score them and to collect what weights
    are fitted to, and to average them.
    """
    segments = covered_by(members.first, labelled_validation(annotations))
    members = members.aligned(segments.narration_id)
    truth = {"verb": segments.verb_class, "noun": segments.noun_class}
    prior = prior_of(_training(annotations, folder)) if settings.corrections else None
    collector = LikelihoodCollector(truth, settings.kind) if settings.has_fitted_weights else None
    scores = Scores(paths, annotations, tta=settings.tta, likelihoods=collector)
    watched = scores.watch(classes.watch(members))
    if settings.is_fitted:
        collections.deque(watched, maxlen=0)
        likelihoods = collector.likelihoods() if collector else None
        fitted, predicted = cross_fitted(
            members, len(paths), likelihoods, truth, scores.video, settings=settings, prior=prior, source=str(folder)
        )
    else:
        fitted = unfitted(settings, len(paths))
        predicted = {ALL: fitted.predict(watched)}
    scored = {name: compare(predictions, segments) for name, predictions in predicted.items()}
    corrections = {
        name: {figure: gain(scored[name], scored[NONE], figure) for figure in CORRECTED}
        for name in settings.corrections
    }
    return _Validated(fitted, predicted[ALL], scores.gains(scored[ALL]), corrections, tuple(scores.rows))


def _training(annotations: Annotations, folder: Path) -> Segments:
    if annotations.train is None:
        raise DataError(f"{folder}: corrections need the training list; give --annotations, the folder of all lists.")
    return annotations.train


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
    if stored.ensemble not in (None, settings.as_json()):
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
