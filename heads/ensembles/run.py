"""An ensemble as a run folder: its members, their weights, corrections of the mean, and the gain over the members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.annotations import NUM_CLASSES, Annotations, Segments
from features.errors import DataError, OptionError
from features.files import write_json
from features.predictions import Predictions, write_predictions
from heads.ensembles.blend import KINDS, Weights, blend, cross_fitted, disagreement, fit, greedy, uniform
from heads.ensembles.members import inherited_record, need_members, read_members
from heads.ensembles.posthoc import Correction, Prior, fit_correction, prior_of
from heads.locks import locked
from heads.runs import CONFIG, PREDICTIONS, read_record
from heads.scoring.evaluation import ScoreRow, covered_by, score_as_one
from heads.scoring.metrics import Results, compare, draw_videos, figures, interval

# The corrections of a mean (heads/ensembles/posthoc.py), and the scores that show whether to apply them.
CORRECTIONS = ("temperature", "adjust", "pairs")
CORRECTED = ("action@1", "action@5", "action calibration")
# Names of what a fitted ensemble predicts: with all corrections, without any; those with one have its name.
_ALL, _NONE = "all", "none"


@dataclass(frozen=True)
class EnsembleConfig:
    """How members are averaged.

    Attributes:
        kind: what is averaged, one of KINDS.
        weights: "uniform", "fitted", "greedy", or one number per member, in their order.
        per_task: fit weights for verbs and other ones for nouns.
        temperature, adjust, pairs: corrections to fit afterwards, as in heads/ensembles/posthoc.py.
        tta: average the runs' predictions with test-time augmentation.
    """

    kind: str = "probabilities"
    weights: str | tuple[float, ...] = "uniform"
    per_task: bool = False
    temperature: bool = False
    adjust: bool = False
    pairs: bool = False
    tta: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError("--mean", f"{self.kind!r} is none of {', '.join(KINDS)}.")
        if isinstance(self.weights, str) and self.weights not in ("uniform", "fitted", "greedy"):
            raise OptionError("--weights", f"{self.weights!r} is none of uniform, fitted, greedy, nor numbers.")
        if not isinstance(self.weights, str) and (min(self.weights) < 0 or not 0 < sum(self.weights) < np.inf):
            raise OptionError("--weights", "weights are not below 0, and not all 0.")
        if self.weights == "greedy" and self.kind != "probabilities":
            raise OptionError("--weights", "greedy chooses members for the mean of probabilities; leave out --mean.")
        if self.per_task and self.weights not in ("fitted", "greedy"):
            raise OptionError("--per-task", "is for --weights fitted or greedy.")

    @property
    def is_fitted(self) -> bool:
        """Whether weights or corrections are fitted to labelled segments."""
        return self.weights in ("fitted", "greedy") or bool(self.corrections)

    @property
    def corrections(self) -> tuple[str, ...]:
        """The corrections that are fitted to the mean, of CORRECTIONS."""
        return tuple(name for name in CORRECTIONS if getattr(self, name))

    def as_json(self) -> dict[str, object]:
        """Return the settings as plain JSON values."""
        return {**asdict(self), "weights": self.weights if isinstance(self.weights, str) else list(self.weights)}


# An estimate with its interval: percentage points, low, high.
Gain = tuple[float, float, float]


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
    settings: EnsembleConfig = EnsembleConfig(),
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
        validated = None
        if annotations is not None and annotations.validation is not None and "validation" in predicted:
            validated = _validate(predicted["validation"], annotations, settings, folder)
            fitted = validated.fitted
        elif settings.is_fitted:
            raise DataError(
                f"{folder}: there is nothing to fit to: all members must predict a labelled validation list."
            )
        else:
            fitted = _Fitted(settings, _given_weights(settings, len(members)), {_ALL: Correction()}, None)
        averaged = {
            split: validated.predictions if validated and split == "validation" else fitted(predicted[split])[_ALL]
            for split in predicted
        }
        _write(folder, members, fitted, averaged)
        return Ensemble(
            folder=folder,
            members=tuple(members),
            splits=tuple(predicted),
            is_fitted=settings.is_fitted,
            weights=fitted.weights,
            correction=fitted.corrections[_ALL],
            gains=validated.gains if validated else {},
            corrections=validated.corrections if validated else {},
            disagreement=disagreement(next(iter(predicted.values()))) if len(members) > 1 else {},
            scores=_scores(members, folder, annotations, tta=settings.tta) if validated and annotations else (),
        )


# ---- fitting


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Fitted weights and corrections. Called with members, it returns name -> predictions.

    Names are those of `corrections`: with all corrections, with each alone, and without any.
    """

    settings: EnsembleConfig
    weights: Weights
    corrections: dict[str, Correction]
    prior: Prior | None

    def __call__(self, members: Sequence[Predictions]) -> dict[str, Predictions]:
        mean = blend(members, self.weights, self.settings.kind, source="the ensemble")
        if self.prior is None:
            return dict.fromkeys(self.corrections, mean)
        return {
            name: mean if correction == Correction() else correction.apply(mean, self.prior, source=mean.source)
            for name, correction in self.corrections.items()
        }


def _fit(
    settings: EnsembleConfig, members: Sequence[Predictions], truth: dict[str, np.ndarray], prior: Prior | None
) -> _Fitted:
    """Fit the weights, then all corrections together and each alone, to labelled segments."""
    if settings.weights == "fitted":
        weights = fit(members, truth, settings.kind, per_task=settings.per_task)
    elif settings.weights == "greedy":
        weights = greedy(members, truth, per_task=settings.per_task)
    else:
        weights = _given_weights(settings, len(members))
    corrections = {_ALL: Correction()}
    if prior is not None:
        names = settings.corrections
        mean = blend(members, weights, settings.kind, source="the ensemble")
        alone = {name: fit_correction(mean, truth, prior, **{name: True}) for name in names}
        together = fit_correction(mean, truth, prior, **dict.fromkeys(names, True))
        corrections = {_ALL: together, _NONE: Correction(), **alone}
    return _Fitted(settings, weights, corrections, prior)


def _given_weights(settings: EnsembleConfig, num_members: int) -> Weights:
    if isinstance(settings.weights, str):
        return uniform(num_members)
    return dict.fromkeys(NUM_CLASSES, np.array(settings.weights) / sum(settings.weights))


def _training(annotations: Annotations, folder: Path) -> Segments:
    if annotations.train is None:
        raise DataError(f"{folder}: corrections need the training list; give --annotations, the folder of all lists.")
    return annotations.train


# ---- validation: cross-fitted predictions and the gains they show


@dataclass(frozen=True, eq=False)
class _Validated:
    """An ensemble on validation: as fitted to all of it, its cross-fitted predictions, and their gains."""

    fitted: _Fitted
    predictions: Predictions
    gains: dict[str, Gain]
    corrections: dict[str, dict[str, Gain]]


def _validate(
    members: Sequence[Predictions], annotations: Annotations, settings: EnsembleConfig, folder: Path
) -> _Validated:
    """Fit an ensemble to validation, predict validation cross-fitted, and compute the gains."""
    if annotations.validation is None:
        raise DataError(f"{folder}: no validation list to score against.")
    segments = covered_by(members[0], annotations.validation)
    members = [member.aligned(segments.narration_id) for member in members]
    truth = {"verb": segments.verb_class, "noun": segments.noun_class}
    prior = prior_of(_training(annotations, folder)) if settings.corrections else None

    def fit_to(chosen: Sequence[Predictions], labels: dict[str, np.ndarray]) -> _Fitted:
        return _fit(settings, chosen, labels, prior)

    fitted = fit_to(members, truth)
    results = [compare(member, segments) for member in members]
    if settings.is_fitted:
        predicted = cross_fitted(members, truth, results[0].video, fit_to, source=str(folder))
    else:
        predicted = fitted(members)
    scored = {name: compare(predictions, segments) for name, predictions in predicted.items()}
    corrections = {
        name: {figure: _gain(scored[name], [scored[_NONE]], figure) for figure in CORRECTED}
        for name in settings.corrections
    }
    return _Validated(fitted, predicted[_ALL], _gains(scored[_ALL], results), corrections)


def _gains(ensemble: Results, members: list[Results]) -> dict[str, Gain]:
    """Return by how much the ensemble is above the mean of its members, and above the best member.

    The best member is chosen by the same segments, which favours it.
    """
    best = max(members, key=lambda member: figures(member, only=["action@1"])["action@1"][0])
    return {
        "the mean of its members": _gain(ensemble, members, "action@1"),
        "the best of them": _gain(ensemble, [best], "action@1"),
    }


def _gain(ensemble: Results, others: list[Results], figure: str) -> Gain:
    """Return by how many points results are above the mean of others, and the 95 % interval.

    The interval is that of a paired bootstrap over videos.
    """

    def gain(weights: np.ndarray | None) -> np.ndarray:
        own, *rest = [figures(results, weights, only=[figure])[figure] for results in (ensemble, *others)]
        return own - np.mean(rest, axis=0)

    return (float(gain(None)[0]), *interval(gain(draw_videos(ensemble))))


def _scores(members: Sequence[Path], folder: Path, annotations: Annotations, *, tta: bool) -> tuple[ScoreRow, ...]:
    """Return the scores of each member on validation, then those of the ensemble."""
    rows = [
        score_as_one(member.name if member.is_dir() else str(member), [member], annotations, tta=tta)
        for member in members
    ]
    return (*rows, score_as_one(folder.name, [folder], annotations))


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


def _write(folder: Path, members: Sequence[Path], fitted: _Fitted, averaged: Mapping[str, Predictions]) -> None:
    for name in PREDICTIONS.values():  # predictions of other members go before the record names the new ones
        (folder / name).unlink(missing_ok=True)
    record: dict[str, Any] = {
        "members": [str(member) for member in members],
        "recipe": fitted.settings.as_json(),
        "weights": {task: [round(float(weight), 6) for weight in fitted.weights[task]] for task in NUM_CLASSES},
        "correction": asdict(fitted.corrections[_ALL]),
        **inherited_record(members),
    }
    write_json(folder / CONFIG, record)
    for split, predictions in averaged.items():
        write_predictions(folder / PREDICTIONS[split], predictions)
