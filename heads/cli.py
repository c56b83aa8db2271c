"""`heads ...`: stage 2, from a feature set to a submission."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import click
from click.core import ParameterSource

from features.console import Commands, human_size, table
from features.errors import OptionError, first_few

if TYPE_CHECKING:
    from heads.spec import Spec

_PATH = click.Path(path_type=Path)
_LEVEL = click.IntRange(0, 5)


def _folder_option(name: str, variable: str, default: str, text: str):
    """Give an option for a folder that a variable of the environment may name as well."""
    return click.option(
        name, type=_PATH, envvar=variable, default=Path(default), show_default=True, show_envvar=True, help=text
    )


_runs_option = _folder_option("--runs", "EPIC_RUNS", "runs", "Folder of the run folders.")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="epic-heads")
def main() -> None:
    """Train light temporal heads on cached features, ensemble them, score them, submit them."""


def _setting_options(command: Callable) -> Callable:
    """Make an option of each setting of a run (heads/config.py)."""
    from heads.config import GROUPS

    for setting in reversed([setting for record in GROUPS.values() for setting in dataclasses.fields(record)]):
        several = isinstance(setting.default, tuple)
        command = click.option(
            f"--{setting.name.replace('_', '-')}",
            type=str if several or setting.default is None else type(setting.default),
            default=None if several else setting.default,
            multiple=several,
            show_default=setting.default is not None and not several,
            metavar=setting.metadata["metavar"],
            help=setting.metadata["help"] + (" May be repeated." if several else ""),
        )(command)
    return command


_features_option = click.option(
    "--features",
    multiple=True,
    type=_PATH,
    envvar="EPIC_FEATURES",
    default=("data/features",),
    show_default=True,
    show_envvar=True,
    help="A feature set, or the folder of the only one. May be repeated: heads see all of them.",
)
_device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
_allow_missing_option = click.option("--allow-missing", is_flag=True, help="Go on where segments have no features.")


def _data_options(command: Callable) -> Callable:
    """Add the options that say what is trained on, which `train` and `sweep` share."""
    for option in reversed(
        [
            _features_option,
            _folder_option(
                "--annotations", "EPIC_ANNOTATIONS", "data/annotations", "Folder of the published annotation files."
            ),
            click.option("--train", type=_PATH, help="Training CSV, instead of the one in --annotations."),
            click.option("--validation", type=_PATH, help="Validation CSV, likewise."),
            click.option("--test", type=_PATH, help="CSV of segments to predict, likewise."),
            click.option(
                "--split-train-val",
                "split",
                default="official",
                show_default=True,
                help="official; all (both lists, for a final submission); fold:I/K (of training, by participant).",
            ),
            _allow_missing_option,
            click.option(
                "--memory",
                type=float,
                metavar="GB",
                help="Memory for features; more are read as they are needed.  [default: half of it]",
            ),
            click.option("--separate", is_flag=True, help="A head for verbs and one for nouns, which share nothing."),
            _runs_option,
            _device_option,
        ]
    ):
        command = option(command)
    return command


def _loader(features, files, allow_missing, memory, device) -> Callable:
    """Give what loads the data of a configuration."""
    from features.device import choose_device
    from heads.inputs import find_featuresets, load_train_data

    return partial(
        load_train_data,
        find_featuresets(features),
        files,
        allow_missing=allow_missing,
        device=choose_device(device),
        memory_bytes=None if memory is None else memory * 1e9,
    )


@main.command()
@click.option("--head", required=True, help="Name of the head: `heads list`.")
@click.option(
    "--set", "head_options", multiple=True, metavar="KEY=VALUE", help="Option of the head, such as hidden=256."
)
@_data_options
@click.option("--name", help="Name of the run folders; the head's by default. -seedN is added.")
@click.option("--seeds", default="0", show_default=True, help="Seeds, such as 0-4 or 0,2,5; a run each.")
@_setting_options
def train(
    head,
    head_options,
    features,
    annotations,
    train,
    validation,
    test,
    allow_missing,
    memory,
    runs,
    name,
    seeds,
    device,
    **settings,
) -> None:
    """Train a head, once for each seed, and write a run folder for each. Run again, it goes on where it was cut off.

    \b
    Examples:
      heads train --head multiscale_lstm --seeds 0-4
      heads train --head transformer --features A --features B --context 10 --loss focal:gamma=1
    """
    from features.annotations import find_splits
    from features.device import choose_device
    from features.predictions import read_predictions
    from heads.config import make_config, parse_seeds
    from heads.models import head_config
    from heads.plan import describe
    from heads.registry import options_of
    from heads.runs import run_folder
    from heads.train import fit, score_again

    options = options_of(head_config(head, _pairs(head_options)))
    configs = [make_config(head, options, {**settings, "seed": seed}) for seed in parse_seeds(seeds)]
    where = choose_device(device)
    files = find_splits(annotations, train=train, validation=validation, test=test)
    data = _loader(features, files, allow_missing, memory, device)(configs[0])
    teacher = settings["teacher"] and read_predictions(Path(settings["teacher"]))
    for what, text in describe(configs[0], data, where):
        click.echo(f"{what:12}{text}", err=True)
    if data.origin["test_csv"] and not data.test:
        name_of_list = Path(data.origin["test_csv"]).name
        click.echo(f"{name_of_list}: none extracted yet; run this again once they are, to predict them", err=True)
    for config in configs:
        folder = run_folder(runs, name or head, config.seed)
        if config.optimisation.epochs == 0:
            outcome = score_again(data, folder, device=where)
        else:
            outcome = fit(config, data, folder, device=where, teacher=teacher, show=_EpochTable())
        scores = ", ".join(
            f"{task} {outcome.metrics[f'val_{task}_top1']:.1f} %"
            for task in ("verb", "noun", "action")
            if f"val_{task}_top1" in outcome.metrics
        )
        done = "was finished" if outcome.was_there else "done"
        best = f"best epoch {outcome.best_epoch}" + (f": {scores}" if scores else "")
        click.echo(f"{outcome.folder}: {done}, {best} ({outcome.folder / 'best_model.pth'})")


class _EpochTable:
    """A table on stderr that grows by a line an epoch, above the progress bar."""

    COLUMNS: ClassVar = {
        "epoch": "epoch",
        "train_loss": "loss",
        "val_loss": "val loss",
        "val_verb_top1": "verb %",
        "val_noun_top1": "noun %",
        "val_action_top1": "action %",
        "val_verb_recall": "verb recall",
        "val_noun_recall": "noun recall",
        "seconds": "s",
    }

    def __init__(self) -> None:
        self._header_shown = False

    def __call__(self, row: dict[str, float]) -> None:
        from tqdm import tqdm

        shown = {name: title for name, title in self.COLUMNS.items() if name in row}
        if not self._header_shown:
            tqdm.write("  ".join(title.rjust(8) for title in shown.values()), file=sys.stderr)
            self._header_shown = True
        cells = [
            f"{row[name]:.3f}" if "loss" in name else f"{row[name]:.1f}" if name != "epoch" else str(row[name])
            for name in shown
        ]
        line = "  ".join(cell.rjust(max(8, len(title))) for cell, title in zip(cells, shown.values(), strict=True))
        tqdm.write(line, file=sys.stderr)


@main.command()
@click.argument("words", metavar="[SPEC.yaml] [NAME=VALUE,...]...", nargs=-1)
@click.option(
    "--grid",
    multiple=True,
    metavar="NAME=VALUE,...",
    help="Setting to vary, and its values. More may follow as plain arguments.",
)
@click.option("--head", default="bilstm", show_default=True, help="Head with its options, as bilstm:hidden=256.")
@_data_options
@click.option("--name", default="sweep", show_default=True, help="Folder under --runs for the runs of the sweep.")
@click.option("--seeds", default="0", show_default=True, help="Seeds of every variant, such as 0-2.")
@click.option("--samples", type=int, help="Draw so many variants of the grid, instead of all.")
@click.option(
    "--halving", is_flag=True, help="After a quarter and half of the epochs, only the better half of variants goes on."
)
@click.option(
    "--together",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Train so many runs in one pass, of those that differ in seed, loss or optimisation alone. For a GPU.",
)
@click.option("--shard", metavar="TASK/TASKS", help="Do only this task's share of the runs, counted from 0, as 3/8.")
@click.option("--dry-run", is_flag=True, help="Only show all runs, how far they are, and which task does each.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_setting_options
def sweep(words, grid, **options) -> None:
    """Train every combination of some settings, on features that are loaded once. Run again, it does what is missing.

    SPEC.yaml holds the same options by their long names, and the grid (docs/heads.md); what is typed here wins over it.

    \b
    Examples:
      heads sweep --grid loss=ce,focal,cb head=mean_pool,attentive lr=1e-4,3e-4 --seeds 0-2
      heads sweep sweep.yaml --halving
      heads ensemble --greedy runs/sweep
    """
    from features.annotations import find_splits
    from features.device import choose_device
    from heads import tables
    from heads.config import parse_seeds
    from heads.grid import make_variants, parse_grid, share_of
    from heads.plan import describe_sweep
    from heads.spec import is_spec
    from heads.sweep import choose_rungs, run_sweep

    typed = parse_grid([*grid, *(word for word in words if not is_spec(word))])
    spec = _spec_among(words)
    with spec.named_in_errors():
        varied = {**parse_grid(spec.grid), **typed}
    spec = spec.without([*_typed_options(), *(["grid"] if typed else [])])
    with spec.named_in_errors():
        options |= _values_of(spec)
        shard, folder = options["shard"], options["runs"] / options["name"]
        variants = make_variants(varied, options, parse_seeds(options["seeds"]), samples=options["samples"])
        mine = share_of(variants, shard)
        lists = {name: options[name] for name in ("train", "validation", "test")}
        files = find_splits(options["annotations"], **lists)
        rungs = choose_rungs(variants, files, shard=shard) if options["halving"] else ()
    compared = f", compared after epochs {' and '.join(map(str, rungs))}" if rungs else ""
    click.echo(f"{len(mine)} of {len(variants)} runs in {folder}{compared}", err=True)
    if options["dry_run"]:
        click.echo(table(["run", "task", "state"], describe_sweep(variants, folder, shard=shard), left=["state"]))
        return
    how = {name: options[name] for name in ("features", "allow_missing", "memory", "device")}
    with spec.named_in_errors():
        load, device = _loader(files=files, **how), choose_device(options["device"])
    together = options["together"]
    results = run_sweep(mine, load, folder, device=device, rungs=rungs, shard=shard, together=together)
    click.echo(tables.sweep(results, "json" if options["as_json"] else None))
    failed = [f"{one.name}-seed{seed}: {why}" for one in results for seed, why in one.failed.items()]
    if failed:
        click.echo("\n".join([f"{len(failed)} of {len(mine)} runs failed:", *failed]), err=True)
        sys.exit(1)


def _long_options() -> dict[str, click.Option]:
    """Give the running command's options by their long names, with underscores."""
    options = [one for one in click.get_current_context().command.params if isinstance(one, click.Option)]
    return {max(one.opts, key=len).lstrip("-").replace("-", "_"): one for one in options}


def _typed_options() -> list[str]:
    """Give those that stand on the command line; the environment is no more than a default."""
    source = click.get_current_context().get_parameter_source
    return [name for name, one in _long_options().items() if source(one.name) is ParameterSource.COMMANDLINE]


def _spec_among(words: Sequence[str]) -> Spec:
    """Read the file of options that is named among plain arguments; nothing where none is."""
    from heads.spec import NO_SPEC, is_spec, read_spec

    paths = [Path(word) for word in words if is_spec(word)]
    if len(paths) > 1:
        raise click.UsageError(f"one file of options at a time; there are {', '.join(map(str, paths))}.")
    known = {name: one.multiple for name, one in _long_options().items()}
    return read_spec(paths[0], known) if paths else NO_SPEC


def _values_of(spec: Spec) -> dict[str, object]:
    """Give a file's options as if they had been typed, by the names of the command's parameters."""
    context, known, values = click.get_current_context(), _long_options(), {}
    for name, text in spec.options.items():
        try:
            values[known[name].name] = known[name].type_cast_value(context, text)
        except click.BadParameter as error:
            raise OptionError(f"--{name.replace('_', '-')}: {error.message}") from error
    return values


@main.command()
@click.argument("run", type=_PATH)
@click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.Choice(["train", "validation", "test"]),
    help="Which segments, of those that the run was trained with; all of them by default. May be repeated.",
)
@click.option("--annotations", "csv", type=_PATH, help="CSV of other segments, instead of --split; needs --out.")
@click.option("--out", type=_PATH, help="File for the predictions of --annotations.")
@click.option("--features", multiple=True, type=_PATH, help="The run's feature sets, where they have moved.")
@click.option("--tta", is_flag=True, help="Average over all views of the features, and in dense sets over time.")
@_allow_missing_option
@_device_option
def predict(run, splits, csv, out, features, tta, allow_missing, device) -> None:
    """Write what a run's best model predicts, such as for the training segments, for others to learn from.

    With --tta it goes into files of its own (val_tta_predictions.pt), which `heads evaluate` shows beside the others.

    \b
    Examples:
      heads predict runs/bilstm-seed0 --split train
      heads predict runs/bilstm-seed0 --tta
      heads predict runs/bilstm-seed0 --annotations mine.csv --out mine.pt
    """
    if (csv is None) != (out is None) or (csv is not None and splits):
        raise click.UsageError("--annotations and --out go together, and not with --split.")
    from features.device import choose_device
    from heads.inputs import predict_run

    written = predict_run(
        run,
        splits,
        roots=features,
        csv=csv,
        out=out,
        tta=tta,
        allow_missing=allow_missing,
        device=choose_device(device),
    )
    for path in written:
        click.echo(f"{path} ({human_size(path.stat().st_size)})")


@main.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(as_json) -> None:
    """List heads and losses, with their options and defaults.

    \b
    Example: heads list
    """
    from heads.losses import describe_losses
    from heads.models import describe_heads

    found = {"heads": describe_heads(), "losses": describe_losses()}
    if as_json:
        click.echo(json.dumps({kind: [asdict(one) for one in members] for kind, members in found.items()}, indent=2))
        return
    for kind, members in found.items():
        lines = [
            (one.name, one.what, " ".join(f"{key}={value}" for key, value in one.options.items())) for one in members
        ]
        click.echo(
            table((kind, "what it is", "options, with defaults"), lines, left=("what it is", "options, with defaults"))
            + "\n"
        )


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(text.partition("=")[::2] for text in texts)
    bad = [text for text in texts if "=" not in text]
    if bad:
        raise click.UsageError(f"--set: {bad[0]!r} is not KEY=VALUE, such as hidden=256.")
    return pairs


@main.command()
@click.argument("sources", metavar="[RUN|PREDICTIONS.pt]...", nargs=-1, type=_PATH)
@click.option(
    "--annotations",
    type=_PATH,
    help="Validation CSV, or a folder of annotation files; those that the run was trained with by default.",
)
@_runs_option
@click.option("--each", is_flag=True, help="A row for every seed, instead of their mean.")
@click.option("--compare", "pair", nargs=2, type=_PATH, metavar="A B", help="How much B is above A, with intervals.")
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
    from heads import tables
    from heads.evaluation import compare_sources, evaluate_sources
    from heads.inputs import annotations_for
    from heads.runs import find_predicted, runs_of

    if pair:
        if sources:
            raise click.UsageError("--compare takes two runs, and no others are scored beside them.")
        differences = compare_sources(*pair, annotations_for(pair, annotations))
        click.echo(tables.differences(differences, form))
        return
    sources = runs_of(sources, find_predicted) if sources else find_predicted(runs)
    click.echo(tables.rows(evaluate_sources(sources, annotations_for(sources, annotations), each=each), form))


@main.command()
@click.argument("sources", metavar="[RUN|FOLDER]...", nargs=-1, type=_PATH)
@click.option("--out", "-o", type=_PATH, help="File to write.  [default: report.html; of Markdown, stdout]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "md"]),
    default="html",
    show_default=True,
    help="html: a page with plots, in one file. md: its tables as Markdown, for a terminal.",
)
@click.option(
    "--annotations",
    type=_PATH,
    help="Validation CSV, or a folder of annotation files; those that the run was trained with by default.",
)
@_runs_option
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
    from heads.inputs import annotations_for
    from heads.report.content import make_content
    from heads.report.markdown import as_markdown
    from heads.runs import find_reported, runs_of

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


@main.command()
@click.argument("members", metavar="[RUN|PREDICTIONS.pt]...", nargs=-1, type=_PATH)
@_runs_option
@click.option("--name", default="ensemble", show_default=True, help="Name of the ensemble's folder under --runs.")
@click.option("--force", is_flag=True, help="Replace an ensemble of other members.")
@click.option("--annotations", type=_PATH, help="To score against; those that the runs were trained with by default.")
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
    from heads import tables
    from heads.ensemble import Recipe, write_ensemble
    from heads.evaluation import score_as_one
    from heads.inputs import known_annotations
    from heads.runs import find_runs, runs_of

    if greedy and weights != "uniform":
        raise click.UsageError("--greedy and --weights exclude each other.")
    recipe = Recipe(weights="greedy" if greedy else _numbers(weights), **how)
    chosen = runs_of(members, find_runs) if members else find_runs(runs)
    known = known_annotations(chosen, annotations)
    written = write_ensemble(chosen, runs / name, recipe=recipe, annotations=known, force=force)
    if written.gains:
        rows = [score_as_one(one.name if one.is_dir() else str(one), [one], known, tta=recipe.tta) for one in chosen]
        click.echo(tables.rows([*rows, score_as_one(name, [written.folder], known)], None))
        click.echo("\n" + tables.ensemble(written))
    splits = " and ".join(written.splits)
    click.echo(f"{written.folder}: predictions for {splits} of {len(chosen)} members: {first_few(map(str, chosen))}")


def _numbers(text: str) -> str | tuple[float, ...]:
    """Give numbers between commas; a single word as it is."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return text


@main.command()
@click.argument("run", metavar="[RUN|PREDICTIONS.pt]", required=False, type=_PATH)
@click.option(
    "--annotations",
    type=_PATH,
    help="CSV of the segments that the server scores; the test list that the run was trained with by default.",
)
@_runs_option
@click.option("--out", type=_PATH, help="Folder for the files; submission/ in the run by default.")
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
@click.option("--check", type=_PATH, metavar="FILE", help="Only check a file that is there, of any of the three kinds.")
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
    from heads.inputs import levels_of, predictions_to_submit, training_list
    from heads.runs import find_last_ensemble
    from heads.submission import write_submission
    from heads.submission_check import check_file

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
