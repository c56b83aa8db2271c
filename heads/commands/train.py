"""`heads train`, `predict` and `list`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from features.console import HeadedCommand, human_size, table
from heads.commands.options import (
    HEADINGS,
    PATH,
    allow_missing_option,
    data_options,
    device_option,
    model_option,
    output_option,
    setting_options,
    under,
)

if TYPE_CHECKING:
    from heads.config import TrainConfig
    from heads.data.load import TrainData
    from heads.training.state import Outcome


@click.command(cls=HeadedCommand, headings=HEADINGS, short_help="Train a head on feature sets, once per seed.")
@model_option("--head", required=True, help="Name of the head, with options as in bilstm:hidden=256; see `heads list`.")
@model_option(
    "--set",
    "head_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Option of the head, such as hidden=256. May be repeated.",
)
@data_options
@output_option("--name", help="Name of the run folders, to which -seedN is appended.  [default: the head's name]")
@under("Optimisation")("--seeds", default="0", show_default=True, help="Seeds, such as 0-4 or 0,2,5; one run per seed.")
@setting_options
def train(head_options: tuple[str, ...], **options: Any) -> None:
    """Train a head on feature sets, once per seed, and write one run folder per seed.

    The same command continues runs that were interrupted, and trains nothing twice.

    \b
    Examples:
      heads train --head multiscale_lstm --seeds 0-4
      heads train --head transformer --features A --features B --context 10 --loss focal:gamma=1
    """
    from heads.api.runs import train as train_runs

    table = _EpochTable()

    def show_outcome(outcome: Outcome) -> None:
        table.start_again()
        _show_outcome(outcome)

    train_runs(head_options=_pairs(head_options), on_start=_show_plan, on_epoch=table, on_end=show_outcome, **options)


def _show_plan(config: TrainConfig, data: TrainData, plan: list[tuple[str, str]]) -> None:
    for name, text in plan:
        click.echo(f"{name:12}{text}", err=True)
    if data.origin["test_csv"] and not data.test:
        csv = Path(str(data.origin["test_csv"])).name
        click.echo(
            f"{csv}: none of its segments has features yet; run this command again once they are extracted, and "
            "they are predicted",
            err=True,
        )


def _show_outcome(outcome: Outcome) -> None:
    scores = ", ".join(
        f"{task} {outcome.metrics[f'val_{task}_top1']:.1f} %"
        for task in ("verb", "noun", "action")
        if f"val_{task}_top1" in outcome.metrics
    )
    state = "was finished" if outcome.was_there else "done"
    kept = f"epoch {outcome.best_epoch}" + (f": {scores}" if scores else "")
    click.echo(f"{outcome.folder}: {state}, keeps {kept} ({outcome.folder / 'best_model.pth'})")


class _EpochTable:
    """A table on stderr that gains a row per epoch, above the progress bar; one per seed. It fits 80 columns."""

    COLUMNS: ClassVar = {
        "epoch": "epoch",
        "train_loss": "loss",
        "val_loss": "val loss",
        "val_verb_top1": "verb %",
        "val_noun_top1": "noun %",
        "val_action_top1": "action %",
        "val_verb_recall": "recall %: verb",
        "val_noun_recall": "noun",
        "seconds": "s",
    }

    def __init__(self) -> None:
        self.start_again()

    def start_again(self) -> None:
        """Show the header above the next row."""
        self._header_shown = False

    def __call__(self, row: dict[str, float]) -> None:
        from tqdm import tqdm

        shown = {name: title for name, title in self.COLUMNS.items() if name in row}
        widths = [max(len(title), 6 if "loss" in name else 5) for name, title in shown.items()]
        if not self._header_shown:
            tqdm.write(_line(shown.values(), widths), file=sys.stderr)
            self._header_shown = True
        cells = [
            f"{row[name]:.3f}" if "loss" in name else f"{row[name]:.1f}" if name != "epoch" else str(row[name])
            for name in shown
        ]
        tqdm.write(_line(cells, widths), file=sys.stderr)


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    malformed = [text for text in texts if "=" not in text]
    if malformed:
        raise click.UsageError(f"--set: {malformed[0]!r} is not KEY=VALUE, such as hidden=256.")
    pairs = (text.partition("=") for text in texts)
    return {key: value for key, _, value in pairs}


@click.command(short_help="Write the predictions of a run's best model.")
@click.argument("run", type=PATH)
@click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.Choice(["train", "validation", "test"]),
    help="Split that the run was trained with; all of them by default. May be repeated.",
)
@click.option("--annotations", type=PATH, help="CSV of other segments to predict, instead of --split; needs --out.")
@click.option("--out", type=PATH, help="File for the predictions of --annotations.")
@click.option("--features", multiple=True, type=PATH, help="The run's feature sets, if they have moved.")
@click.option(
    "--tta",
    is_flag=True,
    help="Test-time augmentation: average over the views of the features, without random augmentations, and, in dense "
    "sets, over windows that are moved in time.",
)
@allow_missing_option
@device_option
def predict(run: Path, **options: Any) -> None:
    """Write the predictions of a run's best model, for example for the training segments, to teach other runs.

    With --tta they go into files of their own (such as val_tta_predictions.pt), which `heads evaluate` shows in a row
    of their own.

    \b
    Examples:
      heads predict runs/bilstm-seed0 --split train
      heads predict runs/bilstm-seed0 --tta
      heads predict runs/bilstm-seed0 --annotations mine.csv --out mine.pt
    """
    from heads.api.runs import predict_run

    for path in predict_run(run, **options):
        click.echo(f"{path} ({human_size(path.stat().st_size)})")


@click.command("list", short_help="List all heads and losses, with their options.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def list_(as_json: bool) -> None:
    """List all heads and losses, with their options and defaults.

    \b
    Example: heads list
    """
    from heads.losses.catalogue import describe_losses
    from heads.models.catalogue import describe_heads

    members = {"heads": describe_heads(), "losses": describe_losses()}
    if as_json:
        click.echo(
            json.dumps({kind: [asdict(member) for member in entries] for kind, entries in members.items()}, indent=2)
        )
        return
    for kind, entries in members.items():
        rows = [
            (entry.name, entry.what, " ".join(f"{key}={value}" for key, value in entry.options.items()))
            for entry in entries
        ]
        header = (kind, "what it is", "options, with defaults")
        click.echo(table(header, rows, left=header[1:]) + "\n")
    click.echo("A width or hidden of 0 is chosen by the number of training segments, and a c of 0 by cross-validation.")
