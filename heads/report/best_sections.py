"""The sections of a report about its best row, segment by segment. Computes nothing, knows no HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from heads.report.breakdown import LENGTHS_S, NEVER, NUM_CONFUSED, NUM_SHOWN, ConfusionMatrix, FrequencyGroup, Subset
from heads.report.compute import Missing, Report
from heads.report.document import Cell, Section, Table, number, whole
from heads.scoring.metrics import NUM_BINS, TASKS


def frequency(report: Report) -> Section:
    """Return accuracy by how often training shows a class."""
    key, title = "frequency", "Accuracy by class frequency in training"
    if isinstance(report.training, Missing) or report.breakdown.frequency is None:
        reason = report.training.reason if isinstance(report.training, Missing) else "training shows no class."
        return Section(key, title, of_best=True, absent=(f"Accuracy by frequency: {reason}",))
    text = (
        f"The classes in training ({report.training:,} segments) are sorted by their number of training segments and "
        "divided into three groups with the same number of classes: head, middle, tail. Verbs are grouped by the "
        "frequency of verbs, nouns by that of nouns.",
    )
    tables = tuple(_frequency_table(task, groups) for task, groups in report.breakdown.frequency.items())
    return Section(key, title, of_best=True, text=text, tables=tables)


def _frequency_table(task: str, groups: Sequence[FrequencyGroup]) -> Table:
    rows = []
    for group in groups:
        limits = "0" if group.name == NEVER else f"{group.fewest:,} to {group.most:,}"
        scored = (Cell("0", 0), Cell("none to score"))
        if group.subset is not None:
            scored = (whole(group.subset.num_segments), _accuracy(group.subset, task))
        rows.append((Cell(group.name), whole(group.num_classes), Cell(limits, group.most), *scored))
    header = (f"{task}s", "classes", "training segments per class", "validation segments", f"{task}@1 in %")
    return Table(f"{task.capitalize()}s by frequency", header, tuple(rows))


def confusions(report: Report) -> Section:
    """Return the most frequent mistakes, and confusion matrices."""
    unnamed = [task for task, is_named in report.breakdown.named.items() if not is_named]
    absent = [
        f"Names of {task}s: there is no EPIC_100_{task}_classes.csv beside the validation list, so ids are shown."
        for task in unnamed
    ]
    tables = []
    for task, mistakes in report.breakdown.confused.items():
        if not mistakes:
            absent.append(f"Confused {task}s: every {task} is right.")
            continue
        rows = tuple(
            (
                Cell(mistake.truth),
                Cell(mistake.predicted),
                Cell(f"{mistake.count:.1f}".removesuffix(".0"), mistake.count),
                number(mistake.share),
            )
            for mistake in mistakes
        )
        header = (f"true {task}", f"predicted {task}", "segments", "% of the true class")
        tables.append(Table(f"Most confused {task}s", header, rows))
    for task, matrix in report.breakdown.matrices.items():
        tables.append(_matrix_table(task, matrix))
    text = (
        f"The {NUM_CONFUSED} most frequent mistakes, as a mean over seeds, and the predictions for the {NUM_SHOWN} "
        "classes with most validation segments, in % of the segments of each true class.",
    )
    return Section(
        "confusions", "Confused classes", of_best=True, text=text, absent=tuple(absent), tables=tuple(tables)
    )


def _matrix_table(task: str, matrix: ConfusionMatrix) -> Table:
    rows = tuple(
        (Cell(name), whole(num), *[Cell(f"{value:.0f}", value) for value in percent])
        for name, num, percent in zip(matrix.classes, matrix.num_segments, matrix.percent, strict=True)
    )
    header = (f"true {task}", "segments", *matrix.classes, "any other")
    return Table(f"Confusion matrix of the frequent {task}s, %", header, rows, is_drawn=True)


def lengths(report: Report) -> Section:
    """Return accuracy by the length of a segment."""
    edges = ", ".join(f"{edge:g}" for edge in LENGTHS_S[1:-1])
    text = (f"The length of a segment is its stop time minus its start time; the groups end at {edges} seconds.",)
    table = _subset_table("By segment length, accuracy in %", "length", report.breakdown.lengths)
    return Section("lengths", "Accuracy by segment length", of_best=True, text=text, tables=(table,))


def participants(report: Report) -> Section:
    """Return accuracy by participant, and by whether training shows the participant."""
    breakdown = report.breakdown
    text = ["There is no interval where all segments of a participant are of one video."]
    absent, tables = [], []
    if breakdown.unseen is None:
        absent.append(
            "Unseen participants: there is no EPIC_100_unseen_participant_ids_validation.csv beside the validation "
            "list."
        )
    else:
        tables.append(_subset_table("Participants in training or not, accuracy in %", "participants", breakdown.unseen))
        text.insert(0, "Unseen participants are those of the published list.")
    names = {
        subset.name: f"{subset.name} (unseen)"
        for subset in breakdown.participants
        if subset.name in breakdown.unseen_participants
    }
    tables.append(_subset_table("By participant, accuracy in %", "participant", breakdown.participants, names))
    return Section("participants", "Accuracy by participant", True, tuple(text), tuple(absent), tuple(tables))


def _subset_table(caption: str, first: str, subsets: Iterable[Subset], names: Mapping[str, str] | None = None) -> Table:
    rows = tuple(
        (
            Cell((names or {}).get(subset.name, subset.name)),
            whole(subset.num_segments),
            *[_accuracy(subset, task) for task in ("action", "verb", "noun")],
        )
        for subset in subsets
    )
    return Table(caption, (first, "segments", "action@1", "verb@1", "noun@1"), rows)


def calibration(report: Report) -> Section:
    """Return accuracy by confidence."""
    figures = report.best.score.figures
    errors = ", ".join(f"{task}s {figures[f'{task} calibration']:.1f} %" for task in TASKS)
    text = (
        "Accuracy of the predicted class by its confidence, the probability that the head gives it. Expected "
        f"calibration error over {NUM_BINS} bins (less is better): {errors}. Below the diagonal, the head is "
        "overconfident; `heads ensemble --temperature` corrects that.",
    )
    tables = tuple(
        Table(
            f"Reliability of {task}s",
            ("confidence, %", "accuracy, %", "segments"),
            tuple(
                (number(bin_.confidence), number(bin_.accuracy), Cell(f"{bin_.num:,.1f}".removesuffix(".0"), bin_.num))
                for bin_ in bins
            ),
            is_drawn=True,
        )
        for task, bins in report.breakdown.reliability.items()
    )
    return Section("calibration", "Calibration", of_best=True, text=text, tables=tables)


def _accuracy(subset: Subset, task: str) -> Cell:
    low, high = subset.intervals.get(task, (0, 0))
    interval = f"{low:.1f} to {high:.1f}" if low < high else ""
    return Cell(f"{subset.figures[task]:.1f}", subset.figures[task], interval)
