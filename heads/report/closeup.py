"""The sections of a report that look closely at its best row, segment by segment. Computes nothing, knows no HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from heads.report.content import Content, Reason
from heads.report.detail import LENGTHS_S, NEVER, NUM_CONFUSED, NUM_SHOWN, Matrix, Part, Third
from heads.report.layout import Cell, Section, Table, number, whole
from heads.scoring.metrics import NUM_BINS, TASKS


def frequency(content: Content) -> Section:
    """Say how accuracy depends on how often training shows a class."""
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
            scored = (whole(third.part.num_segments), _figure(third.part, task))
        rows.append((Cell(third.name), whole(third.num_classes), Cell(limits, third.most), *scored))
    header = (f"{task}s", "classes", "training segments of a class", "validation segments", f"{task}@1")
    return Table(f"{task.capitalize()}s by frequency", header, tuple(rows))


def confusions(content: Content) -> Section:
    """Say which classes are taken for which."""
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
                number(one.share),
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
        (Cell(name), whole(num), *[Cell(f"{value:.0f}", value) for value in percent])
        for name, num, percent in zip(matrix.classes, matrix.num_segments, matrix.percent, strict=True)
    )
    header = (f"true {task}", "segments", *matrix.classes, "any other")
    return Table(f"Confusion matrix of the frequent {task}s, %", header, rows, is_drawn=True)


def lengths(content: Content) -> Section:
    """Say how accuracy depends on the length of a segment."""
    edges = ", ".join(f"{edge:g}" for edge in LENGTHS_S[1:-1])
    text = (f"By the length of a segment, stop minus start, cut at {edges} seconds.",)
    table = _of_parts("By segment length", "length", content.detail.lengths)
    return Section("lengths", "Accuracy by segment length", of_best=True, text=text, tables=(table,))


def participants(content: Content) -> Section:
    """Say how accuracy depends on who is seen."""
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
            whole(part.num_segments),
            *[_figure(part, task) for task in ("action", "verb", "noun")],
        )
        for part in parts
    )
    return Table(caption, (first, "segments", "action@1", "verb@1", "noun@1"), rows)


def calibration(content: Content) -> Section:
    """Say how far confidence can be trusted."""
    figures = content.best.group.row.figures
    errors = ", ".join(f"{task}s {figures[f'{task} calibration']:.1f} %" for task in TASKS)
    text = (
        f"How often the best class is right, by how sure it is. Expected calibration error over {NUM_BINS} bins: "
        f"{errors}. Below the diagonal, it is surer than it should be; `heads ensemble --temperature` mends that.",
    )
    tables = tuple(
        Table(
            f"Reliability of {task}s",
            ("confidence, %", "accuracy, %", "segments"),
            tuple(
                (number(one.confidence), number(one.accuracy), Cell(f"{one.num:,.1f}".removesuffix(".0"), one.num))
                for one in bins
            ),
            is_drawn=True,
        )
        for task, bins in content.detail.reliability.items()
    )
    return Section("calibration", "Calibration", of_best=True, text=text, tables=tables)


def _figure(part: Part, task: str) -> Cell:
    low, high = part.intervals.get(task, (0, 0))
    inside = f"{low:.1f} to {high:.1f}" if low < high else ""
    return Cell(f"{part.figures[task]:.1f}", part.figures[task], inside)
