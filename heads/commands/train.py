"""`heads train`, `predict` and `list`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import click

from features.console import human_size, table
from heads.commands.options import (
    PATH,
    allow_missing_option,
    data_options,
    device_option,
    loader,
    setting_options,
)


@click.command()
@click.option("--head", required=True, help="Name of the head: `heads list`.")
@click.option(
    "--set", "head_options", multiple=True, metavar="KEY=VALUE", help="Option of the head, such as hidden=256."
)
@data_options
@click.option("--name", help="Name of the run folders; the head's by default. -seedN is added.")
@click.option("--seeds", default="0", show_default=True, help="Seeds, such as 0-4 or 0,2,5; a run each.")
@setting_options
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
    from heads.models.catalogue import head_config
    from heads.registry import options_of
    from heads.runs import run_folder
    from heads.training.announce import describe
    from heads.training.fit import fit, score_again

    options = options_of(head_config(head, _pairs(head_options)))
    configs = [make_config(head, options, {**settings, "seed": seed}) for seed in parse_seeds(seeds)]
    where = choose_device(device)
    files = find_splits(annotations, train=train, validation=validation, test=test)
    data = loader(features, files, allow_missing, memory, device)(configs[0])
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


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(text.partition("=")[::2] for text in texts)
    bad = [text for text in texts if "=" not in text]
    if bad:
        raise click.UsageError(f"--set: {bad[0]!r} is not KEY=VALUE, such as hidden=256.")
    return pairs


@click.command()
@click.argument("run", type=PATH)
@click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.Choice(["train", "validation", "test"]),
    help="Which segments, of those that the run was trained with; all of them by default. May be repeated.",
)
@click.option("--annotations", "csv", type=PATH, help="CSV of other segments, instead of --split; needs --out.")
@click.option("--out", type=PATH, help="File for the predictions of --annotations.")
@click.option("--features", multiple=True, type=PATH, help="The run's feature sets, where they have moved.")
@click.option("--tta", is_flag=True, help="Average over all views of the features, and in dense sets over time.")
@allow_missing_option
@device_option
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
    from heads.predict.run import predict_run

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


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(as_json) -> None:
    """List heads and losses, with their options and defaults.

    \b
    Example: heads list
    """
    from heads.losses.catalogue import describe_losses
    from heads.models.catalogue import describe_heads

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
