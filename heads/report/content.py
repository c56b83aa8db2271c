"""All that a report says, computed. Knows no HTML and no plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from features.annotations import Annotations, Segments
from features.errors import DataError
from features.predictions import Predictions
from features.progress import progress
from heads.config import TrainConfig
from heads.data.splits import choose_split
from heads.report.curves import Curve, read_curve
from heads.report.detail import Detail, look_at
from heads.report.factors import Factor, Trial, luck, main_effects, settings_of
from heads.report.growth import MOST, Growth, best_first, in_any_order
from heads.report.repeat import config_of, ensemble_command, train_command
from heads.runs import PREDICTIONS, is_ensemble, predictions_of, read_config
from heads.scoring.against import files_of
from heads.scoring.evaluation import Group, ScoreRow, baselines, covered_by, groups_of, score_group
from heads.sweep.records import read_failures


@dataclass(frozen=True)
class Reason:
    """Why something is not there, for people."""

    why: str


@dataclass(frozen=True)
class Place:
    """A row of the ranking.

    Attributes:
        label: its name, with its folder where another row has the same name.
        kind: "run", "ensemble" or "file".
    """

    label: str
    kind: str
    group: Group


@dataclass(frozen=True)
class Recipe:
    """How to make runs anew.

    Attributes:
        command: for a shell, or why there is none.
        digests: of the feature sets, with their folders.
        labels: digest of the annotations that it was trained and validated on; None where it is not known.
    """

    label: str
    command: str | Reason
    digests: tuple[tuple[str, str], ...]
    labels: str | None


@dataclass(frozen=True)
class Content:
    """A report.

    Attributes:
        places: scored rows, the highest action@1 first.
        baselines: what needs no learning; empty where training is not known.
        curves: by run, those of the best rows first.
        failed: variants of sweeps that failed: folder, variant, seed, why.
        factors: settings that vary among `num_trials` runs; or why there are none.
        luck: standard deviation of action@1 over seeds alone, in points; None where no settings have two.
        omitted: runs that are not among those, with the reason.
        detail: of the best row.
        training: how many segments training has; or why it is not known.
        growth: title -> ensembles of ever more runs; or why there are none.
    """

    annotations: str
    places: tuple[Place, ...]
    baselines: tuple[ScoreRow, ...]
    curves: tuple[Curve, ...]
    failed: tuple[tuple[str, str, str, str], ...]
    factors: tuple[Factor, ...] | Reason
    num_trials: int
    luck: float | None
    omitted: tuple[str, ...]
    detail: Detail
    training: int | Reason
    growth: Mapping[str, Growth] | Reason
    recipes: tuple[Recipe, ...]

    @property
    def best(self) -> Place:
        """The row that is looked at closely."""
        return best_of(self.places)


def best_of(places: Sequence[Place]) -> Place:
    """Give the row with the highest action@1 of those that cover the most segments: a few are easily all right."""
    most = max(place.group.row.num_segments for place in places)
    return next(place for place in places if place.group.row.num_segments == most)


def make_content(sources: Sequence[Path], annotations: Annotations) -> Content:
    """Compute a report.

    Args:
        sources: run folders and predictions files; runs that are not finished have a learning curve and nothing else.

    Raises:
        DataError: none of them has predictions for validation, or as for `heads.scoring.evaluation.evaluate_sources`.
    """
    sources = list(dict.fromkeys(Path(source).resolve() for source in sources))
    finished = [one for one in sources if not one.is_dir() or (one / PREDICTIONS["validation"]).is_file()]
    if not finished:
        raise DataError(
            f"{sources[0]}: no predictions for validation in it; wait for the first epochs of a run to end."
        )
    places = _ranked(_scored(finished, annotations))
    best = best_of(places)
    predicted = best.group.members.predictions()
    training = _training(best.group.members.paths[0], annotations)
    configs, omitted = _configs(places)
    trials = _trials(places, configs)
    factors = main_effects(trials)
    return Content(
        annotations=annotations.validation.source,
        places=tuple(places),
        baselines=tuple(baselines(annotations)),
        curves=tuple(_curves(places, sources)),
        failed=tuple(_failed(sources)),
        factors=factors or _nothing_varies(len(trials)),
        num_trials=len(trials),
        luck=luck(trials),
        omitted=tuple(omitted),
        detail=look_at(predicted, annotations, training if isinstance(training, Segments) else None),
        training=len(training) if isinstance(training, Segments) else training,
        growth=_growth(places, annotations),
        recipes=tuple(_recipes(places, configs)),
    )


# ---- the ranking


def _scored(sources: Sequence[Path], annotations: Annotations) -> Iterator[Group]:
    groups = groups_of(sources, each=False)
    for group in progress(groups, total=len(groups), unit="rows", label="scoring", delay_s=5):
        yield score_group(group, annotations)


def _ranked(groups: Iterator[Group]) -> list[Place]:
    ranked = sorted(groups, key=lambda group: -group.row.figures["action@1"])
    times = Counter(group.row.name for group in ranked)
    return [Place(_label(group, times), _kind(group.members.paths[0]), group) for group in ranked]


def _label(group: Group, times: Mapping[str, int]) -> str:
    parent = group.members.paths[0].parent.name
    return group.row.name if times[group.row.name] == 1 else f"{parent}/{group.row.name}"


def _kind(path: Path) -> str:
    if not path.is_dir():
        return "file"
    return "ensemble" if is_ensemble(path) else "run"


def _is_plain_run(place: Place) -> bool:
    return place.kind == "run" and not place.group.members.tta


def _training(source: Path, annotations: Annotations) -> Segments | Reason:
    """Give what a row was trained on: of a fold, the part of the list that it is not scored on."""
    files, way = files_of(source)
    if way.startswith("fold:") and files.train is not None and files.train.is_file():
        return choose_split(way, files).train
    if annotations.train is None:
        return Reason(
            f"there is no training list beside {annotations.validation.source}; give --annotations, "
            "the folder of all lists."
        )
    return annotations.train


# ---- how they learned, and what did not


def _curves(places: Sequence[Place], sources: Sequence[Path]) -> Iterator[Curve]:
    in_order = [path for place in places if _is_plain_run(place) for path in place.group.members.paths]
    for run in dict.fromkeys([*in_order, *sources]):
        curve = read_curve(run) if run.is_dir() else None
        if curve is not None:
            yield curve


def _failed(sources: Sequence[Path]) -> Iterator[tuple[str, str, str, str]]:
    for folder in sorted({source.parent for source in sources if source.is_dir()}):
        yield from ((folder.name, *one) for one in read_failures(folder))


# ---- which setting mattered


def _configs(places: Sequence[Place]) -> tuple[dict[Path, TrainConfig], list[str]]:
    """Read how each run was trained, and say which do not tell."""
    configs, omitted = {}, []
    for place in places:
        for path in place.group.members.paths if _is_plain_run(place) else ():
            try:
                configs[path] = config_of(path)
            except DataError as error:
                omitted.append(str(error))
    return configs, omitted


def _trials(places: Sequence[Place], configs: Mapping[Path, TrainConfig]) -> list[Trial]:
    features = _names_of_features(configs)
    return [
        Trial(settings_of(configs[path], features[path]), figures)
        for place in places
        if _is_plain_run(place)
        for path, figures in zip(place.group.members.paths, place.group.points, strict=True)
        if path in configs
    ]


def _names_of_features(runs: Mapping[Path, object]) -> dict[Path, str]:
    """Name what each run was trained on; feature sets of one name and other digests are told apart by these."""
    records = {run: read_config(run) for run in runs}
    names = {run: " + ".join(Path(root).name for root in record.get("features", ())) for run, record in records.items()}
    digests = {run: tuple(record.get("featureset_digests", ())) for run, record in records.items()}
    known: dict[str, set[tuple[str, ...]]] = {}
    for run, name in names.items():
        known.setdefault(name, set()).add(digests[run])
    return {
        run: name if len(known[name]) == 1 else f"{name} ({' + '.join(one[:8] for one in digests[run])})"
        for run, name in names.items()
    }


def _nothing_varies(num_runs: int) -> Reason:
    if num_runs < 2:
        return Reason(f"{num_runs or 'no'} run here has a record of its settings; it takes two that differ.")
    return Reason(f"all {num_runs} runs have the same settings and the same seed.")


# ---- what an ensemble would gain


def _growth(places: Sequence[Place], annotations: Annotations) -> dict[str, Growth] | Reason:
    """Grow ensembles of the seeds of the best row that has some, and of the best runs of all."""
    runs = [place for place in places if _is_plain_run(place)]
    single = sorted(
        (
            (figures["action@1"], path)
            for place in runs
            for path, figures in zip(place.group.members.paths, place.group.points, strict=True)
        ),
        key=lambda one: -one[0],
    )
    if len(single) < 2:
        return Reason("it takes two runs or more; ensembles of other things are in the ranking.")
    found = {}
    seeds = next((place for place in runs if len(place.group.members.paths) > 1), None)
    if seeds is not None:
        paths = seeds.group.members.paths[:MOST]
        predicted = seeds.group.members.predictions()[:MOST]
        segments = covered_by(predicted[0], annotations.validation)
        found[f"seeds of {seeds.label}"] = in_any_order([path.name for path in paths], predicted, segments)
    names, predicted = _alike([path for _, path in single])
    if len(names) > 1:
        segments = covered_by(predicted[0], annotations.validation)
        found["the best runs, best first"] = best_first(names, predicted, segments)
    return found or Reason("no two runs predict the same segments.")


def _alike(paths: Sequence[Path]) -> tuple[list[str], list[Predictions]]:
    """Read the first few of the runs that predict just what the first one does."""
    names, predicted = [], []
    for path in paths:
        one = predictions_of(path, "validation")
        if not predicted or set(one.narration_id) == set(predicted[0].narration_id):
            names.append(path.name)
            predicted.append(one)
        if len(predicted) == MOST:
            break
    return names, predicted


# ---- how to repeat them


def _recipes(places: Sequence[Place], configs: Mapping[Path, TrainConfig]) -> Iterator[Recipe]:
    """Give a command for each run, one for all seeds that differ in nothing else."""
    for place in places:
        if place.group.members.tta:
            continue
        for path in place.group.members.paths[:1] if place.kind != "run" else ():
            yield Recipe(place.label, _other(place.kind, path), _digests(path), None)
        if place.kind == "run":
            yield from _runs_recipes(place, configs)


def _runs_recipes(place: Place, configs: Mapping[Path, TrainConfig]) -> Iterator[Recipe]:
    alike: dict[str, list[Path]] = {}
    for path in place.group.members.paths:
        alike.setdefault(train_command(path, [0]) if path in configs else str(path), []).append(path)
    for paths in alike.values():
        first = paths[0]
        known = first in configs
        command = (
            train_command(first, sorted(configs[path].seed for path in paths))
            if known
            else Reason("its config.json does not say how it was trained.")
        )
        yield Recipe(place.label if len(alike) == 1 else first.name, command, _digests(first), _labels(first))


def _other(kind: str, path: Path) -> str | Reason:
    if kind == "file":
        return Reason("a file of predictions does not say how they were made.")
    try:
        return ensemble_command(path)
    except DataError as error:
        return Reason(str(error))


def _digests(path: Path) -> tuple[tuple[str, str], ...]:
    record = read_config(path)
    digests = record.get("featureset_digests", ())
    return tuple(zip(map(str, digests), map(str, record.get("features", ())), strict=False))


def _labels(path: Path) -> str | None:
    return read_config(path).get("labels_digest")
