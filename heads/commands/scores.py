"""`heads evaluate`, `report`, `ensemble` and `submit`."""

from __future__ import annotations

from pathlib import Path

import click

from features.console import human_size
from features.errors import first_few
from heads.commands.options import PATH, runs_option, scored_against_option

_LEVEL = click.IntRange(0, 5)


@click.command()
@click.argument("sources", metavar="[RUN|PREDICTIONS.pt]...", nargs=-1, type=PATH)
@scored_against_option
@runs_option
@click.option("--each", is_flag=True, help="A row for every seed, instead of their mean.")
@click.option("--compare", "pair", nargs=2, type=PATH, metavar="A B", help="How much B is above A, with intervals.")
@click.option("--json", "form", flag_value="json", help="For programs: all figures with their intervals.")
@click.option("--csv", "form", flag_value="csv", help="The same as a table for a spreadsheet.")
def evaluate(sources, annotations, runs, each, pair, form) -> None:
    """Score runs, ensembles or predictions files on validation; everything under --runs by default.

    A folder of runs stands for everything in it; what `heads predict --tta` wrote has a row of its own. Accuracies are
    those of the challenge. Intervals hold 95 % of a bootstrap over videos. The lists of unseen participants and tail
    classes are taken from the folder of the validation CSV.

    \b
    Examples:
      heads evaluate runs/bilstm-seed0 runs/ensemble
      heads evaluate --compare runs/bilstm-seed0 runs/ensemble
    """
    from heads.runs import find_predicted, runs_of
    from heads.scoring import tables
    from heads.scoring.against import annotations_for
    from heads.scoring.evaluation import compare_sources, evaluate_sources

    if pair:
        if sources:
            raise click.UsageError("--compare takes two runs, and no others are scored beside them.")
        differences = compare_sources(*pair, annotations_for(pair, annotations))
        click.echo(tables.differences(differences, form))
        return
    sources = runs_of(sources, find_predicted) if sources else find_predicted(runs)
    click.echo(tables.rows(evaluate_sources(sources, annotations_for(sources, annotations), each=each), form))


@click.command()
@click.argument("sources", metavar="[RUN|FOLDER]...", nargs=-1, type=PATH)
@click.option("--out", "-o", type=PATH, help="File to write.  [default: report.html; of Markdown, stdout]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "md"]),
    default="html",
    show_default=True,
    help="html: a page with plots, in one file. md: its tables as Markdown, for a terminal.",
)
@scored_against_option
@runs_option
def report(sources, out, form, annotations, runs) -> None:
    """Write what runs came to, on one page: ranking, learning curves, which setting mattered, what goes wrong where.

    Everything under --runs by default, and in folders of runs there, such as a sweep's; a folder of runs stands for
    everything in it. Runs that are not finished have a learning curve. The page opens without a network.

    \b
    Examples:
      heads report
      heads report runs/sweep -o sweep.html
      heads report --format md runs/sweep | less -S
    """
    from features.files import write_text
    from heads.report.content import make_content
    from heads.report.markdown import as_markdown
    from heads.runs import find_reported, runs_of
    from heads.scoring.against import annotations_for

    sources = runs_of(sources, find_reported) if sources else find_reported(runs)
    content = make_content(sources, annotations_for(sources, annotations))
    if form == "md":
        text = as_markdown(content)
    else:
        from heads.report.page import as_page
        from heads.report.plots import draw

        text, out = as_page(content, draw(content)), out or Path("report.html")
    if out is None:
        click.echo(text, nl=False)
        return
    write_text(out, text)
    click.echo(f"{out} ({human_size(out.stat().st_size)})")


@click.command()
@click.argument("members", metavar="[RUN|PREDICTIONS.pt]...", nargs=-1, type=PATH)
@runs_option
@click.option("--name", default="ensemble", show_default=True, help="Name of the ensemble's folder under --runs.")
@click.option("--force", is_flag=True, help="Replace an ensemble of other members.")
@scored_against_option
@click.option(
    "--mean",
    "kind",
    type=click.Choice(["probabilities", "logits"]),
    default="probabilities",
    show_default=True,
    help="What is averaged.",
)
@click.option(
    "--weights",
    default="uniform",
    show_default=True,
    help="uniform; fitted (to validation, cross-fitted over videos); or numbers, as 2,1,1.",
)
@click.option("--greedy", is_flag=True, help="Choose members one by one, as often as each helps: for large sweeps.")
@click.option("--per-task", is_flag=True, help="Fitted weights of verbs and of nouns apart.")
@click.option("--temperature", is_flag=True, help="Then fit a temperature for each task.")
@click.option("--adjust", is_flag=True, help="Then fit how much of the log prior is subtracted (logit adjustment).")
@click.option("--pairs", is_flag=True, help="Then fit how much counts which verbs meet which nouns in training.")
@click.option("--tta", is_flag=True, help="Of each run, what `heads predict --tta` wrote.")
def ensemble(members, runs, name, force, annotations, weights, greedy, **how) -> None:
    """Average runs; all finished runs under --runs by default. What is fitted, is fitted to validation, cross-fitted.

    A folder of runs stands for all finished runs in it.

    \b
    Examples:
      heads ensemble runs/multiscale_lstm-seed*
      heads ensemble --greedy --per-task --name best runs/sweep
    """
    from heads.ensembles.run import EnsembleConfig, write_ensemble
    from heads.ensembles.table import ensemble_table
    from heads.runs import find_runs, runs_of
    from heads.scoring import tables
    from heads.scoring.against import known_annotations
    from heads.scoring.evaluation import score_as_one

    if greedy and weights != "uniform":
        raise click.UsageError("--greedy and --weights exclude each other.")
    settings = EnsembleConfig(weights="greedy" if greedy else _numbers(weights), **how)
    chosen = runs_of(members, find_runs) if members else find_runs(runs)
    known = known_annotations(chosen, annotations)
    written = write_ensemble(chosen, runs / name, settings=settings, annotations=known, force=force)
    if written.gains:
        rows = [score_as_one(one.name if one.is_dir() else str(one), [one], known, tta=settings.tta) for one in chosen]
        click.echo(tables.rows([*rows, score_as_one(name, [written.folder], known)], None))
        click.echo("\n" + ensemble_table(written))
    splits = " and ".join(written.splits)
    click.echo(f"{written.folder}: predictions for {splits} of {len(chosen)} members: {first_few(map(str, chosen))}")


def _numbers(text: str) -> str | tuple[float, ...]:
    """Give numbers between commas; a single word as it is."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return text


@click.command()
@click.argument("run", metavar="[RUN|PREDICTIONS.pt]", required=False, type=PATH)
@click.option(
    "--annotations",
    type=PATH,
    help="CSV of the segments that the server scores; the test list that the run was trained with by default.",
)
@runs_option
@click.option("--out", type=PATH, help="Folder for the files; submission/ in the run by default.")
@click.option(
    "--sls-pt", type=_LEVEL, help="Supervision level of pretraining, 0-5.  [default: as the backbones' records say]"
)
@click.option(
    "--sls-tl", type=_LEVEL, default=3, show_default=True, help="Of training labels, 0-5 (3: start and stop times)."
)
@click.option(
    "--sls-td", type=_LEVEL, help="Of training data, 0-5.  [default: 3, train; 4 if trained on validation too]"
)
@click.option("--expect", type=int, metavar="N", help="Refuse any other number of segments.")
@click.option(
    "--missing",
    type=click.Choice(["error", "omit", "prior"]),
    default="error",
    show_default=True,
    help="Of segments without a prediction: refuse, leave out, or answer as training is distributed.",
)
@click.option("--check", type=PATH, metavar="FILE", help="Only check a file that is there, of any of the three kinds.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def submit(run, annotations, runs, out, sls_pt, sls_tl, sls_td, expect, missing, check, force) -> None:
    """Write the files for the servers, from the last ensemble under --runs by default.

    submission.pt and ensemble_submission.zip (which holds it) are lists of scores by segment; epic_submission.zip is
    the public challenge's. All are checked against the list of segments first.

    \b
    Levels of supervision (epic-kitchens/SLS):
      --sls-pt  0 none, 1 public images, 2 public images and video, 3 self-supervised on public data,
                4 the same with EPIC's videos, 5 private data
      --sls-tl  0 none, 1 video level, 2 narration times, 3 start and stop times, 4 and spatial, 5 and outside priors
      --sls-td  0 zero-shot, 1 few-shot, 2 up to 25 %, 3 train, 4 train and validation, 5 more

    \b
    Examples:
      heads submit runs/ensemble --annotations EPIC_100_test_timestamps.csv --out submissions
      heads submit --check submissions/epic_submission.zip --annotations EPIC_100_test_timestamps.csv
    """
    from features.annotations import read_segments
    from heads.runs import find_last_ensemble
    from heads.submission.check import check_file
    from heads.submission.choose import levels_of, predictions_to_submit, training_list
    from heads.submission.files import write_submission

    if check is not None:
        click.echo(check_file(check, None if annotations is None else read_segments(annotations), expect=expect))
        return
    run = run or find_last_ensemble(runs)
    predictions, segments = predictions_to_submit(run, annotations)
    written = write_submission(
        predictions,
        segments,
        out or (run if run.is_dir() else run.parent) / "submission",
        levels=levels_of(run, pretraining=sls_pt, training_labels=sls_tl, training_data=sls_td),
        expect=expect,
        missing=missing,
        train=training_list(run, annotations) if missing == "prior" else None,
        force=force,
    )
    click.echo(f"{run}: {written.num_segments} segments of {segments.source}")
    if written.note:
        click.echo(written.note, err=True)
    for path in written.paths:
        click.echo(f"  {path} ({human_size(path.stat().st_size)})")
