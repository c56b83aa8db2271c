"""An ensemble as a run folder: which members, with which weights, corrected how, and what it gains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from features.annotations import Annotations
from features.errors import DataError, OptionError, first_few
from features.files import write_json
from features.predictions import Predictions, write_predictions
from heads.blend import KINDS, Weights, blend, cross_fitted, disagreement, fit, greedy, uniform
from heads.evaluation import covered_by
from heads.metrics import Results, compare, draw_videos, figures, interval
from heads.posthoc import Correction, Prior, fit_correction, prior_of
from heads.runs import CONFIG, PREDICTIONS, predictions_of, read_config

_TASKS = ("verb", "noun")


@dataclass(frozen=True)
class Recipe:
    """How members are put together.

    Attributes:
        kind: what is averaged, one of KINDS.
        weights: "uniform", "fitted", "greedy", or one number a member, in their order.
        per_task: fitted weights of verbs and of nouns apart.
        temperature, adjust, pairs: corrections to fit afterwards, as in heads/posthoc.py.
    """

    kind: str = "probabilities"
    weights: str | tuple[float, ...] = "uniform"
    per_task: bool = False
    temperature: bool = False
    adjust: bool = False
    pairs: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError(f"--mean: {self.kind!r} is none of {', '.join(KINDS)}.")
        if isinstance(self.weights, str) and self.weights not in ("uniform", "fitted", "greedy"):
            raise OptionError(f"--weights: {self.weights!r} is none of uniform, fitted, greedy, nor numbers.")
        if not isinstance(self.weights, str) and (min(self.weights) < 0 or not 0 < sum(self.weights) < np.inf):
            raise OptionError("--weights: weights are not below 0, and not all 0.")
        if self.weights == "greedy" and self.kind != "probabilities":
            raise OptionError("--weights greedy: chooses members for the mean of probabilities; leave out --mean.")
        if self.per_task and self.weights not in ("fitted", "greedy"):
            raise OptionError("--per-task: is for --weights fitted or greedy.")

    @property
    def is_fitted(self) -> bool:
        """Whether labelled segments decide anything."""
        return self.weights in ("fitted", "greedy") or self.is_corrected

    @property
    def is_corrected(self) -> bool:
        """Whether anything is done to the mean."""
        return self.temperature or self.adjust or self.pairs


@dataclass(frozen=True, eq=False)
class Ensemble:
    """What was written.

    Attributes:
        folder, members: of the ensemble.
        splits: those that all members predict.
        weights: task -> (M,), as fitted to all of validation where they were fitted.
        gains: name -> (points of action@1, low, high), the ensemble over what is named; empty without validation.
        disagreement: task -> percent of segments about which two members differ, over all pairs of them.
    """

    folder: Path
    members: tuple[Path, ...]
    splits: tuple[str, ...]
    weights: Weights
    correction: Correction
    gains: dict[str, tuple[float, float, float]]
    disagreement: dict[str, float]


def write_ensemble(
    members: Sequence[Path],
    folder: Path,
    *,
    recipe: Recipe = Recipe(),
    annotations: Annotations | None,
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
    _need_members(members, recipe)
    _need_free(folder, members, force=force)
    found = {split: _read(members, split) for split in PREDICTIONS if all(_predicts(one, split) for one in members)}
    if not found:
        raise DataError(f"{members[0]}: no predictions that all {len(members)} members have; are the runs finished?")
    labelled = annotations is not None and annotations.validation is not None and "validation" in found
    if recipe.is_fitted and not labelled:
        raise DataError(f"{folder}: there is nothing to fit to: all members must predict a labelled validation list.")
    whole = _Fitted(recipe, len(members), None)
    written = dict.fromkeys(found)
    results: list[Results] = []
    if labelled:
        segments = covered_by(found["validation"][0], annotations.validation)
        found["validation"] = [one.aligned(segments.narration_id) for one in found["validation"]]
        truth = {task: getattr(segments, f"{task}_class") for task in _TASKS}
        whole = _Fitted(recipe, len(members), prior_of(annotations.train) if recipe.is_corrected else None)
        results = [compare(one, segments) for one in found["validation"]]
        if recipe.is_fitted:
            written["validation"] = cross_fitted(
                found["validation"], truth, results[0].video, whole.fit, source=str(folder)
            )
            whole.fit(found["validation"], truth)
    for split, predictions in found.items():
        written[split] = written[split] or whole.predict(predictions, source=str(folder))
    ensemble = compare(written["validation"], segments) if labelled else None
    _write(folder, members, recipe, whole, written)
    return Ensemble(
        folder,
        tuple(members),
        tuple(found),
        whole.weights,
        whole.correction,
        _gains(ensemble, results) if ensemble else {},
        disagreement(next(iter(found.values()))) if len(members) > 1 else {},
    )


class _Fitted:
    """Weights and correction of a recipe, as far as they are known."""

    def __init__(self, recipe: Recipe, num_members: int, prior: Prior | None) -> None:
        self._recipe, self._prior = recipe, prior
        self.correction = Correction()
        given = recipe.weights
        self.weights = uniform(num_members)
        if not isinstance(given, str):
            self.weights = dict.fromkeys(_TASKS, np.array(given) / sum(given))

    def fit(self, members: Sequence[Predictions], truth: dict[str, np.ndarray]) -> Callable[..., Predictions]:
        """Fit what the recipe leaves open; give what predicts with it."""
        recipe = self._recipe
        if recipe.weights == "fitted":
            self.weights = fit(members, truth, recipe.kind, per_task=recipe.per_task)
        if recipe.weights == "greedy":
            self.weights = greedy(members, truth, per_task=recipe.per_task)
        if recipe.is_corrected:
            mean = blend(members, self.weights, recipe.kind, source="")
            which = {name: getattr(recipe, name) for name in ("temperature", "adjust", "pairs")}
            self.correction = fit_correction(mean, truth, self._prior, **which)
        return self.predict

    def predict(self, members: Sequence[Predictions], *, source: str = "") -> Predictions:
        """Put members together."""
        mean = blend(members, self.weights, self._recipe.kind, source=source)
        return mean if self._prior is None else self.correction.apply(mean, self._prior, source=source)


def _need_members(members: Sequence[Path], recipe: Recipe) -> None:
    if not members:
        raise OptionError("an ensemble needs members.")
    absent = [str(member) for member in members if not member.exists()]
    if absent:
        raise DataError(f"{first_few(absent)}: no such run folder or predictions file.")
    twice = [str(name) for name, times in Counter(member.resolve() for member in members).items() if times > 1]
    if twice:
        raise OptionError(f"{first_few(twice)}: given twice; each member counts once.")
    if not isinstance(recipe.weights, str) and len(recipe.weights) != len(members):
        raise OptionError(f"--weights: {len(recipe.weights)} numbers for {len(members)} members.")


def _predicts(member: Path, split: str) -> bool:
    return (member / PREDICTIONS[split]).is_file() if member.is_dir() else split == "validation"


def _read(members: Sequence[Path], split: str) -> list[Predictions]:
    """Read what members predict, in the order of the first.

    Raises:
        DataError: one lacks a segment that another has.
    """
    found = [predictions_of(member, split) for member in members]
    for other in found[1:]:
        found[0].aligned(other.narration_id)
    return [found[0], *[other.aligned(found[0].narration_id) for other in found[1:]]]


def _gains(ensemble: Results, members: list[Results]) -> dict[str, tuple[float, float, float]]:
    """Give what the ensemble is above the mean of its members, and above the best of them, with 95 % intervals.

    The best member is chosen by the same segments, which favours it.
    """
    weights = draw_videos(ensemble)
    points = [figures(one)["action@1"][0] for one in (ensemble, *members)]
    drawn = [figures(one, weights)["action@1"] for one in (ensemble, *members)]
    best = 1 + int(np.argmax(points[1:]))
    return {
        "the mean of its members": (
            points[0] - float(np.mean(points[1:])),
            *interval(drawn[0] - np.mean(drawn[1:], axis=0)),
        ),
        "the best of them": (points[0] - points[best], *interval(drawn[0] - drawn[best])),
    }


def _write(folder: Path, members: Sequence[Path], recipe: Recipe, fitted: _Fitted, written: dict) -> None:
    first = read_config(members[0])
    inherited = {
        name: first[name] for name in ("train_csv", "validation_csv", "test_csv", "split", "features") if name in first
    }
    for name in PREDICTIONS.values():  # of other members: gone before anything says that these are there
        (folder / name).unlink(missing_ok=True)
    weights = {task: [round(float(one), 6) for one in fitted.weights[task]] for task in _TASKS}
    record = {"members": _names(members), "recipe": asdict(recipe), "weights": weights}
    write_json(folder / CONFIG, {**record, "correction": asdict(fitted.correction), **inherited})
    for split, predictions in written.items():
        write_predictions(folder / PREDICTIONS[split], predictions)


def _need_free(folder: Path, members: Sequence[Path], *, force: bool) -> None:
    if folder.parent.exists() and not folder.parent.is_dir():
        raise DataError(f"{folder.parent}: cannot be written: it is no folder.")
    there = read_config(folder)
    if not there:
        return
    if "members" not in there:
        raise DataError(f"{folder}: holds a run, not an ensemble; give this one another --name.")
    if sorted(there["members"]) != sorted(_names(members)) and not force:
        raise DataError(
            f"{folder}: holds an ensemble of {len(there['members'])} other members; --force replaces it, --name "
            "writes beside it."
        )


def _names(members: Sequence[Path]) -> list[str]:
    return [str(member) for member in members]
