"""Scores in words: tables for people, JSON and CSV for programs. Computes nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from features.console import table
from heads.ensemble import Ensemble, Gain
from heads.evaluation import Difference, Row
from heads.metrics import KS, TASKS
from heads.posthoc import Correction
from heads.sweep import SweepResult

_TOP = [f"{task}@{k}" for task in TASKS for k in KS]
_MORE = {
    "mean-class recall@5": [f"{task} mean-class@5" for task in TASKS],
    "mean-class accuracy": [f"{task} mean-class@1" for task in TASKS],
    "calibration error": [f"{task} calibration" for task in TASKS],
}


def rows(scored: Sequence[Row], form: str | None) -> str:
    """Lay out scores; `form` is "json", "csv", or None for people."""
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
                "seeds": row.num_seeds,
                "segments": row.num_segments,
                "known": row.num_known,
            }
            for row in scored
            for figure, value in row.figures.items()
        ]
        return _csv(lines)
    parts = [_overall(scored), *[_by_part(scored, k) for k in KS], _more(scored), *_notes(scored)]
    return "\n\n".join(part for part in parts if part)


def _overall(scored: Sequence[Row]) -> str:
    return table(
        ["accuracy in %", "seeds", *_TOP, "+-", "95 % of action@1"],
        [
            [
                row.name,
                str(row.num_seeds or ""),
                *_cells(row, _TOP),
                "" if row.spread is None else f"{row.spread:.1f}",
                "{:.1f} to {:.1f}".format(*row.intervals["action@1"]) if row.intervals else "",
            ]
            for row in scored
        ],
    )


def _by_part(scored: Sequence[Row], k: int) -> str:
    columns = [f"{part} {task}@{k}" for part in ("unseen", "tail") for task in TASKS]
    columns = [name for name in columns if any(name in row.figures for row in scored)]
    return _table_of(f"top-{k} in % over", scored, columns, [name.removesuffix(f"@{k}") for name in columns])


def _more(scored: Sequence[Row]) -> str:
    parts = [_table_of(f"{title}, %", scored, columns, TASKS) for title, columns in _MORE.items()]
    return "\n\n".join(part for part in parts if part)


def _table_of(title: str, scored: Sequence[Row], columns: Sequence[str], headings: Sequence[str]) -> str:
    lines = [[row.name, *_cells(row, columns)] for row in scored if any(name in row.figures for name in columns)]
    return table([title, *headings], lines) if lines else ""


def _cells(row: Row, columns: Sequence[str]) -> list[str]:
    return [f"{row.figures[name]:.1f}" if name in row.figures else "" for name in columns]


def _notes(scored: Sequence[Row]) -> list[str]:
    partial = [row for row in scored if row.num_segments < row.num_known]
    lines = [
        f"{row.name}: scored on {row.num_segments} of the {row.num_known} segments of validation" for row in partial
    ]
    return ["\n".join(lines)] if lines else []


def differences(found: Sequence[Difference], form: str | None) -> str:
    """Lay out how much B is above A."""
    if form == "json":
        return json.dumps([asdict(one) for one in found], indent=2)
    if form == "csv":
        return _csv([asdict(one) for one in found])
    lines = [
        [one.figure, f"{one.a:.1f}", f"{one.b:.1f}", f"{one.difference:+.1f}", f"{one.low:+.1f} to {one.high:+.1f}"]
        for one in found
    ]
    shown = table(["in %", "A", "B", "B - A", "95 %"], lines)
    return f"{shown}\n\non {found[0].num_segments} of the {found[0].num_known} segments of validation"


def ensemble(written: Ensemble) -> str:
    """Say what an ensemble gains, whom it trusts, what each correction does, and how much its members differ."""
    lines = [f"action@1: {_with_interval(gain)} over {what}" for what, gain in written.gains.items()]
    if written.is_fitted:
        lines.append("Validation is cross-fitted: each video is predicted by what the others say.")
        for task, weights in written.weights.items():
            order = sorted(zip(weights, written.members, strict=True), key=lambda pair: -pair[0])
            trusted = ", ".join(f"{member.name} {weight:.2f}" for weight, member in order if weight >= 0.005)
            lines.append(f"weights of {task}s: {trusted}")
    for name, changes in written.corrections.items():
        said = "; ".join(f"{figure} {_with_interval(gain)}" for figure, gain in changes.items())
        lines.append(f"{name} alone ({_fitted(written.correction, name)} in the ensemble): {said}")
    if written.disagreement:
        differing = ", ".join(f"{task} {share:.1f} %" for task, share in written.disagreement.items())
        lines.append(f"two members differ about the best {differing}")
    return "\n".join(lines)


def _with_interval(gain: Gain) -> str:
    points, low, high = gain
    return f"{points:+.1f} (95 %: {low:+.1f} to {high:+.1f})"


def _fitted(correction: Correction, name: str) -> str:
    """Name the numbers of one correction."""
    if name == "pairs":
        return f"power {correction.pair_power:.1f}"
    letter, (verb, noun) = ("T", correction.temperature) if name == "temperature" else ("tau", correction.tau)
    return f"{letter} {verb:.2f} for verbs, {noun:.2f} for nouns"


def sweep(results: Sequence[SweepResult], form: str | None) -> str:
    """Lay out the variants of a sweep, best first; `form` is "json" or None for people."""
    if form == "json":
        return json.dumps([asdict(one) for one in results], indent=2)
    varied = list(results[0].values)
    halved = any(one.stopped for one in results)
    lines = [
        [
            *one.values.values(),
            f"{one.mean:.1f}" if one.scores else "",
            f"{np.std(one.scores, ddof=1):.1f}" if len(one.scores) > 1 else "",
            str(len(one.scores)),
            str(len(one.failed) or ""),
            *([f"at epoch {one.stopped}" if one.stopped else ""] if halved else []),
        ]
        for one in results
    ]
    return table([*varied, "action@1", "+-", "runs", "failed", *(["stopped"] if halved else [])], lines, left=varied)


def _csv(lines: Sequence[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().rstrip("\n")
