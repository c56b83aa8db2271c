"""`heads evaluate`, `report`, `ensemble` and `submit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from features.console import HeadedCommand, human_size
from features.errors import first_few
from heads.commands.options import (
    PATH,
    RUNS_HELP,
    folder_option,
    runs_option,
    scored_against_option,
    scores_option,
    stage_1_installed,
    under,
)

if TYPE_CHECKING:
    from heads.report.gallery import Gallery

_LEVEL = click.IntRange(0, 5)


@click.command(short_help="Score runs, ensembles or predictions files on validation.")
@click.argument("sources", metavar="[RUN|PREDICTIONS]...", nargs=-1, type=PATH)
@scored_against_option
@scores_option()
@runs_option
@click.option("--each", is_flag=True, help="Show a row per seed, instead of their mean.")
@click.option(
    "--compare", "pair", nargs=2, type=PATH, metavar="A B", help="Show by how much B is above A, with intervals."
)
@click.option("--json", "form", flag_value="json", help="Print all scores with their intervals as JSON, for programs.")
@click.option("--csv", "form", flag_value="csv", help="Print all scores with their intervals as CSV.")
def evaluate(
    sources: tuple[Path, ...],
    annotations: Path | None,
    runs: Path,
    scores: tuple[str, ...],
    each: bool,
    pair: tuple[Path, Path] | None,
    form: str | None,
) -> None:
    """Score runs, ensembles or predictions files on validation; by default, everything in --runs.

    A folder of runs stands for everything in it. Predictions that `heads predict --tta` wrote have a row of their own.
    The runs of all folds of a head are one row, and each list that runs are scored on has a table. Accuracies are
    computed as the challenge computes them. Intervals hold 95 % of 1,000 bootstrap draws over videos. The lists of
    unseen participants and tail classes are read from the folder of the validation CSV.

    \b
    Examples:
      heads evaluate runs/bilstm-seed0 runs/ensemble
      heads evaluate --compare runs/bilstm-seed0 runs/ensemble
    """
    from heads.api.scores import compare
    from heads.api.scores import evaluate as evaluate_runs
    from heads.scoring import tables

    if pair is None:
        click.echo(
            tables.rows(evaluate_runs(sources, annotations=annotations, runs=runs, each=each, scores=scores), form)
        )
        return
    if sources:
        raise click.UsageError("--compare takes two runs; no others can be scored beside them.")
    click.echo(tables.differences(compare(*pair, annotations=annotations, scores=scores), form, of=pair))


@click.command(short_help="Write a page about runs: ranking, curves, settings, mistakes.")
@click.argument("sources", metavar="[RUN|FOLDER]...", nargs=-1, type=PATH)
@click.option(
    "--out", "-o", type=PATH, help="File to write.  [default: report.html; with --format md, standard output]"
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "md"]),
    default="html",
    show_default=True,
    help="html: a page with plots, in one file. md: its tables as Markdown, for a terminal.",
)
@scored_against_option
@scores_option()
@runs_option
@click.option(
    "--videos",
    type=PATH,
    help="Folder of the videos, as for `extract run`: adds a gallery of segments, with frames of each. Needs "
    "`pip install '.[extract]'`.",
)
@click.option(
    "--gallery",
    "num_strips",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of segments in the gallery.  [default: 200]",
)
@click.option(
    "--input",
    "input_form",
    metavar="video|frames|chunks",
    help="The form to read where --videos holds a video in several forms.  [default: the form that is there]",
)
@click.option("--frames-fps", type=float, metavar="N", help="Frames per second of JPEG frames, as for `extract run`.")
@click.option(
    "--boxes",
    type=PATH,
    help="Where hands and objects are, as for `extract run`: draws them over the frames of the gallery.",
)
def report(
    sources: tuple[Path, ...],
    out: Path | None,
    form: Literal["html", "md"],
    videos: Path | None,
    num_strips: int | None,
    input_form: str | None,
    frames_fps: float | None,
    boxes: Path | None,
    **options: Any,
) -> None:
    """Write a page about runs: a ranking, learning curves, the settings that mattered, and the mistakes.

    By default, the page is about everything in --runs, and in folders of runs there, such as a sweep's. A folder of
    runs stands for everything in it. Runs that are not finished have a learning curve. The page needs no network.

    With --videos, the page has a gallery: five frames of each of some segments, with what was predicted of them.

    \b
    Examples:
      heads report
      heads report runs/sweep -o sweep.html
      heads report --videos data/videos
      heads report --format md runs/sweep | less -S
    """
    from features.files import write_text
    from heads.api.scores import make_report

    gallery = None
    of_videos: dict[str, Any] = {
        "num_strips": num_strips,
        "input_form": input_form,
        "frames_fps": frames_fps,
        "boxes": boxes,
    }
    given = {name: value for name, value in of_videos.items() if value is not None}
    if videos is None:
        if given:
            raise click.UsageError("--gallery, --input, --frames-fps and --boxes are of use with --videos only.")
        text = make_report(sources, form=form, **options)
    elif form == "md":
        raise click.UsageError("--videos adds pictures to a page; with --format md there are none.")
    else:
        with stage_1_installed("--videos"):
            from live.gallery import make_report as make_report_with_gallery
        text, gallery = make_report_with_gallery(sources, videos=videos, **given, **options)
    if form == "html":
        out = out or Path("report.html")
    if out is None:
        click.echo(text, nl=False)
        return
    write_text(out, text)
    click.echo(f"{out} ({human_size(out.stat().st_size)})")
    if gallery is not None:
        _print_gallery(gallery)


def _print_gallery(gallery: Gallery) -> None:
    click.echo(f"gallery: {len(gallery.strips)} strips")
    missing = {strip.example.narration_id: strip.missing for strip in gallery.strips if strip.missing}
    if missing:
        reasons = first_few(dict.fromkeys(missing.values()), limit=3)
        click.echo(f"without frames: {len(missing)} strips ({first_few(missing)}): {reasons}", err=True)
    if gallery.without_boxes:
        click.echo(f"without boxes: {first_few(gallery.without_boxes, limit=3)}", err=True)
    if gallery.num_left_out:
        click.echo(f"left out, as the page would have been too large: {gallery.num_left_out} strips", err=True)


@click.command(short_help="Average the predictions of runs into an ensemble.")
@click.argument("members", metavar="[RUN|PREDICTIONS]...", nargs=-1, type=PATH)
@runs_option
@click.option("--name", default="ensemble", show_default=True, help="Name of the ensemble's folder in --runs.")
@click.option("--force", is_flag=True, help="Replace an ensemble of other members.")
@scored_against_option
@scores_option()
@click.option(
    "--mean",
    type=click.Choice(["probabilities", "logits"]),
    default="probabilities",
    show_default=True,
    help="What is averaged.",
)
@click.option(
    "--weights",
    default="uniform",
    show_default=True,
    help="uniform; fitted (to validation, cross-validated over videos); or one number per member, as 2,1,1.",
)
@click.option(
    "--greedy",
    is_flag=True,
    help="Choose members one by one, each as often as it helps. For ensembles of large sweeps.",
)
@click.option("--per-task", is_flag=True, help="Fit separate weights for verbs and for nouns.")
@click.option("--temperature", is_flag=True, help="After the weights, fit a temperature per task.")
@click.option(
    "--adjust",
    is_flag=True,
    help="After the weights, fit the factor of the log prior that is subtracted (logit adjustment).",
)
@click.option(
    "--pairs",
    is_flag=True,
    help="After the weights, fit a weight for how often verbs and nouns occur together in training.",
)
@click.option(
    "--fold-actions",
    is_flag=True,
    help="After the weights, fit a weight for what action classifiers say (heads train --action-head), which is folded "
    "into verbs and nouns.",
)
@click.option(
    "--sequence",
    is_flag=True,
    help="After the weights, fit a weight for which actions precede and follow one another in training.",
)
@click.option("--tta", is_flag=True, help="Average the predictions that `heads predict --tta` wrote.")
def ensemble(members: tuple[Path, ...], weights: str, greedy: bool, annotations: Path | None, **options: Any) -> None:
    """Average the predictions of runs into an ensemble; by default, of all finished runs in --runs.

    A folder of runs stands for all finished runs in it. Fitted weights and corrections are estimated on validation,
    with cross-validation over videos, and their gain is shown with an interval.

    \b
    Examples:
      heads ensemble runs/multiscale_lstm-seed*
      heads ensemble --greedy --per-task --name best runs/sweep
    """
    from heads.api.ensembles import ensemble as make_ensemble
    from heads.ensembles.table import ensemble_table
    from heads.scoring import tables

    if greedy and weights != "uniform":
        raise click.UsageError("--greedy and --weights exclude each other.")
    written = make_ensemble(
        members, weights="greedy" if greedy else _numbers(weights), annotations=annotations, **options
    )
    if written.scores:
        click.echo(tables.rows(written.scores, None))
        click.echo("\n" + ensemble_table(written))
    splits = " and ".join(written.splits)
    if written.copies:
        click.echo(f"left out, as a member has the same predictions: {first_few(written.copies)}", err=True)
    has_folds = len(written.names) < len(written.members)
    names = first_few(written.names if has_folds else map(str, written.members))
    click.echo(f"{written.folder}: predictions for {splits} of {len(written.names)} members: {names}")


def _numbers(text: str) -> str | tuple[float, ...]:
    """Return numbers that commas separate; a single word as it is."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return text


_level_option = under("Levels of supervision, 0 to 5 (epic-kitchens/SLS)")
_submit_option = under("Options")


@click.command(cls=HeadedCommand, short_help="Write and check the files for the challenge's servers.")
@click.argument("run", metavar="[RUN|PREDICTIONS]", required=False, type=PATH)
@_submit_option(
    "--annotations",
    type=PATH,
    help="CSV of the segments that the server scores.  [default: the test list that the run was trained with]",
)
@folder_option("--runs", "EPIC_RUNS", "runs", RUNS_HELP, _submit_option)
@_submit_option("--out", type=PATH, help="Folder for the files.  [default: submission/ in the run's folder]")
@_submit_option("--expect", type=int, metavar="N", help="Stop unless there are exactly N segments.")
@_submit_option(
    "--missing",
    type=click.Choice(["error", "omit", "prior"]),
    default="error",
    show_default=True,
    help="For segments without a prediction: error: stop. omit: leave them out. prior: predict the class frequencies "
    "of the training list.",
)
@scores_option(_submit_option)
@_submit_option("--check", type=PATH, metavar="FILE", help="Write nothing; check a file of any of the three kinds.")
@_submit_option("--force", is_flag=True, help="Replace files that are there.")
@_level_option(
    "--sls-pt",
    type=_LEVEL,
    help="Pretraining. 0 none, 1 public images, 2 public images and videos, 3 self-supervised on public data, 4 the "
    "same and EPIC's videos, 5 private data.  [default: the level in the feature sets' records]",
)
@_level_option(
    "--sls-tl",
    type=_LEVEL,
    default=3,
    show_default=True,
    help="Training labels. 0 none, 1 per video, 2 narration times, 3 start and stop times, 4 spatial ones too, 5 "
    "outside priors too.",
)
@_level_option(
    "--sls-td",
    type=_LEVEL,
    help="Training data. 0 zero-shot, 1 few-shot, 2 up to 25 %, 3 train, 4 train and validation, 5 more.  [default: "
    "3; 4 if the run was trained on validation too]",
)
def submit(run: Path | None, annotations: Path | None, expect: int | None, check: Path | None, **options: Any) -> None:
    """Write the files for the challenge's servers; by default, from the ensemble in --runs that was written last.

    submission.pt and ensemble_submission.zip (which holds it) list the scores per segment; epic_submission.zip is the
    file of the public challenge. Before they are written, they are checked against the list of segments.

    \b
    Examples:
      heads submit runs/ensemble --annotations EPIC_100_test_timestamps.csv --out submissions
      heads submit --check submissions/epic_submission.zip --annotations EPIC_100_test_timestamps.csv
    """
    from heads.api.submissions import check_submission
    from heads.api.submissions import submit as write_submission

    if check is not None:
        click.echo(check_submission(check, annotations=annotations, expect=expect))
        return
    written = write_submission(run, annotations=annotations, expect=expect, **options)
    click.echo(f"{written.run}: {written.num_segments} segments of {written.segments}")
    if written.note:
        click.echo(written.note, err=True)
    for path in written.paths:
        click.echo(f"  {path} ({human_size(path.stat().st_size)})")
