"""Everything that a report shows, computed from runs. Knows no HTML and no plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from features.annotations import Annotations, Segments
from features.errors import DataError
from features.predictions import Predictions
from features.progress import progress
from heads.config import TrainConfig
from heads.data.splits import choose_split
from heads.report.breakdown import Breakdown, break_down
from heads.report.curves import Curve, read_curve
from heads.report.ensemble_size import MOST, GainBySize, gain_best_first, gain_in_any_order
from heads.report.factors import Factor, Trial, main_effects, seed_std, settings_of
from heads.report.reproduce import ensemble_command, recorded_config, train_command
from heads.runs import PREDICTIONS, is_ensemble, predictions_of, read_record
from heads.scoring.evaluation import Group, ScoreRow, baselines, covered_by, groups_of, labelled_validation, score_group
from heads.sweep.records import read_failures

Kind = Literal["run", "ensemble", "file"]


@dataclass(frozen=True)
class Missing:
    """A result that cannot be shown, and the reason for people."""

    reason: str


@dataclass(frozen=True)
class RankedRow:
    """A row of the ranking.

    Attributes:
        label: its name, with its folder where another row has the same name.
        kind: whether it is a run, an ensemble or a predictions file.
    """

    label: str
    kind: Kind
    group: Group

    @property
    def is_plain_run(self) -> bool:
        """Whether it is a run, scored without test-time augmentation."""
        return self.kind == "run" and not self.group.members.tta

    @property
    def paths(self) -> tuple[Path, ...]:
        """The runs or files that are scored as one, such as the seeds of a run."""
        return self.group.members.paths

    @property
    def score(self) -> ScoreRow:
        """The scores."""
        return self.group.row


@dataclass(frozen=True)
class Reproduction:
    """How to reproduce runs.

    Attributes:
        command: for a shell, or the reason why there is none.
        digests: digest and folder of each feature set.
        labels: digest of the annotations that it was trained and validated on; None where it is not recorded.
    """

    label: str
    command: str | Missing
    digests: tuple[tuple[str, str], ...]
    labels: str | None


@dataclass(frozen=True)
class Report:
    """The results in a report.

    Attributes:
        annotations: name of the validation list.
        rows: scored rows, the highest action@1 first.
        baselines: scores of the most frequent classes and of chance; empty where the training list is not known.
        curves: learning curves, those of the best rows first.
        failed: variants of sweeps that failed: folder, variant, seed, reason.
        factors: settings that vary among `num_trials` runs.
        seed_std: standard deviation of action@1 between seeds, in points; None where no settings have two seeds.
        omitted: runs that are left out of the factors, with the reason.
        breakdown: the scores of the best row by class, segment length and participant.
        training: the number of training segments.
        gain_by_size: title -> scores of ensembles of 1, 2, ... runs.
    """

    annotations: str
    rows: tuple[RankedRow, ...]
    baselines: tuple[ScoreRow, ...]
    curves: tuple[Curve, ...]
    failed: tuple[tuple[str, str, str, str], ...]
    factors: tuple[Factor, ...] | Missing
    num_trials: int
    seed_std: float | None
    omitted: tuple[str, ...]
    breakdown: Breakdown
    training: int | Missing
    gain_by_size: Mapping[str, GainBySize] | Missing
    reproductions: tuple[Reproduction, ...]

    @property
    def best(self) -> RankedRow:
        """The row that the breakdown is about."""
        return best_of(self.rows)


def best_of(rows: Sequence[RankedRow]) -> RankedRow:
    """Return the row with the highest action@1 among those with the most segments: a few are easily all right."""
    most = max(row.score.num_segments for row in rows)
    return next(row for row in rows if row.score.num_segments == most)


def compute_report(sources: Sequence[Path], annotations: Annotations) -> Report:
    """Compute a report.

    Args:
        sources: run folders and predictions files; of a run that is not finished, only the learning curve is shown.

    Raises:
        DataError: none of them has predictions for validation, or as for `heads.scoring.evaluation.evaluate_sources`.
    """
    sources = list(dict.fromkeys(Path(source).resolve() for source in sources))
    finished = [source for source in sources if not source.is_dir() or (source / PREDICTIONS["validation"]).is_file()]
    if not finished:
        raise DataError(
            f"{sources[0]}: no predictions for validation in it; wait for the first epochs of a run to end."
        )
    validation = labelled_validation(annotations)
    rows = _ranked(_scored(finished, annotations))
    best = best_of(rows)
    training = _training(best.paths[0], annotations, validation)
    configs, omitted = _configs(rows)
    trials = _trials(rows, configs)
    return Report(
        annotations=validation.source,
        rows=tuple(rows),
        baselines=tuple(baselines(annotations)),
        curves=tuple(_curves(rows, sources)),
        failed=tuple(_failed(sources)),
        factors=main_effects(trials) or _nothing_varies(len(trials)),
        num_trials=len(trials),
        seed_std=seed_std(trials),
        omitted=tuple(omitted),
        breakdown=break_down(
            list(best.group.members.predictions()), annotations, None if isinstance(training, Missing) else training
        ),
        training=training if isinstance(training, Missing) else len(training),
        gain_by_size=_gain_by_size(rows, validation),
        reproductions=tuple(_reproductions(rows, configs)),
    )


# ---- the ranking


def _scored(sources: Sequence[Path], annotations: Annotations) -> Iterator[Group]:
    groups = groups_of(sources, each=False)
    for group in progress(groups, total=len(groups), unit="rows", label="scoring", delay_s=5):
        yield score_group(group, annotations)


def _ranked(groups: Iterator[Group]) -> list[RankedRow]:
    ranked = sorted(groups, key=lambda group: -group.row.figures["action@1"])
    times = Counter(group.row.name for group in ranked)
    return [RankedRow(_label(group, times), _kind(group.members.paths[0]), group) for group in ranked]


def _label(group: Group, times: Mapping[str, int]) -> str:
    parent = group.members.paths[0].parent.name
    return group.row.name if times[group.row.name] == 1 else f"{parent}/{group.row.name}"


def _kind(path: Path) -> Kind:
    if not path.is_dir():
        return "file"
    return "ensemble" if is_ensemble(path) else "run"


def _training(source: Path, annotations: Annotations, validation: Segments) -> Segments | Missing:
    """Return the segments that a row was trained on: of a fold, the part of the list that it is not scored on."""
    record = read_record(source)
    train = record.files.train
    if record.split.startswith("fold:") and train is not None and train.is_file():
        return choose_split(record.split, record.files).train
    if annotations.train is None:
        return Missing(
            f"there is no training list beside {validation.source}; give --annotations, the folder of all lists."
        )
    return annotations.train


# ---- learning curves, and runs that failed


def _curves(rows: Sequence[RankedRow], sources: Sequence[Path]) -> Iterator[Curve]:
    best_first = [path for row in rows if row.is_plain_run for path in row.paths]
    for run in dict.fromkeys([*best_first, *sources]):
        curve = read_curve(run) if run.is_dir() else None
        if curve is not None:
            yield curve


def _failed(sources: Sequence[Path]) -> Iterator[tuple[str, str, str, str]]:
    for folder in sorted({source.parent for source in sources if source.is_dir()}):
        yield from ((folder.name, *failure) for failure in read_failures(folder))


# ---- the settings that mattered


def _configs(rows: Sequence[RankedRow]) -> tuple[dict[Path, TrainConfig], list[str]]:
    """Read the configuration of each run; return the errors of those that do not record it as well."""
    configs, omitted = {}, []
    for row in rows:
        for path in row.paths if row.is_plain_run else ():
            try:
                configs[path] = recorded_config(path)
            except DataError as error:
                omitted.append(str(error))
    return configs, omitted


def _trials(rows: Sequence[RankedRow], configs: Mapping[Path, TrainConfig]) -> list[Trial]:
    features = _names_of_features(configs)
    return [
        Trial(settings_of(configs[path], features[path]), figures)
        for row in rows
        if row.is_plain_run
        for path, figures in zip(row.paths, row.group.points, strict=True)
        if path in configs
    ]


def _names_of_features(runs: Mapping[Path, object]) -> dict[Path, str]:
    """Return what each run was trained on; feature sets of one name and different digests show their digests."""
    records = {run: read_record(run) for run in runs}
    names = {run: " + ".join(Path(root).name for root in record.features) for run, record in records.items()}
    digests_of: dict[str, set[tuple[str, ...]]] = {}
    for run, name in names.items():
        digests_of.setdefault(name, set()).add(records[run].digests)
    return {
        run: name
        if len(digests_of[name]) == 1
        else f"{name} ({' + '.join(digest[:8] for digest in records[run].digests)})"
        for run, name in names.items()
    }


def _nothing_varies(num_runs: int) -> Missing:
    if num_runs < 2:
        return Missing(f"only {num_runs or 'no'} run has a record of its settings; at least two are needed.")
    return Missing(f"all {num_runs} runs have the same settings and the same seed.")


# ---- the gain of ensembles


def _gain_by_size(rows: Sequence[RankedRow], validation: Segments) -> dict[str, GainBySize] | Missing:
    """Score ensembles of the seeds of the best row with several seeds, and of the best runs of all."""
    runs = [row for row in rows if row.is_plain_run]
    scored = [
        (figures["action@1"], path) for row in runs for path, figures in zip(row.paths, row.group.points, strict=True)
    ]
    if len(scored) < 2:
        return Missing("at least two runs are needed; other ensembles are in the ranking.")
    gains = {}
    with_seeds = next((row for row in runs if len(row.paths) > 1), None)
    if with_seeds is not None:
        predicted = list(islice(with_seeds.group.members.predictions(), MOST))
        names = [path.name for path in with_seeds.paths[:MOST]]
        segments = covered_by(predicted[0], validation)
        gains[f"seeds of {with_seeds.label}"] = gain_in_any_order(names, predicted, segments)
    names, predicted = _with_the_same_segments([path for _, path in sorted(scored, key=lambda pair: -pair[0])])
    if len(names) > 1:
        segments = covered_by(predicted[0], validation)
        gains["the best runs, best first"] = gain_best_first(names, predicted, segments)
    return gains or Missing("no two runs predict the same segments.")


def _with_the_same_segments(paths: Sequence[Path]) -> tuple[list[str], list[Predictions]]:
    """Read the first runs, MOST at the most, that predict the same segments as the first one."""
    names: list[str] = []
    predicted: list[Predictions] = []
    for path in paths:
        predictions = predictions_of(path, "validation")
        if not predicted or set(predictions.narration_id) == set(predicted[0].narration_id):
            names.append(path.name)
            predicted.append(predictions)
        if len(predicted) == MOST:
            break
    return names, predicted


# ---- how to reproduce the runs


def _reproductions(rows: Sequence[RankedRow], configs: Mapping[Path, TrainConfig]) -> Iterator[Reproduction]:
    """Yield a command for each run, one for all seeds with the same settings."""
    for row in rows:
        if row.is_plain_run:
            yield from _of_seeds(row, configs)
        elif not row.group.members.tta:
            path = row.paths[0]
            yield Reproduction(row.label, _command_of(row.kind, path), _digests(path), None)


def _of_seeds(row: RankedRow, configs: Mapping[Path, TrainConfig]) -> Iterator[Reproduction]:
    with_same_command: dict[str, list[Path]] = {}
    for path in row.paths:
        command = train_command(path, [0]) if path in configs else str(path)
        with_same_command.setdefault(command, []).append(path)
    for paths in with_same_command.values():
        first = paths[0]
        all_seeds: str | Missing = Missing("its config.json does not say how it was trained.")
        if first in configs:
            all_seeds = train_command(first, sorted(configs[path].seed for path in paths))
        label = row.label if len(with_same_command) == 1 else first.name
        yield Reproduction(label, all_seeds, _digests(first), read_record(first).labels_digest)


def _command_of(kind: Kind, path: Path) -> str | Missing:
    if kind == "file":
        return Missing("a predictions file does not say how it was made.")
    try:
        return ensemble_command(path)
    except DataError as error:
        return Missing(str(error))


def _digests(path: Path) -> tuple[tuple[str, str], ...]:
    record = read_record(path)
    return tuple(zip(record.digests, record.features, strict=False))
