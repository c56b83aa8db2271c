"""The sections of a report in words and tables, for a page and for a terminal. Computes nothing, knows no HTML.

The sections about the best row are in best_sections.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from features.console import short_names
from heads.report import best_sections
from heads.report.compute import Missing, Report
from heads.report.curves import Curve
from heads.report.document import Cell, Command, Section, Table, number, whole
from heads.report.ensemble_size import MOST, NUM_ORDERS, GainBySize
from heads.report.factors import MOST_VALUES, Effect, Factor
from heads.report.ranking import RankedRow, Ranking
from heads.scoring.evaluation import ScoreRow
from heads.scoring.tables import notes


def title_of(report: Report) -> str:
    """Return the title of a report."""
    return f"{report.best.label}: {report.best.score.figures['action@1']:.1f} % action top-1"


def summary_of(report: Report) -> tuple[tuple[str, str, str], ...]:
    """Return the numbers at the top of a report: name, number, note."""
    score = report.best.score
    top = [
        (f"{task} top-1", f"{score.figures[f'{task}@1']:.1f} %", _interval(score, f"{task}@1") or "no interval")
        for task in ("action", "verb", "noun")
    ]
    rows = [row for ranking in report.rankings for row in ranking.rows]
    num_runs = sum(len(row.paths) for row in rows if row.is_plain_run)
    num_stopped = sum(score.num_seeds for ranking in report.rankings for score in ranking.stopped)
    others = [
        _plural(sum(row.kind == "ensemble" for row in rows), "ensemble"),
        _plural(sum(row.kind == "file" for row in rows), "file"),
        f"{num_stopped} stopped early" if num_stopped else "",
        _plural(sum(not curve.is_over for curve in report.curves), "interrupted run"),
        _plural(len(report.failed), "failure"),
    ]
    also = ", ".join(filter(None, others))
    return (*top, ("runs scored", f"{num_runs}", f"and {also}" if also else f"in {len(rows)} rows"))


def sections_of(report: Report) -> tuple[Section, ...]:
    """Return the sections of a report, in their order."""
    return (
        _ranking(report),
        _curves(report),
        _factors(report),
        _gain_by_size(report),
        best_sections.frequency(report),
        best_sections.confusions(report),
        best_sections.lengths(report),
        best_sections.participants(report),
        best_sections.calibration(report),
        _reproductions(report),
    )


# ---- all rows


def _ranking(report: Report) -> Section:
    known = report.best.score.figures
    parts = [name for name in ("unseen action@1", "tail action@1") if name in known]
    if len(report.rankings) == 1:
        captions = ["All rows, accuracy in %"]
    else:
        captions = [f"On {ranking.annotations}, accuracy in %" for ranking in report.rankings]
    tables = tuple(
        _ranking_table(caption, ranking, report.best.score, parts)
        for caption, ranking in zip(captions, report.rankings, strict=True)
    )
    text = (
        *_warnings(report),
        f"Accuracies in %, on {report.annotations}; more is better. @1 is top-1, @5 is top-5, and mean-class averages "
        "over classes. Runs that differ in their seed alone share a row with their mean and the standard deviation of "
        "their action@1. The small numbers are 95 % bootstrap intervals over videos; there are none where all draws "
        "are alike, as for a single video.",
    )
    absent = []
    if not report.rankings[0].baselines:
        absent.append(
            "Baselines (the most frequent classes, and chance): there is no training list beside the validation list."
        )
    if all(row.score.spread is None for row in report.rows):
        absent.append("Standard deviation over seeds: no row has two seeds (heads train --seeds 0-2).")
    if any(not row.score.intervals for row in report.rows):
        absent.append("Intervals: some rows are scored on segments of a single video, so there is nothing to draw.")
    for part, name in (("unseen participants", "unseen action@1"), ("tail classes", "tail action@1")):
        if name not in known:
            absent.append(f"Accuracy over {part}: there is no list of them beside the validation list, or no segment.")
    if len(report.rankings) > 1:
        absent.append(
            f"Runs are scored on {len(report.rankings)} lists, whose rows cannot be compared. The plots, the settings "
            f"that mattered, the gain of ensembles and the best row are about {report.annotations}."
        )
    absent += notes([row.score for ranking in report.rankings for row in ranking.rows])
    return Section(
        "ranking",
        "Ranking",
        text=(*text, *_about_stopped(report)),
        absent=(*absent, *_partial(report.rows)),
        tables=tables,
    )


def _ranking_table(caption: str, ranking: Ranking, best: ScoreRow, parts: Sequence[str]) -> Table:
    """Return the table of a list, with the best row marked if it is scored on this list."""
    # The most important columns come first: on a phone there is room for a name and one number.
    header = ("run", "action@1", "std over seeds", "verb@1", "noun@1", "seeds", "kind")
    more = (*[f"{task} mean-class@1" for task in ("action", "verb", "noun")], *parts, "action@5")
    lines = [*ranking.lines, *[("baseline", score) for score in ranking.baselines]]
    rows = tuple(
        (
            Cell(score.name),
            _scored(score, "action@1"),
            number(score.spread),
            *[_scored(score, name) for name in ("verb@1", "noun@1")],
            whole(score.num_seeds) if score.num_seeds else Cell(""),
            Cell(kind, detail=f"after epoch {score.epochs[0]}" if kind == "stopped" else ""),
            *[_scored(score, name) for name in more],
        )
        for kind, score in lines
    )
    marked = next((index for index, (_, score) in enumerate(lines) if score is best), None)
    return Table(caption, (*header, *more), rows, marked=marked)


def _about_stopped(report: Report) -> list[str]:
    """Return a sentence about variants of all lists that --halving stopped."""
    num_stopped = sum(len(ranking.stopped) for ranking in report.rankings)
    if not num_stopped:
        return []
    return [
        f"{_plural(num_stopped, 'variant')} stopped early by `--halving`: their accuracies are those after their last "
        "epoch, without intervals, and with more epochs they might be higher."
    ]


def _warnings(report: Report) -> list[str]:
    """Return sentences about rows of any list that were trained on segments that they are scored on."""
    scores = [row.score for ranking in report.rankings for row in ranking.rows]
    return [f"Warning: {score.name} was {score.note_on_training}." for score in scores if score.note_on_training]


def _partial(rows: Sequence[RankedRow]) -> list[str]:
    """Return a sentence about rows of one list that are scored on different parts of it."""
    if len({row.score.num_segments for row in rows}) == 1:
        return []
    return [
        "Rows that are scored on different segments cannot be compared; `heads evaluate --compare A B` uses the "
        "segments that both predict."
    ]


def _curves(report: Report) -> Section:
    if not report.curves:
        return Section("curves", "Learning curves", absent=("None of the runs has a metrics.csv.",))
    columns = ("val_action_top1", "val_verb_top1", "val_noun_top1")
    rows = tuple(
        (
            Cell(name),
            Cell(curve.end),
            whole(curve.num_epochs),
            Cell("") if curve.best_epoch is None else whole(curve.best_epoch),
            *[number(_at_best(curve, name)) for name in columns],
            number(curve.values["val_action_top1"][-1] if "val_action_top1" in curve.values else None),
            number(_at_best(curve, "val_loss"), 3),
            number(curve.values["train_loss"][-1], 3),
        )
        for curve, name in zip(report.curves, short_names(curve.run for curve in report.curves), strict=True)
    )
    header = (
        "run",
        "how it ended",
        "epochs",
        "kept epoch",
        "action@1",
        "verb@1",
        "noun@1",
        "action@1 of the last epoch",
        "validation loss",
        "training loss of the last epoch",
    )
    tables = [Table("Kept epoch of each run, accuracy in %", header, rows, is_drawn=True)]
    if report.failed:
        lines = tuple(tuple(map(Cell, failure)) for failure in report.failed)
        tables.append(Table("Runs that failed in a sweep", ("sweep", "variant", "seed", "reason"), lines))
    num_interrupted = sum(not curve.is_over for curve in report.curves)
    text = ["Accuracies on validation after each epoch, in %. The curve of a run that stopped early ends there."]
    if num_interrupted:
        text.append(
            f"{num_interrupted} of {len(report.curves)} runs were interrupted. They have a curve, but no row in the "
            "ranking if they have no predictions."
        )
    num_unscored = sum(curve.best_epoch is None for curve in report.curves)
    absent = (
        (f"{num_unscored} of {len(report.curves)} runs had no validation, so they only have a training loss.",)
        if num_unscored
        else ()
    )
    return Section("curves", "Learning curves", text=tuple(text), absent=absent, tables=tuple(tables))


def _at_best(curve: Curve, column: str) -> float | None:
    if curve.best_epoch is None or column not in curve.values:
        return None
    return curve.values[column][curve.best_epoch - 1]


def _factors(report: Report) -> Section:
    title = "Settings that mattered"
    omitted = tuple(f"Left out: {reason}" for reason in report.omitted)
    if isinstance(report.factors, Missing):
        return Section("factors", title, absent=(f"Main effects: {report.factors.reason}", *omitted))
    num_stopped = sum(score.num_seeds for score in report.stopped)
    stopped = (
        f"{num_stopped} of the runs were stopped early by `--halving` and count with the accuracies of their last "
        "epoch, so a value whose runs were stopped seems worse than it might have become.",
    )
    text = (
        f"For each setting that varies among the {report.num_trials} runs, the table shows the mean accuracy in % of "
        "the runs at each value, averaged over all other settings. The settings are sorted by their range: the "
        "action@1 of the best value minus that of the worst, in points. The standard deviation is that of action@1 "
        "over the runs at a value. In the plots, which share one scale, a line goes from the worst run to the best.",
        *(stopped if num_stopped else ()),
        _noise(report.seed_std),
    )
    tables = tuple(_factor(factor) for factor in report.factors)
    return Section("factors", title, text=text, absent=omitted, tables=tables)


def _noise(seed_std: float | None) -> str:
    if seed_std is None:
        return "No settings have two seeds, so it is unknown how much of a difference is due to chance."
    return (
        f"Between runs that differ in their seed alone, action@1 has a standard deviation of {seed_std:.1f} points, so "
        f"the mean of four such runs has a standard error of {seed_std / 2:.1f}. A setting with a smaller range than "
        "that has shown no effect."
    )


def _factor(factor: Factor) -> Table:
    rows = tuple(
        (
            Cell(effect.value),
            _runs(effect),
            *[number(effect.means[f"{task}@1"]) for task in ("action", "verb", "noun")],
            number(effect.spread),
            Cell(f"{effect.lowest:.1f} to {effect.highest:.1f}", effect.highest),
        )
        for effect in factor.effects
    )
    header = (factor.name, "runs", "action@1", "verb@1", "noun@1", "std of action@1", "worst to best action@1")
    notes = (
        ()
        if factor.is_balanced
        else ("Confounded: its values met different other settings, which may explain a part of the difference.",)
    )
    return Table(f"{factor.name}: {factor.range:.1f} points", header, rows, notes, is_drawn=len(rows) <= MOST_VALUES)


def _runs(effect: Effect) -> Cell:
    return Cell(f"{effect.num_runs:,}", effect.num_runs, f"{effect.num_stopped} stopped" if effect.num_stopped else "")


def _gain_by_size(report: Report) -> Section:
    title = "Ensemble gain by size"
    if isinstance(report.gain_by_size, Missing):
        return Section("growth", title, absent=(f"Gain by size: {report.gain_by_size.reason}",))
    text = (
        "action@1 in % of ensembles of 1, 2, ... runs, which average probabilities as `heads ensemble` does. Seeds are "
        f"added in at least {NUM_ORDERS} random orders, in which each seed comes first equally often. The best runs "
        f"(at most {MOST}) are added best first; they are chosen by the same segments, which favours them.",
    )
    has_seeds = any(name.startswith("seeds of") for name in report.gain_by_size)
    absent = () if has_seeds else ("Gain by seeds: no run has two seeds.",)
    tables = tuple(_gain_table(name, gain) for name, gain in report.gain_by_size.items())
    return Section("growth", title, text=text, absent=absent, tables=tables)


def _gain_table(name: str, gain: GainBySize) -> Table:
    has_one_order = gain.lowest == gain.highest
    rows = tuple(
        (
            whole(index + 1),
            number(mean),
            Cell(f"{mean - gain.mean[0]:+.1f}", mean - gain.mean[0]),
            Cell(gain.members[index])
            if has_one_order
            else Cell(f"{gain.lowest[index]:.1f} to {gain.highest[index]:.1f}", mean),
        )
        for index, mean in enumerate(gain.mean)
    )
    header = ("runs", "action@1", "gain in points", "run added" if has_one_order else "lowest to highest action@1")
    return Table(name, header, rows)


# ---- how to reproduce the runs


def _reproductions(report: Report) -> Section:
    text = (
        "These commands reproduce each run from the same features and annotations. If a run's folder still exists, "
        "nothing is trained again: give another --runs or --name to train it anew. Feature sets are the same if they "
        "have the same digest, which is in their featureset.json. The members of an ensemble are named as they were "
        "given, so run its command in the same folder.",
    )
    commands = []
    for reproduction in report.reproductions:
        has_command = isinstance(reproduction.command, str)
        notes = [] if isinstance(reproduction.command, str) else [f"No command: {reproduction.command.reason}"]
        notes += [f"features {digest}, {root}" for digest, root in reproduction.digests]
        notes += [] if reproduction.labels is None else [f"annotations {reproduction.labels}"]
        line = str(reproduction.command) if has_command else None
        commands.append(Command(reproduction.label, line, tuple(notes)))
    return Section("repeat", "How to reproduce each run", text=text, commands=tuple(commands))


def _plural(num: int, noun: str) -> str:
    """Return a count with its noun; nothing for 0."""
    return f"{num} {noun}{'' if num == 1 else 's'}" if num else ""


def _scored(score: ScoreRow, figure: str) -> Cell:
    if figure not in score.figures:
        return Cell("")
    return Cell(f"{score.figures[figure]:.1f}", score.figures[figure], _interval(score, figure))


def _interval(score: ScoreRow, figure: str) -> str:
    low, high = score.intervals.get(figure, (0, 0))
    return f"{low:.1f} to {high:.1f}" if low < high else ""
