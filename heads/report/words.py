"""A report in words and tables, the same for a page and for a terminal. Computes nothing, knows no HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from heads.evaluation import Row
from heads.metrics import TASKS
from heads.report.content import Content, Place, Reason
from heads.report.curves import Curve
from heads.report.detail import LENGTHS_S, NEVER, NUM_CONFUSED, NUM_SHOWN, Matrix, Part, Third
from heads.report.factors import MOST_VALUES, Factor
from heads.report.growth import MOST, NUM_ORDERS, Growth


@dataclass(frozen=True)
class Cell:
    """One entry of a table: its text, the number to sort by (None for a word), and something smaller below it."""

    text: str
    value: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """A table: its caption, its header, rows of as many cells, and what is to be said below it.

    Attributes:
        is_drawn: a plot shows the same, so that a page may fold the table away.
        marked: the row to point out, counted from 0.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    is_drawn: bool = False
    marked: int | None = None


@dataclass(frozen=True)
class Command:
    """How to make something anew: its name, a line for a shell (or None), and what is to be said of it."""

    name: str
    line: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        key: its name for links and figures.
        of_best: whether it is about the best row alone.
        absent: what cannot be shown, each with its reason.
    """

    key: str
    title: str
    of_best: bool = False
    text: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    commands: tuple[Command, ...] = ()


def title_of(content: Content) -> str:
    """Give the title of a report."""
    return f"{content.best.label}: {content.best.group.row.figures['action@1']:.1f} % action top-1"


def summary_of(content: Content) -> tuple[tuple[str, str, str], ...]:
    """Give the figures that come first: what it is, the figure, what is to be said of it."""
    row = content.best.group.row
    top = [
        (f"{task} top-1", f"{row.figures[f'{task}@1']:.1f} %", _between(row, f"{task}@1") or "no interval")
        for task in ("action", "verb", "noun")
    ]
    num_runs = sum(len(one.group.members.paths) for one in content.places if _is_plain(one))
    others = [
        _plural(sum(one.kind == "ensemble" for one in content.places), "ensemble"),
        _plural(sum(one.kind == "file" for one in content.places), "file"),
        _plural(sum(not curve.is_over for curve in content.curves), "curve", " cut off"),
        _plural(len(content.failed), "failure"),
    ]
    beside = ", ".join(filter(None, others))
    return (*top, ("runs scored", f"{num_runs}", f"and {beside}" if beside else f"in {len(content.places)} rows"))


def sections_of(content: Content) -> tuple[Section, ...]:
    """Give the parts of a report, in their order."""
    return (
        _ranking(content),
        _curves(content),
        _factors(content),
        _growth(content),
        _frequency(content),
        _confusions(content),
        _lengths(content),
        _participants(content),
        _calibration(content),
        _repeat(content),
    )


# ---- all rows


def _ranking(content: Content) -> Section:
    # What matters comes first: on a phone there is room for a name and one figure.
    header = ("row", "action@1", "+-", "verb@1", "noun@1", "seeds", "what")
    more = [f"{task} mean-class@1" for task in ("action", "verb", "noun")]
    more += [name for name in ("unseen action@1", "tail action@1") if name in content.best.group.row.figures]
    more += [name for name in ("action@5",) if name not in more]
    lines = [(place.label, place.kind, place.group.row) for place in content.places]
    lines += [(row.name, "baseline", row) for row in content.baselines]
    rows = tuple(
        (
            Cell(label),
            _scored(row, "action@1"),
            _number(row.spread),
            *[_scored(row, name) for name in ("verb@1", "noun@1")],
            _whole(row.num_seeds) if row.num_seeds else Cell(""),
            Cell(kind),
            *[_scored(row, name) for name in more],
        )
        for label, kind, row in lines
    )
    text = (
        f"Accuracies in %, on {content.annotations}. A row of several seeds is their mean; +- is the standard "
        "deviation of its action@1 over them. Small figures hold 95 % of a bootstrap over videos; there are none where "
        "all draws are alike, as of a single video.",
    )
    absent = []
    if not content.baselines:
        absent.append(
            "Baselines (the most frequent classes, and chance): there is no training list beside the validation list."
        )
    if all(place.group.row.spread is None for place in content.places):
        absent.append("Spread over seeds: no row has two seeds (heads train --seeds 0-2).")
    if any(not place.group.row.intervals for place in content.places):
        absent.append("Intervals: where all scored segments are of one video, there is nothing to draw from.")
    for part, name in (("unseen participants", "unseen action@1"), ("tail classes", "tail action@1")):
        if name not in content.best.group.row.figures:
            absent.append(f"Accuracy over {part}: no list of them beside the validation list, or no such segment.")
    return Section(
        "ranking",
        "Ranking",
        text=text,
        absent=(*absent, *_partial(content.places)),
        tables=(Table("All rows", (*header, *more), rows, marked=content.places.index(content.best)),),
    )


def _partial(places: Sequence[Place]) -> list[str]:
    rows = [(place.label, place.group.row) for place in places]
    partial = [
        f"{label}: scored on {row.num_segments} of the {row.num_known} segments of validation"
        for label, row in rows
        if row.num_segments < row.num_known
    ]
    if partial and len({row.num_segments for _, row in rows}) > 1:
        partial.append(
            "Rows that are scored on other segments are not to be compared; `heads evaluate --compare A B` takes those "
            "that both predict."
        )
    return partial


def _curves(content: Content) -> Section:
    if not content.curves:
        return Section("curves", "Learning curves", absent=("None of the runs has a metrics.csv.",))
    columns = ("val_action_top1", "val_verb_top1", "val_noun_top1")
    rows = tuple(
        (
            Cell(_run_name(curve, content.curves)),
            Cell(curve.end),
            _whole(curve.num_epochs),
            Cell("") if curve.best_epoch is None else _whole(curve.best_epoch),
            *[_number(_at_best(curve, name)) for name in columns],
            _number(_at_best(curve, "val_loss"), 3),
            _number(curve.values["train_loss"][-1], 3),
        )
        for curve in content.curves
    )
    header = (
        "run",
        "how it ended",
        "epochs",
        "best epoch",
        "action@1",
        "verb@1",
        "noun@1",
        "val loss",
        "last train loss",
    )
    tables = [Table("At the best epoch of each run", header, rows, is_drawn=True)]
    if content.failed:
        lines = tuple(tuple(map(Cell, one)) for one in content.failed)
        tables.append(Table("Failed in a sweep", ("sweep", "variant", "seed", "why"), lines))
    num_cut = sum(not curve.is_over for curve in content.curves)
    text = ["Accuracies on validation after each epoch, in %. Runs that stopped early end where they stopped."]
    if num_cut:
        text.append(
            f"{num_cut} of {len(content.curves)} runs were cut off. They have a curve; those without predictions have "
            "no row."
        )
    blind = sum(curve.best_epoch is None for curve in content.curves)
    absent = (
        (f"{blind} of {len(content.curves)} runs had no validation: they have a training loss alone.",) if blind else ()
    )
    return Section("curves", "Learning curves", text=tuple(text), absent=absent, tables=tuple(tables))


def _at_best(curve: Curve, column: str) -> float | None:
    if curve.best_epoch is None or column not in curve.values:
        return None
    return curve.values[column][curve.best_epoch - 1]


def _run_name(curve: Curve, curves: Sequence[Curve]) -> str:
    is_alone = sum(other.run.name == curve.run.name for other in curves) == 1
    return curve.run.name if is_alone else f"{curve.run.parent.name}/{curve.run.name}"


def _factors(content: Content) -> Section:
    title = "Which setting mattered"
    omitted = tuple(f"Left out: {why}" for why in content.omitted)
    if isinstance(content.factors, Reason):
        return Section("factors", title, absent=(f"Main effects: {content.factors.why}", *omitted))
    text = (
        f"Each setting that varies among the {content.num_trials} runs: the mean of its runs at each value, averaged "
        "over everything else. The setting with the largest reach (best value minus worst, in points of action@1) "
        "comes first. Spread is the standard deviation of action@1 over the runs at a value; in the plots, which "
        "have one scale, a line goes from the worst run to the best.",
        _yardstick(content),
    )
    return Section("factors", title, text=text, absent=omitted, tables=tuple(_factor(one) for one in content.factors))


def _yardstick(content: Content) -> str:
    if content.luck is None:
        return "No settings have two seeds, so that it cannot be told how much of a difference is luck."
    return (
        f"Runs that differ in their seed alone have a standard deviation of {content.luck:.1f} points, so that the "
        f"mean of four of them is uncertain by {content.luck / 2:.1f}: a setting that reaches no further has "
        "shown nothing."
    )


def _factor(factor: Factor) -> Table:
    rows = tuple(
        (
            Cell(effect.value),
            _whole(effect.num_runs),
            *[_number(effect.means[f"{task}@1"]) for task in ("action", "verb", "noun")],
            _number(effect.spread),
            Cell(f"{effect.lowest:.1f} to {effect.highest:.1f}", effect.highest),
        )
        for effect in factor.effects
    )
    header = (factor.name, "runs", "action@1", "verb@1", "noun@1", "spread", "worst to best")
    note = (
        ()
        if factor.is_balanced
        else ("Confounded: its values met different other settings, so that part of the difference may be theirs.",)
    )
    return Table(f"{factor.name}: {factor.reach:.1f} points", header, rows, note, is_drawn=len(rows) <= MOST_VALUES)


def _growth(content: Content) -> Section:
    title = "Ensemble gain by size"
    if isinstance(content.growth, Reason):
        return Section("growth", title, absent=(f"Gain by size: {content.growth.why}",))
    text = (
        "action@1 of the mean of probabilities, as `heads ensemble` takes it, over ever more runs. Seeds are added in "
        f"{NUM_ORDERS} orders or more in which each comes first equally often; the best runs (at most {MOST}) are "
        "added best first, and are chosen by the same segments, which favours them.",
    )
    seeds = any(name.startswith("seeds of") for name in content.growth)
    absent = () if seeds else ("Gain by seeds: no run has two seeds.",)
    return Section(
        "growth",
        title,
        text=text,
        absent=absent,
        tables=tuple(_grown(name, one) for name, one in content.growth.items()),
    )


def _grown(name: str, growth: Growth) -> Table:
    ordered = growth.lowest == growth.highest
    rows = tuple(
        (
            _whole(place + 1),
            _number(mean),
            Cell(f"{mean - growth.mean[0]:+.1f}", mean - growth.mean[0]),
            Cell(growth.members[place])
            if ordered
            else Cell(f"{growth.lowest[place]:.1f} to {growth.highest[place]:.1f}", mean),
        )
        for place, mean in enumerate(growth.mean)
    )
    return Table(name, ("runs", "action@1", "gain", "added" if ordered else "lowest to highest"), rows)


# ---- the best row


def _frequency(content: Content) -> Section:
    key, title = "frequency", "Accuracy by class frequency in training"
    if isinstance(content.training, Reason):
        return Section(key, title, of_best=True, absent=(f"Accuracy by frequency: {content.training.why}",))
    text = (
        f"The classes that training shows ({content.training:,} segments) are sorted by how often it does and cut into "
        "thirds of as many classes each: head, middle, tail. The table says between how many training segments a class "
        "of each third has. Top-1 of verbs over thirds of verbs, of nouns over thirds of nouns.",
    )
    tables = tuple(_of_thirds(task, thirds) for task, thirds in content.detail.thirds.items())
    return Section(key, title, of_best=True, text=text, tables=tables)


def _of_thirds(task: str, thirds: Sequence[Third]) -> Table:
    rows = []
    for third in thirds:
        limits = "0" if third.name == NEVER else f"{third.fewest:,} to {third.most:,}"
        scored = (Cell("0", 0), Cell("none to score"))
        if third.part is not None:
            scored = (_whole(third.part.num_segments), _figure(third.part, task))
        rows.append((Cell(third.name), _whole(third.num_classes), Cell(limits, third.most), *scored))
    header = (f"{task}s", "classes", "training segments of a class", "validation segments", f"{task}@1")
    return Table(f"{task.capitalize()}s by frequency", header, tuple(rows))


def _confusions(content: Content) -> Section:
    unnamed = [task for task, named in content.detail.named.items() if not named]
    absent = [
        f"Names of {task}s: no EPIC_100_{task}_classes.csv beside the validation list, so classes have their ids."
        for task in unnamed
    ]
    tables = []
    for task, confused in content.detail.confused.items():
        if not confused:
            absent.append(f"Confused {task}s: every {task} is right.")
            continue
        rows = tuple(
            (
                Cell(one.truth),
                Cell(one.predicted),
                Cell(f"{one.count:.1f}".removesuffix(".0"), one.count),
                _number(one.share),
            )
            for one in confused
        )
        header = (f"true {task}", "taken for", "segments", "% of that class")
        tables.append(Table(f"Most confused {task}s", header, rows))
    for task, matrix in content.detail.matrices.items():
        tables.append(_of_matrix(task, matrix))
    text = (
        f"The {NUM_CONFUSED} most frequent mistakes, a mean over seeds, and what the {NUM_SHOWN} classes with most "
        "validation segments are taken for, in % of each class.",
    )
    return Section(
        "confusions", "Confused classes", of_best=True, text=text, absent=tuple(absent), tables=tuple(tables)
    )


def _of_matrix(task: str, matrix: Matrix) -> Table:
    rows = tuple(
        (Cell(name), _whole(num), *[Cell(f"{value:.0f}", value) for value in percent])
        for name, num, percent in zip(matrix.classes, matrix.num_segments, matrix.percent, strict=True)
    )
    header = (f"true {task}", "segments", *matrix.classes, "any other")
    return Table(f"Confusion matrix of the frequent {task}s, %", header, rows, is_drawn=True)


def _lengths(content: Content) -> Section:
    edges = ", ".join(f"{edge:g}" for edge in LENGTHS_S[1:-1])
    text = (f"By the length of a segment, stop minus start, cut at {edges} seconds.",)
    table = _of_parts("By segment length", "length", content.detail.lengths)
    return Section("lengths", "Accuracy by segment length", of_best=True, text=text, tables=(table,))


def _participants(content: Content) -> Section:
    detail = content.detail
    text = ["Where all segments of a participant are of one video, there is no interval."]
    absent, tables = [], []
    if detail.unseen is None:
        absent.append(
            "Unseen participants: no EPIC_100_unseen_participant_ids_validation.csv beside the validation list."
        )
    else:
        tables.append(_of_parts("Participants that training does not show", "participants", detail.unseen))
        text.insert(0, "Unseen participants are those of the published list.")
    marked = {part.name: f"{part.name} (unseen)" for part in detail.participants if part.name in detail.strangers}
    tables.append(_of_parts("By participant", "participant", detail.participants, marked))
    return Section("participants", "Accuracy by participant", True, tuple(text), tuple(absent), tuple(tables))


def _of_parts(caption: str, first: str, parts: Iterable[Part], names: Mapping[str, str] | None = None) -> Table:
    rows = tuple(
        (
            Cell((names or {}).get(part.name, part.name)),
            _whole(part.num_segments),
            *[_figure(part, task) for task in ("action", "verb", "noun")],
        )
        for part in parts
    )
    return Table(caption, (first, "segments", "action@1", "verb@1", "noun@1"), rows)


def _calibration(content: Content) -> Section:
    figures = content.best.group.row.figures
    errors = ", ".join(f"{task}s {figures[f'{task} calibration']:.1f} %" for task in TASKS)
    text = (
        f"How often the best class is right, by how sure it is. Expected calibration error over 15 bins: {errors}. "
        "Below the diagonal, it is surer than it should be; `heads ensemble --temperature` mends that.",
    )
    tables = tuple(
        Table(
            f"Reliability of {task}s",
            ("confidence, %", "accuracy, %", "segments"),
            tuple(
                (_number(one.confidence), _number(one.accuracy), Cell(f"{one.num:,.1f}".removesuffix(".0"), one.num))
                for one in bins
            ),
            is_drawn=True,
        )
        for task, bins in content.detail.reliability.items()
    )
    return Section("calibration", "Calibration", of_best=True, text=text, tables=tables)


# ---- how to repeat them


def _repeat(content: Content) -> Section:
    text = (
        "These commands make each run anew, from the features and annotations where they lay. Where a run's folder is "
        "still there, nothing is trained twice: give another --runs or --name to train it again. The same features are "
        "those of the same digest, which stands in their featureset.json. Members of an ensemble are named as they "
        "were given: its command is to be typed where it was.",
    )
    commands = []
    for recipe in content.recipes:
        notes = [] if not isinstance(recipe.command, Reason) else [f"No command: {recipe.command.why}"]
        notes += [f"features {digest}, {root}" for digest, root in recipe.digests]
        notes += [] if recipe.labels is None else [f"annotations {recipe.labels}"]
        line = recipe.command if isinstance(recipe.command, str) else None
        commands.append(Command(recipe.label, line, tuple(notes)))
    return Section("repeat", "How to repeat each run", text=text, commands=tuple(commands))


# ---- cells


def _plural(num: int, what: str, more: str = "") -> str:
    """Count things; nothing where there are none."""
    return f"{num} {what}{'' if num == 1 else 's'}{more}" if num else ""


def _is_plain(place: Place) -> bool:
    return place.kind == "run" and not place.group.members.tta


def _number(value: float | None, digits: int = 1) -> Cell:
    return Cell("") if value is None or not math.isfinite(value) else Cell(f"{value:.{digits}f}", value)


def _whole(value: int) -> Cell:
    return Cell(f"{value:,}", value)


def _scored(row: Row, figure: str) -> Cell:
    if figure not in row.figures:
        return Cell("")
    return Cell(f"{row.figures[figure]:.1f}", row.figures[figure], _between(row, figure))


def _between(row: Row, figure: str) -> str:
    low, high = row.intervals.get(figure, (0, 0))
    return f"{low:.1f} to {high:.1f}" if low < high else ""


def _figure(part: Part, task: str) -> Cell:
    low, high = part.intervals.get(task, (0, 0))
    inside = f"{low:.1f} to {high:.1f}" if low < high else ""
    return Cell(f"{part.figures[task]:.1f}", part.figures[task], inside)
