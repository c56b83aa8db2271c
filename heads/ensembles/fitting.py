"""Weights and corrections of an ensemble, fitted to labelled segments and cross-fitted over videos. Reads no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from features.annotations import NUM_CLASSES
from features.predictions import Predictions, concatenate
from heads.ensembles.blend import (
    Likelihoods,
    Part,
    Weights,
    blend,
    blends,
    fit,
    folds_of_videos,
    greedy,
    uniform,
)
from heads.ensembles.posthoc import Correction, CorrectionFitter, Prior
from heads.ensembles.settings import EnsembleConfig

# Names of what a fitted ensemble predicts: with all corrections, without any; those with one have its name.
ALL, NONE = "all", "none"
_SOURCE = "the ensemble"


@dataclass(frozen=True, eq=False)
class Fitted:
    """Weights, and corrections of the mean by name: all of them together, and where some are fitted, none and each."""

    settings: EnsembleConfig
    weights: Weights
    corrections: Mapping[str, Correction]
    prior: Prior | None = None

    def predict(self, members: Iterable[Predictions]) -> Predictions:
        """Return the corrected mean of members."""
        mean = blend(members, self.weights, self.settings.kind, source=_SOURCE)
        return _corrected(mean, self.corrections[ALL], self.prior)


def unfitted(settings: EnsembleConfig, num_members: int) -> Fitted:
    """Return an ensemble whose weights are given or all the same, without corrections."""
    return Fitted(settings, _given_weights(settings, num_members), {ALL: Correction()})


def cross_fitted(
    members: Iterable[Predictions],
    num_members: int,
    likelihoods: Likelihoods | None,
    truth: Mapping[str, np.ndarray],
    video: np.ndarray,
    *,
    settings: EnsembleConfig,
    prior: Prior | None,
    source: str,
) -> tuple[Fitted, dict[str, Predictions]]:
    """Fit an ensemble to labelled segments, and predict each fold of their videos by what the other folds say.

    So the predictions show honest gains. The members are gone through once.

    Args:
        members: predictions for N labelled segments.
        likelihoods: of the labels, where weights are fitted.
        truth: task -> (N,) labels.
        video: (N,) int64, index of the video of each segment.
        prior: of the training list, where corrections are fitted.

    Returns:
        The ensemble as fitted to all segments, and name -> cross-fitted predictions.

    Raises:
        DataError: all segments are of one video.
    """
    folds = folds_of_videos(video, source=source)
    if likelihoods is None:
        weights, by_fold = _given_weights(settings, num_members), []
    else:
        weights = _fitted_weights(settings, likelihoods)
        by_fold = [_fitted_weights(settings, likelihoods.rows(~fold)) for fold in folds]
    if prior is None:
        parts = [Part(*pair) for pair in zip(by_fold, folds, strict=True)]
        means = blends(members, parts, settings.kind, source=_SOURCE)
        return Fitted(settings, weights, {ALL: Correction()}), {ALL: _in_order(means, folds, source)}
    # Corrections of a fold are fitted to the means of the other folds, by the same weights.
    mean, *means = blends(members, [Part(weights), *map(Part, by_fold)], settings.kind, source=_SOURCE)
    fitter = CorrectionFitter(mean, truth, prior)
    corrections = _fit_corrections(settings, fitter)
    pieces: dict[str, list[Predictions]] = {name: [] for name in corrections}
    for number, fold in enumerate(folds):
        fold_mean = means[number] if means else mean
        fold_fitter = CorrectionFitter(fold_mean, truth, prior) if means else fitter
        for name, correction in _fit_corrections(settings, fold_fitter, ~fold).items():
            # Of the others, only how much a correction changes is wanted, and scores of actions are large.
            corrected = _corrected(fold_mean.rows(fold), correction, prior)
            pieces[name].append(corrected if name == ALL else corrected.without_actions())
    fitted = Fitted(settings, weights, corrections, prior)
    return fitted, {name: _in_order(parts, folds, source) for name, parts in pieces.items()}


def _in_order(parts: list[Predictions], folds: list[np.ndarray], source: str) -> Predictions:
    """Return the predictions of all folds as one, in the order of the segments."""
    order = np.argsort(np.concatenate([np.flatnonzero(fold) for fold in folds]))
    predictions = concatenate(parts, source)
    return predictions.aligned([predictions.narration_id[row] for row in order])


def _fitted_weights(settings: EnsembleConfig, likelihoods: Likelihoods) -> Weights:
    fit_to = greedy if settings.weights == "greedy" else fit
    return fit_to(likelihoods, per_task=settings.per_task)


def _given_weights(settings: EnsembleConfig, num_members: int) -> Weights:
    if isinstance(settings.weights, str):
        return uniform(num_members)
    return dict.fromkeys(NUM_CLASSES, np.array(settings.weights) / sum(settings.weights))


def _fit_corrections(
    settings: EnsembleConfig, fitter: CorrectionFitter, rows: np.ndarray | None = None
) -> dict[str, Correction]:
    """Fit all corrections together, and each alone, to some of the segments."""
    names = settings.corrections
    alone = {name: fitter.fit(rows, **{name: True}) for name in names}
    return {ALL: fitter.fit(rows, **dict.fromkeys(names, True)), NONE: Correction(), **alone}


def _corrected(mean: Predictions, correction: Correction, prior: Prior | None) -> Predictions:
    if prior is None or correction == Correction():
        return mean
    return correction.apply(mean, prior, source=mean.source)
