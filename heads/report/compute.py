"""Everything that a report shows, computed from runs. Knows no HTML and no plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from pathlib import Path

from features.annotations import Annotations, Segments, SplitFiles
from features.console import short_names
from features.errors import DataError
from features.predictions import Predictions
from heads.config import TrainConfig
from heads.data.splits import trained_on
from heads.report.breakdown import Breakdown, break_down
from heads.report.curves import Curve, read_curve
from heads.report.ensemble_size import MOST, GainBySize, gain_best_first, gain_in_any_order
from heads.report.factors import Factor, Trial, main_effects, seed_std, settings_of
from heads.report.ranking import Kind, RankedRow, Ranking, best_of, rankings_of
from heads.report.reproduce import ensemble_command, recorded_config, train_command
from heads.runs import has_predictions, read_record
from heads.scoring.against import ScoredList
from heads.scoring.evaluation import ScoreRow, covered_by, labelled_validation
from heads.scoring.folds import Member
from heads.sweep.records import read_failures


@dataclass(frozen=True)
class Missing:
    """A result that cannot be shown, and the reason for people."""

    reason: str


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
        written: the day on which it was computed.
        features: names of the feature sets that its runs were trained on.
        rankings: the rows of each list that runs are scored on. All but the curves is about the first list.
        curves: learning curves, those of the best rows first.
        failed: variants of sweeps that failed: folder, variant, seed, reason.
        factors: settings that vary among `num_trials` runs.
        seed_std: standard deviation of action@1 between seeds, in points; None where no settings have two seeds.
        omitted: runs that are left out of the factors, with the reason.
        breakdown: the scores of the best row by class, segment length and participant.
        training: the number of training segments.
        gain_by_size: title -> scores of ensembles of 1, 2, ... runs.
    """

    written: date
    features: tuple[str, ...]
    rankings: tuple[Ranking, ...]
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
    def annotations(self) -> str:
        """Name of the first list."""
        return self.rankings[0].annotations

    @property
    def rows(self) -> tuple[RankedRow, ...]:
        """The rows of the first list."""
        return self.rankings[0].rows

    @property
    def stopped(self) -> tuple[ScoreRow, ...]:
        """What --halving stopped of the first list."""
        return self.rankings[0].stopped

    @property
    def best(self) -> RankedRow:
        """The row that the breakdown is about."""
        return best_of(self.rows)


def compute_report(lists: Sequence[ScoredList]) -> Report:
    """Compute a report.

    Args:
        lists: with run folders and predictions files; of a run that is not finished, only the learning curve is shown.

    Raises:
        DataError: none of them has predictions for validation, or as for `heads.scoring.evaluation.evaluate_lists`.
    """
    lists = [
        replace(scored, sources=tuple(dict.fromkeys(Path(source).resolve() for source in scored.sources)))
        for scored in lists
    ]
    sources = [source for scored in lists for source in scored.sources]
    finished = {source for source in sources if has_predictions(source, "validation")}
    lists = [scored for scored in lists if finished.intersection(scored.sources)]
    if not lists:
        raise DataError(
            f"{sources[0]}: no predictions for validation in it; wait for the first epochs of a run to end."
        )
    curves = {source: curve for source in sources if (curve := read_curve(source)) is not None}
    halved = {run: curve for run, curve in curves.items() if curve.is_halved and run not in finished}
    rankings = rankings_of(lists, halved)
    rows, annotations = rankings[0].rows, lists[0].annotations
    validation = labelled_validation(annotations)
    best = best_of(rows)
    training = _training(best.group.members.members[0], annotations, validation)
    all_rows = [row for ranking in rankings for row in ranking.rows]
    configs, omitted = _configs([*_plain_runs(all_rows), *halved])
    trials = _trials(rows, [halved[run] for run in lists[0].sources if run in halved], configs)
    return Report(
        written=date.today(),
        features=tuple(sorted(set(_names_of_features(configs).values()))),
        rankings=rankings,
        curves=tuple(curves[run] for run in dict.fromkeys([*_plain_runs(all_rows), *sources]) if run in curves),
        failed=tuple(_failed(sources)),
        factors=main_effects(trials) or _nothing_varies(len(trials)),
        num_trials=len(trials),
        seed_std=seed_std(trials),
        omitted=tuple(omitted),
        breakdown=break_down(
            [predictions.without_actions() for predictions in best.group.members.predictions()],
            annotations,
            None if isinstance(training, Missing) else training,
        ),
        training=training if isinstance(training, Missing) else len(training),
        gain_by_size=_gain_by_size(rows, validation),
        reproductions=tuple(_reproductions(all_rows, configs)),
    )


# ---- training, and what failed in it


def _training(member: Member, annotations: Annotations, validation: Segments) -> Segments | Missing:
    """Return the segments that a row was trained on: of a fold, the part of the list that it is not scored on."""
    train = read_record(member.paths[0]).files.train
    if member.split.startswith("fold:") and train is not None and train.is_file():
        return trained_on(member.split, SplitFiles(train, None, None))
    if annotations.train is None:
        return Missing(
            f"there is no training list beside {validation.source}; give --annotations, the folder of all lists."
        )
    return annotations.train


def _failed(sources: Sequence[Path]) -> Iterator[tuple[str, str, str, str]]:
    folders = sorted({source.parent for source in sources if source.is_dir()})
    for folder, name in zip(folders, short_names(folders), strict=True):
        yield from ((name, *failure) for failure in read_failures(folder))


# ---- the settings that mattered


def _plain_runs(rows: Sequence[RankedRow]) -> list[Path]:
    return [path for row in rows if row.is_plain_run for path in row.paths]


def _configs(runs: Sequence[Path]) -> tuple[dict[Path, TrainConfig], list[str]]:
    """Read the configuration of each run; return the errors of those that do not record it as well."""
    configs, omitted = {}, []
    for run in runs:
        try:
            configs[run] = recorded_config(run)
        except DataError as error:
            omitted.append(str(error))
    return configs, omitted


def _trials(rows: Sequence[RankedRow], halved: Sequence[Curve], configs: Mapping[Path, TrainConfig]) -> list[Trial]:
    """Return the runs whose settings are known; those that --halving stopped have the scores of their last epoch."""
    features = _names_of_features(configs)
    trials = []
    for row in filter(lambda row: row.is_plain_run, rows):
        for member, figures in zip(row.group.members.members, row.group.points, strict=True):
            if (run := member.paths[0]) in configs:
                settings = settings_of(replace(configs[run], split=member.split), features[run])
                trials.append(Trial(settings, figures))
    for curve in halved:
        if curve.run in configs:
            settings = settings_of(configs[curve.run], features[curve.run])
            trials.append(Trial(settings, curve.last_accuracies, is_stopped=True))
    return trials


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
        (figures["action@1"], member)
        for row in runs
        for member, figures in zip(row.group.members.members, row.group.points, strict=True)
    ]
    if len(scored) < 2:
        return Missing("at least two runs are needed; other ensembles are in the ranking.")
    names = dict(zip((member for _, member in scored), short_names(member.path for _, member in scored), strict=True))
    gains = {}
    with_seeds = next((row for row in runs if row.score.num_seeds > 1), None)
    if with_seeds is not None:
        of_seeds = islice(with_seeds.group.members.predictions(), MOST)
        predicted = [predictions.without_actions() for predictions in of_seeds]
        seeds = [names[member] for member in with_seeds.group.members.members[:MOST]]
        segments = covered_by(predicted[0], validation)
        gains[f"seeds of {with_seeds.label}"] = gain_in_any_order(seeds, predicted, segments)
    best, predicted = _with_the_same_segments([member for _, member in sorted(scored, key=lambda pair: -pair[0])])
    if len(best) > 1:
        segments = covered_by(predicted[0], validation)
        gains["the best runs, best first"] = gain_best_first([names[member] for member in best], predicted, segments)
    return gains or Missing("no two runs predict the same segments.")


def _with_the_same_segments(members: Sequence[Member]) -> tuple[list[Member], list[Predictions]]:
    """Read the first runs, MOST at the most, that predict the same segments as the first one."""
    best: list[Member] = []
    predicted: list[Predictions] = []
    for member in members:
        predictions = member.predictions().without_actions()
        if not predicted or set(predictions.narration_id) == set(predicted[0].narration_id):
            best.append(member)
            predicted.append(predictions)
        if len(predicted) == MOST:
            break
    return best, predicted


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
        label = row.label if len(with_same_command) == 1 else f"{row.label}: {first.name}"
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
