"""Ensembles: the averaged predictions of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from heads.api.arguments import AnyPath, optional_path, sources_of, texts_of
from heads.ensembles.run import Ensemble, write_ensemble
from heads.ensembles.settings import EnsembleConfig
from heads.runs import find_runs
from heads.scoring.against import known_annotations


def ensemble(
    members: Sequence[AnyPath] = (),
    *,
    runs: AnyPath = "runs",
    name: str = "ensemble",
    annotations: AnyPath | None = None,
    mean: Literal["probabilities", "logits"] = "probabilities",
    weights: str | Sequence[float] = "uniform",
    per_task: bool = False,
    temperature: bool = False,
    adjust: bool = False,
    pairs: bool = False,
    fold_actions: bool = False,
    sequence: bool = False,
    tta: bool = False,
    scores: str | Sequence[str] = (),
    force: bool = False,
) -> Ensemble:
    """Return the ensemble of some runs, after writing its averaged predictions into `runs`/`name`.

        best = heads.ensemble(["runs/sweep"], weights="greedy", per_task=True, name="best")
        print(best.gains, best.weights["noun"])

    Args:
        members: run folders or predictions files; a folder of runs stands for all finished runs in it. All finished
            runs in `runs` by default. The runs of all folds of a head are one member. A member with the predictions of
            another one is left out.
        annotations: what weights and corrections are fitted to and what is scored against, as for `evaluate`.
        mean: average "probabilities" or "logits".
        weights: "uniform"; "fitted" to validation; "greedy", members chosen one by one; or one number per member.
            Whatever is fitted is cross-validated over videos.
        per_task: weights for verbs and other ones for nouns, where they are fitted.
        temperature, adjust, pairs, fold_actions, sequence: corrections to fit afterwards (heads/ensembles/posthoc.py).
        tta: average what `predict_run(..., tta=True)` wrote.
        scores: what predictions files hold, as for `evaluate`.
        force: replace an ensemble of other members.

    Raises:
        OptionError: a member is given twice, or the weights make no sense.
        DataError: a member has no predictions, members are scored on different lists or predict different segments, or
            the folder holds something else.
    """
    config = EnsembleConfig(
        kind=mean,
        weights=weights if isinstance(weights, str) else tuple(float(weight) for weight in weights),
        per_task=per_task,
        temperature=temperature,
        adjust=adjust,
        pairs=pairs,
        fold_actions=fold_actions,
        sequence=sequence,
        tta=tta,
        scores=texts_of(scores),
    )
    paths = sources_of(members, runs, find_runs)
    known = known_annotations(paths, optional_path(annotations))
    return write_ensemble(paths, Path(runs) / name, settings=config, annotations=known, force=force)
