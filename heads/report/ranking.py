"""The ranking of a report: what is scored on each list, best first, and what --halving stopped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from features.console import short_names
from features.progress import progress
from heads.report.curves import Curve
from heads.runs import group_of, has_predictions, is_ensemble
from heads.scoring.against import ScoredList
from heads.scoring.evaluation import Group, ScoreRow, baselines, labelled_validation, score_group
from heads.scoring.groups import groups_of
from heads.sweep.halving import best_first

Kind = Literal["run", "ensemble", "file", "stopped"]


@dataclass(frozen=True)
class RankedRow:
    """A row of the ranking that has predictions.

    Attributes:
        kind: whether it is a run, an ensemble or a predictions file.
    """

    kind: Kind
    group: Group

    @property
    def label(self) -> str:
        """Its name, which no other row has."""
        return self.score.name

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
        stopped: the variants that --halving stopped, with the accuracies of their last epoch, the highest action@1
            first. They have no predictions, so they have no intervals, and are never the best row.
        baselines: scores of the most frequent classes and of chance; empty where the training list is not known.
    """

    annotations: str
    rows: tuple[RankedRow, ...]
    stopped: tuple[ScoreRow, ...]
    baselines: tuple[ScoreRow, ...]

    @property
    def lines(self) -> tuple[tuple[Kind, ScoreRow], ...]:
        """All rows and what was stopped, the highest action@1 first."""
        lines: list[tuple[Kind, ScoreRow]] = [(row.kind, row.score) for row in self.rows]
        lines += [("stopped", score) for score in self.stopped]
        return tuple(sorted(lines, key=lambda line: best_first(line[1].figures["action@1"])))


def best_of(rows: Sequence[RankedRow]) -> RankedRow:
    """Return the row with the highest action@1 among those with the most segments: a few are easily all right."""
    most = max(row.score.num_segments for row in rows)
    return next(row for row in rows if row.score.num_segments == most)


def rankings_of(lists: Sequence[ScoredList], halved: Mapping[Path, Curve]) -> tuple[Ranking, ...]:
    """Score runs and files on their lists.

    Args:
        lists: with sources that are absolute paths. Of those without predictions, there is a row for the stopped ones.
        halved: run folder -> curve of a run that --halving stopped.

    Raises:
        DataError: as for `heads.scoring.evaluation.evaluate_lists`.
    """
    finished = [
        replace(scored, sources=tuple(source for source in scored.sources if has_predictions(source, "validation")))
        for scored in lists
    ]
    groups = groups_of(finished, each=False)
    shown = progress(groups, total=len(groups), unit="rows", label="scoring", delay_s=5)
    ranked = _ranked(score_group(group) for group in shown)
    known = [path.with_name(group_of(path)) for row in ranked for path in row.paths]
    variants = list(dict.fromkeys([*(curve.variant for curve in halved.values()), *known]))
    names = dict(zip(variants, short_names(variants), strict=True))
    return tuple(
        Ranking(
            scored.name,
            tuple(row for row in ranked if row.group.members.scored is of_list),
            tuple(_stopped(scored, halved, names)),
            tuple(baselines(scored)),
        )
        for scored, of_list in zip(lists, finished, strict=True)
    )


def _ranked(groups: Iterable[Group]) -> list[RankedRow]:
    ranked = sorted(groups, key=lambda group: best_first(group.row.figures["action@1"]))
    return [RankedRow(_kind(group.members.paths[0]), group) for group in ranked]


def _kind(path: Path) -> Kind:
    if not path.is_dir():
        return "file"
    return "ensemble" if is_ensemble(path) else "run"


def _stopped(scored: ScoredList, halved: Mapping[Path, Curve], names: Mapping[Path, str]) -> list[ScoreRow]:
    """Return a row per variant of a list that --halving stopped: mean accuracies of its seeds after their last epoch.

    Args:
        names: name of each variant.
    """
    variants: dict[Path, list[Curve]] = {}
    for curve in (halved[source] for source in scored.sources if source in halved):
        variants.setdefault(curve.variant, []).append(curve)
    num_segments = len(labelled_validation(scored.annotations))
    rows = []
    for variant, seeds in variants.items():
        points = [curve.last_accuracies for curve in seeds]
        actions = [point["action@1"] for point in points]
        rows.append(
            ScoreRow(
                name=names[variant],
                num_seeds=len(seeds),
                spread=float(np.std(actions, ddof=1)) if len(seeds) > 1 else None,
                num_segments=num_segments,
                num_known=num_segments,
                figures={name: float(np.mean([point[name] for point in points])) for name in points[0]},
                scored_on=scored.name,
                epochs=tuple(curve.num_epochs for curve in seeds),
            )
        )
    return sorted(rows, key=lambda row: best_first(row.figures["action@1"]))
