"""A report in words and tables, the same for a page and for a terminal: all rows. Computes nothing, knows no HTML."""

from __future__ import annotations

from collections.abc import Sequence

from heads.report import closeup
from heads.report.content import Content, Place, Reason
from heads.report.curves import Curve
from heads.report.factors import MOST_VALUES, Factor
from heads.report.growth import MOST, NUM_ORDERS, Growth
from heads.report.layout import Cell, Command, Section, Table, number, whole
from heads.scoring.evaluation import ScoreRow


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
        closeup.frequency(content),
        closeup.confusions(content),
        closeup.lengths(content),
        closeup.participants(content),
        closeup.calibration(content),
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
            number(row.spread),
            *[_scored(row, name) for name in ("verb@1", "noun@1")],
            whole(row.num_seeds) if row.num_seeds else Cell(""),
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
            whole(curve.num_epochs),
            Cell("") if curve.best_epoch is None else whole(curve.best_epoch),
            *[number(_at_best(curve, name)) for name in columns],
            number(_at_best(curve, "val_loss"), 3),
            number(curve.values["train_loss"][-1], 3),
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
            whole(effect.num_runs),
            *[number(effect.means[f"{task}@1"]) for task in ("action", "verb", "noun")],
            number(effect.spread),
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
            whole(place + 1),
            number(mean),
            Cell(f"{mean - growth.mean[0]:+.1f}", mean - growth.mean[0]),
            Cell(growth.members[place])
            if ordered
            else Cell(f"{growth.lowest[place]:.1f} to {growth.highest[place]:.1f}", mean),
        )
        for place, mean in enumerate(growth.mean)
    )
    return Table(name, ("runs", "action@1", "gain", "added" if ordered else "lowest to highest"), rows)


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


# ---- in words


def _plural(num: int, what: str, more: str = "") -> str:
    """Count things; nothing where there are none."""
    return f"{num} {what}{'' if num == 1 else 's'}{more}" if num else ""


def _is_plain(place: Place) -> bool:
    return place.kind == "run" and not place.group.members.tta


def _scored(row: ScoreRow, figure: str) -> Cell:
    if figure not in row.figures:
        return Cell("")
    return Cell(f"{row.figures[figure]:.1f}", row.figures[figure], _between(row, figure))


def _between(row: ScoreRow, figure: str) -> str:
    low, high = row.intervals.get(figure, (0, 0))
    return f"{low:.1f} to {high:.1f}" if low < high else ""
