"""An ensemble on validation: fitted to it, predicted cross-fitted, and compared with its members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from features.annotations import Annotations
from features.errors import DataError
from features.predictions import Predictions
from heads.ensembles.blend import LikelihoodCollector
from heads.ensembles.fitting import ALL, NONE, Fitted, cross_fitted, unfitted
from heads.ensembles.members import MemberPredictions
from heads.ensembles.posthoc import Prior, prior_of
from heads.ensembles.settings import EnsembleConfig
from heads.ensembles.survey import Classes, Gain, Scores, gain
from heads.scoring.evaluation import ScoreRow, covered_by, labelled_validation
from heads.scoring.folds import Member
from heads.scoring.metrics import compare

# The scores that show whether to apply corrections.
CORRECTED = ("action@1", "action@5", "action calibration")


@dataclass(frozen=True, eq=False)
class Validated:
    """An ensemble on validation: as fitted to all of it, its cross-fitted predictions, their gains, its members.

    Attributes:
        gains: baseline -> by how many points of action@1 the ensemble is above it.
        corrections: name of a fitted correction -> score -> how many points it alone changes.
        members: the scores of each member.
    """

    fitted: Fitted
    predictions: Predictions
    gains: dict[str, Gain]
    corrections: dict[str, dict[str, Gain]]
    members: tuple[ScoreRow, ...]


def validate(
    members: Mapping[str, Member],
    predicted: MemberPredictions,
    classes: Classes,
    annotations: Annotations,
    *,
    settings: EnsembleConfig,
    source: str,
) -> Validated:
    """Fit an ensemble to validation, predict validation cross-fitted, and compute the gains.

    Where nothing is fitted, the members are gone through once, else twice: to score them and to collect what weights
    are fitted to, and to average them.

    Args:
        members: name -> member.
        predicted: their predictions for validation.
        classes: sees the predictions of each member once.
        source: where the ensemble is, for errors.

    Raises:
        DataError: a member lacks a segment that another one has, or there is too little to fit to.
    """
    segments = covered_by(predicted.first, labelled_validation(annotations))
    predicted = predicted.aligned(segments.narration_id)
    scores = Scores(members, annotations, tta=settings.tta)
    watched = scores.watch(classes.watch(predicted))
    if settings.is_fitted:
        truth = {"verb": segments.verb_class, "noun": segments.noun_class}
        prior = _prior(annotations, source) if settings.corrections else None
        collector = LikelihoodCollector(truth, settings.kind) if settings.has_fitted_weights else None
        for member in watched:
            if collector is not None:
                collector.add(member)
        fitted, means = cross_fitted(
            predicted,
            len(members),
            collector.likelihoods() if collector else None,
            truth,
            scores.video,
            settings=settings,
            prior=prior,
            source=source,
        )
    else:
        fitted = unfitted(settings, len(members))
        means = {ALL: fitted.predict(watched)}
    scored = {name: compare(mean, segments) for name, mean in means.items()}
    corrections = {
        name: {figure: gain(scored[name], scored[NONE], figure) for figure in CORRECTED}
        for name in settings.corrections
    }
    return Validated(fitted, means[ALL], scores.gains(scored[ALL]), corrections, tuple(scores.rows))


def _prior(annotations: Annotations, source: str) -> Prior:
    if annotations.train is None:
        raise DataError(f"{source}: corrections need the training list; give --annotations, the folder of all lists.")
    return prior_of(annotations.train, annotations.validation, annotations.test)
