"""Everything that a report shows, computed from runs. Knows no HTML and no plot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from features.annotations import Annotations, Segments, SplitFiles
from features.console import short_names
from features.errors import DataError
from features.predictions import Predictions
from features.progress import progress
from heads.config import TrainConfig
from heads.data.splits import trained_on
from heads.report.breakdown import Breakdown, break_down
from heads.report.curves import Curve, read_curve
from heads.report.ensemble_size import MOST, GainBySize, gain_best_first, gain_in_any_order
from heads.report.factors import Factor, Trial, main_effects, seed_std, settings_of
from heads.report.reproduce import ensemble_command, recorded_config, train_command
from heads.runs import PREDICTIONS, is_ensemble, read_record
from heads.scoring.against import ScoredList
from heads.scoring.evaluation import Group, ScoreRow, baselines, covered_by, labelled_validation, score_group
from heads.scoring.folds import Member
from heads.scoring.groups import groups_of
from heads.sweep.halving import best_first
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
        label: its name, which no other row has.
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
class Ranking:
    """The rows that are scored on one list.

    Attributes:
        annotations: name of the list.
        rows: scored rows, the highest action@1 first.
        baselines: scores of the most frequent classes and of chance; empty where the training list is not known.
    """

    annotations: str
    rows: tuple[RankedRow, ...]
    baselines: tuple[ScoreRow, ...]


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
    def best(self) -> RankedRow:
        """The row that the breakdown is about."""
        return best_of(self.rows)


def best_of(rows: Sequence[RankedRow]) -> RankedRow:
    """Return the row with the highest action@1 among those with the most segments: a few are easily all right."""
    most = max(row.score.num_segments for row in rows)
    return next(row for row in rows if row.score.num_segments == most)


def compute_report(lists: Sequence[ScoredList]) -> Report:
    """Compute a report.

    Args:
        lists: with run folders and predictions files; of a run that is not finished, only the learning curve is shown.

    Raises:
        DataError: none of them has predictions for validation, or as for `heads.scoring.evaluation.evaluate_lists`.
    """
    sources = list(dict.fromkeys(Path(source).resolve() for scored in lists for source in scored.sources))
    lists = [replace(scored, sources=tuple(filter(_is_finished, scored.sources))) for scored in lists]
    lists = [scored for scored in lists if scored.sources]
    if not lists:
        raise DataError(
            f"{sources[0]}: no predictions for validation in it; wait for the first epochs of a run to end."
        )
    rankings = _rankings(lists)
    rows, annotations = rankings[0].rows, lists[0].annotations
    validation = labelled_validation(annotations)
    best = best_of(rows)
    training = _training(best.group.members.members[0], annotations, validation)
    all_rows = [row for ranking in rankings for row in ranking.rows]
    configs, omitted = _configs(all_rows)
    trials = _trials(rows, configs)
    return Report(
        rankings=rankings,
        curves=tuple(_curves(all_rows, sources)),
        failed=tuple(_failed(sources)),
        factors=main_effects(trials) or _nothing_varies(len(trials)),
        num_trials=len(trials),
        seed_std=seed_std(trials),
        omitted=tuple(omitted),
        breakdown=break_down(
            best.group.members.predictions(), annotations, None if isinstance(training, Missing) else training
        ),
        training=training if isinstance(training, Missing) else len(training),
        gain_by_size=_gain_by_size(rows, validation),
        reproductions=tuple(_reproductions(all_rows, configs)),
    )


# ---- the ranking


def _is_finished(source: Path) -> bool:
    return not source.is_dir() or (source / PREDICTIONS["validation"]).is_file()


def _rankings(lists: Sequence[ScoredList]) -> tuple[Ranking, ...]:
    groups = groups_of(lists, each=False)
    scored = [
        score_group(group) for group in progress(groups, total=len(groups), unit="rows", label="scoring", delay_s=5)
    ]
    return tuple(
        Ranking(
            scored_list.name,
            tuple(_ranked(group for group in scored if group.members.scored is scored_list)),
            tuple(baselines(scored_list)),
        )
        for scored_list in lists
    )


def _ranked(groups: Iterable[Group]) -> list[RankedRow]:
    ranked = sorted(groups, key=lambda group: best_first(group.row.figures["action@1"]))
    return [RankedRow(group.row.name, _kind(group.members.paths[0]), group) for group in ranked]


def _kind(path: Path) -> Kind:
    if not path.is_dir():
        return "file"
    return "ensemble" if is_ensemble(path) else "run"


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


# ---- learning curves, and runs that failed


def _curves(rows: Sequence[RankedRow], sources: Sequence[Path]) -> Iterator[Curve]:
    ranked = [path for row in rows if row.is_plain_run for path in row.paths]
    for run in dict.fromkeys([*ranked, *sources]):
        curve = read_curve(run) if run.is_dir() else None
        if curve is not None:
            yield curve


def _failed(sources: Sequence[Path]) -> Iterator[tuple[str, str, str, str]]:
    folders = sorted({source.parent for source in sources if source.is_dir()})
    for folder, name in zip(folders, short_names(folders), strict=True):
        yield from ((name, *failure) for failure in read_failures(folder))


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
        Trial(settings_of(replace(configs[member.paths[0]], split=member.split), features[member.paths[0]]), figures)
        for row in rows
        if row.is_plain_run
        for member, figures in zip(row.group.members.members, row.group.points, strict=True)
        if member.paths[0] in configs
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
        predicted = with_seeds.group.members.predictions()[:MOST]
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
        predictions = member.predictions()
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
