"""Scores: of runs on validation, of one run against another, and as a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from heads.api.arguments import AnyPath, optional_path, sources_of, texts_of
from heads.prediction_files import parse_scores
from heads.runs import find_predicted, find_reported
from heads.scoring.against import annotations_for, lists_for
from heads.scoring.evaluation import Difference, ScoreRow, compare_sources, evaluate_lists

if TYPE_CHECKING:
    from heads.report.compute import Report


def evaluate(
    sources: Sequence[AnyPath] = (),
    *,
    annotations: AnyPath | None = None,
    runs: AnyPath = "runs",
    each: bool = False,
    scores: str | Sequence[str] = (),
) -> list[ScoreRow]:
    """Return the validation scores of runs, ensembles or predictions files, one row per run with its seeds averaged.

        for row in heads.evaluate(["runs/bilstm-seed0", "runs/ensemble"]):
            print(row.name, row.figures["action@1"], row.intervals["action@1"])

    The rows of a list that runs are scored on follow each other (`row.scored_on`). The runs of all folds of a head are
    one row. Rows of two baselines follow where the training list is known: the most frequent classes, and chance.

    Args:
        sources: a folder of runs stands for everything in it; everything in `runs` by default. Copies count once.
        annotations: validation CSV or folder of annotation files; by default those that the runs were trained with.
        runs: folder of the run folders.
        each: one row per seed.
        scores: what predictions files hold, "logits" or "probabilities", or of some files "FILE=logits"; by default,
            files whose rows are from 0 to 1 and sum to 1 hold probabilities. A note on stderr says what a file was
            taken for.

    Raises:
        OptionError: `scores` is something else, or about a file that is not among the sources.
        DataError: a run or a file is missing, or predicts segments that validation does not have.
    """
    paths = sources_of(sources, runs, find_predicted)
    kinds = parse_scores(texts_of(scores), paths)
    return evaluate_lists(lists_for(paths, optional_path(annotations), kinds), each=each)


def compare(
    a: AnyPath, b: AnyPath, *, annotations: AnyPath | None = None, scores: str | Sequence[str] = ()
) -> list[Difference]:
    """Return by how much each score of run `b` is above that of run `a`, on the segments that both predict.

        action = next(row for row in heads.compare("runs/a-seed0", "runs/b-seed0") if row.figure == "action@1")
        print(action.difference, action.low, action.high)

    Args:
        a, b: run folders or predictions files.
        annotations, scores: as for `evaluate`.

    Raises:
        DataError: as for `evaluate`, or no segment is predicted by both.
    """
    both = (Path(a), Path(b))
    kinds = parse_scores(texts_of(scores), both)
    return compare_sources(both, annotations_for(both, optional_path(annotations)), scores=kinds)


def make_report(
    sources: Sequence[AnyPath] = (),
    *,
    form: Literal["html", "md"] = "html",
    annotations: AnyPath | None = None,
    runs: AnyPath = "runs",
    scores: str | Sequence[str] = (),
) -> str:
    """Return a report of runs as the text of a page: ranking, learning curves, settings that mattered, mistakes.

        Path("report.html").write_text(heads.make_report(["runs/sweep"]))

    Args:
        sources: a folder of runs stands for everything in it; everything in `runs` and in folders of runs there by
            default. Runs that are not finished have a learning curve.
        form: "html" for one page with plots that needs no network, "md" for its tables as Markdown.
        annotations, runs, scores: as for `evaluate`.

    Raises:
        DataError: as for `evaluate`.
    """
    content = report_of(sources, annotations=annotations, runs=runs, scores=scores)
    if form == "md":
        from heads.report.markdown import as_markdown

        return as_markdown(content)
    # Not at the top: plots load matplotlib, which nothing else here needs.
    from heads.report.html import as_page
    from heads.report.plots import draw

    return as_page(content, draw(content))


def report_of(
    sources: Sequence[AnyPath] = (),
    *,
    annotations: AnyPath | None = None,
    runs: AnyPath = "runs",
    scores: str | Sequence[str] = (),
) -> Report:
    """Return what a report shows, before it becomes a page. Arguments and errors are those of `make_report`."""
    from heads.report.compute import compute_report

    paths = sources_of(sources, runs, find_reported)
    kinds = parse_scores(texts_of(scores), paths)
    return compute_report(lists_for(paths, optional_path(annotations), kinds))
