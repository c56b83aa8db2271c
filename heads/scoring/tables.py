"""Tables of scores for people, and as JSON and CSV for programs. Computes nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from features.console import table
from features.errors import first_few
from heads.scoring.evaluation import Difference, ScoreRow
from heads.scoring.metrics import CLASSIFIER, KS, TASKS

_TOP = [f"{task}@{k}" for task in TASKS for k in KS]
_MORE = {
    "mean-class recall@5": [f"{task} mean-class@5" for task in TASKS],
    "mean-class accuracy": [f"{task} mean-class@1" for task in TASKS],
    "calibration error": [f"{task} calibration" for task in TASKS],
}


def rows(scored: Sequence[ScoreRow], form: str | None) -> str:
    """Return scores as "json", as "csv", or, where `form` is None, as tables for people."""
    if form == "json":
        return json.dumps([asdict(row) for row in scored], indent=2)
    if form == "csv":
        lines = [
            {
                "name": row.name,
                "figure": figure,
                "percent": value,
                "low": row.intervals.get(figure, ("", ""))[0],
                "high": row.intervals.get(figure, ("", ""))[1],
                "scored_on": row.scored_on,
                "seeds": row.num_seeds,
                "epochs": " ".join(str(epoch) for epoch in row.epochs if epoch is not None),
                "segments": row.num_segments,
                "known": row.num_known,
                "trained on": row.num_trained_on,
            }
            for row in scored
            for figure, value in row.figures.items()
        ]
        return _csv(lines)
    lists = dict.fromkeys(row.scored_on for row in scored)
    parts = []
    for name in lists:
        listed = [row for row in scored if row.scored_on == name]
        heading = f"scored on {name}" if len(lists) > 1 else ""
        parts += [heading, _overall(listed), _classifiers(listed), *[_by_part(listed, k) for k in KS], _more(listed)]
    warnings = [f"{row.name}: {row.note_on_training}" for row in scored if row.note_on_training]
    return "\n\n".join(part for part in [*parts, "\n".join([*notes(scored), *warnings])] if part)


def _overall(scored: Sequence[ScoreRow]) -> str:
    return table(
        ["accuracy in %", "seeds", "epoch", *_TOP, "std over seeds", "95 % interval of action@1"],
        [
            [
                row.name,
                str(row.num_seeds or ""),
                _epochs(row),
                *_cells(row, _TOP),
                "" if row.spread is None else f"{row.spread:.1f}",
                "{:.1f} to {:.1f}".format(*row.intervals["action@1"]) if row.intervals else "",
            ]
            for row in scored
        ],
    )


def _classifiers(scored: Sequence[ScoreRow]) -> str:
    """Return the accuracies of action classifiers, which are not those that the challenge scores."""
    columns = [f"{CLASSIFIER}@{k}" for k in KS]
    return _table_of("accuracy of the action classifier in %", scored, columns, columns)


def _epochs(row: ScoreRow) -> str:
    """Return the epochs that scores are of: of one run, or from the first to the last of several."""
    epochs = sorted({epoch for epoch in row.epochs if epoch is not None})
    return "-".join(map(str, epochs if len(epochs) < 2 else (epochs[0], epochs[-1])))


def _by_part(scored: Sequence[ScoreRow], k: int) -> str:
    columns = [f"{part} {task}@{k}" for part in ("unseen", "tail") for task in TASKS]
    columns = [name for name in columns if any(name in row.figures for row in scored)]
    return _table_of(f"top-{k} accuracy in % over", scored, columns, [name.removesuffix(f"@{k}") for name in columns])


def _more(scored: Sequence[ScoreRow]) -> str:
    parts = [_table_of(f"{title} in %", scored, columns, TASKS) for title, columns in _MORE.items()]
    return "\n\n".join(part for part in parts if part)


def _table_of(title: str, scored: Sequence[ScoreRow], columns: Sequence[str], headings: Sequence[str]) -> str:
    lines = [[row.name, *_cells(row, columns)] for row in scored if any(name in row.figures for name in columns)]
    return table([title, *headings], lines) if lines else ""


def _cells(row: ScoreRow, columns: Sequence[str]) -> list[str]:
    return [f"{row.figures[name]:.1f}" if name in row.figures else "" for name in columns]


def notes(scored: Sequence[ScoreRow]) -> list[str]:
    """Return sentences about rows: which folds are joined, what is scored in part, and what is not counted."""
    lines = []
    for row in scored:
        if row.num_folds:
            lines.append(f"{row.name}: {row.num_folds} folds joined; a segment is predicted by the run of its own fold")
        if row.num_segments < row.num_known:
            lines.append(f"{row.name}: scored on {row.num_segments} of the {row.num_known} segments of {row.scored_on}")
        if row.copies:
            lines.append(f"{row.name}: the same predictions as in {first_few(row.copies)}, counted once")
    return lines


def differences(compared: Sequence[Difference], form: str | None, *, of: tuple[Path, Path]) -> str:
    """Return by how much B is above A, in the forms of `rows`; the table for people names them as they were given."""
    if form == "json":
        return json.dumps([asdict(row) for row in compared], indent=2)
    if form == "csv":
        return _csv([asdict(row) for row in compared])
    lines = [
        [row.figure, f"{row.a:.1f}", f"{row.b:.1f}", f"{row.difference:+.1f}", f"{row.low:+.1f} to {row.high:+.1f}"]
        for row in compared
    ]
    shown = table(["score in %", "A", "B", "B - A in points", "95 % interval of B - A"], lines)
    first = compared[0]
    scored = f"on {first.num_segments} of the {first.num_known} segments of {first.scored_on}"
    return f"{shown}\n\nA is {of[0]}, B is {of[1]}, {scored}"


def _csv(lines: Sequence[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().rstrip("\n")
