"""An ensemble as a run folder: which members, with which weights, corrected how, and what it gains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from features.annotations import Annotations, Segments
from features.errors import DataError, OptionError, first_few
from features.files import write_json
from features.predictions import Predictions, write_predictions
from heads.ensembles.blend import KINDS, Weights, blend, cross_fitted, disagreement, fit, greedy, uniform
from heads.ensembles.posthoc import Correction, Prior, fit_correction, prior_of
from heads.runs import CONFIG, PREDICTIONS, TTA_PREDICTIONS, predictions_of, read_config
from heads.scoring.evaluation import ScoreRow, covered_by, score_as_one
from heads.scoring.metrics import Results, compare, draw_videos, figures, interval

_TASKS = ("verb", "noun")
# What may be done to a mean (heads/ensembles/posthoc.py), and the figures that say whether it should be.
CORRECTIONS = ("temperature", "adjust", "pairs")
CORRECTED = ("action@1", "action@5", "action calibration")
_ALL, _NONE = "all", "none"


@dataclass(frozen=True)
class EnsembleConfig:
    """How members are put together.

    Attributes:
        kind: what is averaged, one of KINDS.
        weights: "uniform", "fitted", "greedy", or one number a member, in their order.
        per_task: fitted weights of verbs and of nouns apart.
        temperature, adjust, pairs: corrections to fit afterwards, as in heads/ensembles/posthoc.py.
        tta: of runs, take the predictions that are averaged over views.
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
        """Whether labelled segments decide anything."""
        return self.weights in ("fitted", "greedy") or self.is_corrected

    @property
    def is_corrected(self) -> bool:
        """Whether anything is done to the mean."""
        return self.temperature or self.adjust or self.pairs


# An estimate with its interval: percentage points, low, high.
Gain = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """What was written.

    Attributes:
        folder, members: of the ensemble.
        splits: those that all members predict.
        is_fitted: whether validation decided anything, and is cross-fitted.
        weights, correction: task -> (M,), and what is done to the mean; as fitted to all of validation.
        gains: what it is held against -> points of action@1 that the ensemble has more; empty without validation.
        corrections: name of a correction that was asked for -> figure -> what it alone changes, in points.
        disagreement: task -> percent of segments about which two members differ, over all pairs of them.
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
    """Put together what runs predict and write the result as a run folder of its own.

    Where anything is fitted, it is fitted to validation: its predictions for validation are cross-fitted over videos,
    so that scores of them are honest, and those for other splits use what all of validation says.

    Args:
        members: run folders or predictions files (for validation); what all of them predict is put together.
        annotations: to fit to and to score against; None where there is no validation.
        force: replace an ensemble of other members.

    Raises:
        OptionError: a member is given twice, or weights are not as many as members.
        DataError: a member has no predictions, members do not cover the same segments, or `folder` holds something
            else.
    """
    _need_members(members, settings)
    _need_free(folder, members, settings, force=force)
    found = {
        split: _read(members, split, tta=settings.tta)
        for split in PREDICTIONS
        if all(_predicts(one, split, tta=settings.tta) for one in members)
    }
    if not found:
        remedy = "heads predict RUN --tta writes them." if settings.tta else "are the runs finished?"
        raise DataError(f"{members[0]}: no predictions that all {len(members)} members have; {remedy}")
    labelled = annotations is not None and annotations.validation is not None and "validation" in found
    if settings.is_fitted and not labelled:
        raise DataError(f"{folder}: there is nothing to fit to: all members must predict a labelled validation list.")
    source = str(folder)
    if not labelled:
        fitted = _Fitted(settings, _given_weights(settings, len(members)), {_ALL: Correction()}, None)
        gains, corrections, cross = {}, {}, {}
    else:
        segments = covered_by(found["validation"][0], annotations.validation)
        found["validation"] = [one.aligned(segments.narration_id) for one in found["validation"]]
        truth = {task: getattr(segments, f"{task}_class") for task in _TASKS}
        prior = prior_of(_training(annotations, folder)) if settings.is_corrected else None

        def fit_to(chosen: Sequence[Predictions], labels: dict[str, np.ndarray]) -> _Fitted:
            return _fit(settings, chosen, labels, prior)

        fitted = fit_to(found["validation"], truth)
        results = [compare(one, segments) for one in found["validation"]]
        cross = fitted(found["validation"])
        if settings.is_fitted:
            cross = cross_fitted(found["validation"], truth, results[0].video, fit_to, source=source)
        scored = {name: compare(one, segments) for name, one in cross.items()}
        gains = _gains(scored[_ALL], results)
        corrections = {
            name: {figure: _gain(scored[name], [scored[_NONE]], figure) for figure in CORRECTED}
            for name in CORRECTIONS
            if getattr(settings, name)
        }
    written = {split: cross[_ALL] if split == "validation" and cross else fitted(found[split])[_ALL] for split in found}
    _write(folder, members, settings, fitted, written)
    scores = _scores(members, folder, annotations, tta=settings.tta) if labelled else ()
    return Ensemble(
        folder,
        tuple(members),
        tuple(found),
        settings.is_fitted,
        fitted.weights,
        fitted.corrections[_ALL],
        gains,
        corrections,
        disagreement(next(iter(found.values()))) if len(members) > 1 else {},
        scores,
    )


def _scores(members: Sequence[Path], folder: Path, annotations: Annotations, *, tta: bool) -> tuple[ScoreRow, ...]:
    """Return the scores of each member on validation, then those of the ensemble."""
    rows = [
        score_as_one(member.name if member.is_dir() else str(member), [member], annotations, tta=tta)
        for member in members
    ]
    return (*rows, score_as_one(folder.name, [folder], annotations))


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Weights and corrections of a recipe. Gives predictions by name: all that was asked for, each alone, none."""

    settings: EnsembleConfig
    weights: Weights
    corrections: dict[str, Correction]
    prior: Prior | None

    def __call__(self, members: Sequence[Predictions]) -> dict[str, Predictions]:
        mean = blend(members, self.weights, self.settings.kind, source="the ensemble")
        return {
            name: mean if correction == Correction() else correction.apply(mean, self.prior, source=mean.source)
            for name, correction in self.corrections.items()
        }


def _fit(
    settings: EnsembleConfig, members: Sequence[Predictions], truth: dict[str, np.ndarray], prior: Prior | None
) -> _Fitted:
    """Fit what a recipe leaves open: all corrections that it asks for together, and each alone."""
    if settings.weights == "fitted":
        weights = fit(members, truth, settings.kind, per_task=settings.per_task)
    elif settings.weights == "greedy":
        weights = greedy(members, truth, per_task=settings.per_task)
    else:
        weights = _given_weights(settings, len(members))
    asked = [name for name in CORRECTIONS if getattr(settings, name)]
    corrections = {_ALL: Correction()}
    if asked:
        mean = blend(members, weights, settings.kind, source="the ensemble")
        alone = {name: fit_correction(mean, truth, prior, **{name: True}) for name in asked}
        together = fit_correction(mean, truth, prior, **dict.fromkeys(asked, True))
        corrections = {_ALL: together, _NONE: Correction(), **alone}
    return _Fitted(settings, weights, corrections, prior)


def _given_weights(settings: EnsembleConfig, num_members: int) -> Weights:
    if isinstance(settings.weights, str):
        return uniform(num_members)
    return dict.fromkeys(_TASKS, np.array(settings.weights) / sum(settings.weights))


def _training(annotations: Annotations, folder: Path) -> Segments:
    if annotations.train is None:
        raise DataError(f"{folder}: corrections need the training list; give --annotations, the folder of all lists.")
    return annotations.train


def _need_members(members: Sequence[Path], settings: EnsembleConfig) -> None:
    if not members:
        raise OptionError(None, "an ensemble needs members.")
    absent = [str(member) for member in members if not member.exists()]
    if absent:
        raise DataError(f"{first_few(absent)}: no such run or file.")
    times = Counter(member.resolve() for member in members)
    twice = dict.fromkeys(str(member) for member in members if times[member.resolve()] > 1)
    if twice:
        raise OptionError(None, f"{first_few(twice)}: given twice; each member counts once.")
    if not isinstance(settings.weights, str) and len(settings.weights) != len(members):
        raise OptionError("--weights", f"{len(settings.weights)} numbers for {len(members)} members.")


def _predicts(member: Path, split: str, *, tta: bool) -> bool:
    names = TTA_PREDICTIONS if tta else PREDICTIONS
    return (member / names[split]).is_file() if member.is_dir() else split == "validation"


def _read(members: Sequence[Path], split: str, *, tta: bool) -> list[Predictions]:
    """Read what members predict, in the order of the first.

    Raises:
        DataError: one lacks a segment that another has.
    """
    found = [predictions_of(member, split, tta=tta) for member in members]
    for other in found[1:]:
        found[0].aligned(other.narration_id)
    return [found[0], *[other.aligned(found[0].narration_id) for other in found[1:]]]


def _gains(ensemble: Results, members: list[Results]) -> dict[str, Gain]:
    """Give what the ensemble is above the mean of its members, and above the best of them, with 95 % intervals.

    The best member is chosen by the same segments, which favours it.
    """
    best = max(members, key=lambda one: figures(one, only=["action@1"])["action@1"][0])
    return {
        "the mean of its members": _gain(ensemble, members, "action@1"),
        "the best of them": _gain(ensemble, [best], "action@1"),
    }


def _gain(ensemble: Results, others: list[Results], figure: str) -> Gain:
    """Give by how many points one is above the mean of others, and where 95 % of a paired bootstrap over videos lie."""

    def above(weights: np.ndarray | None) -> np.ndarray:
        one, *rest = [figures(each, weights, only=[figure])[figure] for each in (ensemble, *others)]
        return one - np.mean(rest, axis=0)

    return (float(above(None)[0]), *interval(above(draw_videos(ensemble))))


def _write(
    folder: Path, members: Sequence[Path], settings: EnsembleConfig, fitted: _Fitted, written: dict[str, Predictions]
) -> None:
    configs = [read_config(member) for member in members]
    inherited = {
        name: next((config[name] for config in configs if name in config), None)
        for name in ("train_csv", "validation_csv", "test_csv", "split")
    }
    if any(config.get("split") == "all" for config in configs):  # one that has seen validation is enough
        inherited["split"] = "all"
    # What all of them were made of: the pretraining of each backbone counts when it is submitted.
    inherited["features"] = list(dict.fromkeys(root for config in configs for root in config.get("features", ())))
    for name in PREDICTIONS.values():  # of other members: gone before anything says that these are there
        (folder / name).unlink(missing_ok=True)
    weights = {task: [round(float(one), 6) for one in fitted.weights[task]] for task in _TASKS}
    record = {"members": _names(members), "recipe": _as_json(settings), "weights": weights}
    known = {name: value for name, value in inherited.items() if value}
    write_json(folder / CONFIG, {**record, "correction": asdict(fitted.corrections[_ALL]), **known})
    for split, predictions in written.items():
        write_predictions(folder / PREDICTIONS[split], predictions)


def _need_free(folder: Path, members: Sequence[Path], settings: EnsembleConfig, *, force: bool) -> None:
    if folder.parent.exists() and not folder.parent.is_dir():
        raise DataError(f"{folder.parent}: cannot be written: it is no folder.")
    there = read_config(folder)
    if not there:
        return
    if "members" not in there:
        raise DataError(f"{folder}: holds a run, not an ensemble; give this one another --name.")
    if force:
        return
    remedy = "--force replaces it, --name writes beside it."
    if sorted(there["members"]) != sorted(_names(members)):
        raise DataError(f"{folder}: holds an ensemble of {len(there['members'])} other members; {remedy}")
    if there.get("recipe") not in (None, _as_json(settings)):
        raise DataError(f"{folder}: holds an ensemble of these members, put together otherwise; {remedy}")


def _as_json(settings: EnsembleConfig) -> dict[str, object]:
    record = asdict(settings)
    return {**record, "weights": record["weights"] if isinstance(record["weights"], str) else [*record["weights"]]}


def _names(members: Sequence[Path]) -> list[str]:
    return [str(member) for member in members]
