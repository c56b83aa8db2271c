"""`extract backbones` and `extract weights`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from extract.commands.options import extraction_installed, json_option, weights_dir_option
from features.console import table


@click.command(short_help="List the backbones.")
@weights_dir_option("--weights-dir")
@click.option("--timm", "pattern", metavar="PATTERN", help="List timm's models whose names match, such as 'vit_*'.")
@json_option
def backbones(weights_dir: Path | None, pattern: str | None, as_json: bool) -> None:
    """List the backbones: what they were trained on, what they take and give, their cost and their licence.

    EPIC is what a backbone was trained on of EPIC-KITCHENS: nothing, its videos, or also the labels of its training
    list. The frames of a clip that is spread lie evenly over the segment; with --every, they have the rate in brackets.
    D is the width of a token. GFLOPs are billions of multiply-adds per clip. The licence is that of the weights.

    Every image model of the timm library with published weights is a backbone too, as timm:NAME.

    \b
    Examples:
      extract backbones
      extract backbones --timm 'vit_pe_*'
    """
    if pattern is not None:
        _print_timm_models(pattern, as_json)
        return
    with extraction_installed():
        from extract.backbones import ALIASES
        from extract.backbones.recommended import TIMM_MODELS
        from extract.backbones.table import clip_text, gflops_text, parameters_text
        from extract.listing import list_backbones

    rows = list_backbones(weights_dir)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    header = (
        "backbone",
        "family",
        "pretraining",
        "EPIC",
        "clip",
        "steps",
        "D",
        "params",
        "GFLOPs",
        "licence",
        "weights",
    )
    lines = [
        (
            row.name,
            row.family,
            row.pretraining,
            row.seen_of_epic,
            clip_text(row.clip_frames, row.clip_fps, spread=row.clip_spread),
            str(row.steps),
            str(row.dim),
            parameters_text(row.parameters),
            gflops_text(row.gflops),
            row.weights_licence,
            "none"
            if row.published_as is None
            else "here"
            if row.weights_path
            else "by hand"
            if row.by_hand
            else "to fetch",
        )
        for row in rows
    ]
    click.echo(table(header, lines, left=("backbone", "family", "pretraining", "EPIC", "clip", "licence", "weights")))
    click.echo("\nShort names: " + ", ".join(f"{alias} = {name}" for alias, name in ALIASES.items()))
    click.echo("\nImage models of timm that are worth a try (--timm PATTERN lists more):")
    for name in TIMM_MODELS:
        click.echo(f"  {name}")


def _print_timm_models(pattern: str, as_json: bool) -> None:
    with extraction_installed():
        from extract.backbones.timm_models import matching_models

    models = matching_models(pattern)
    click.echo(json.dumps(models, indent=2) if as_json else "\n".join(models))


@click.command(short_help="Download the published weights of backbones.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@weights_dir_option("--dest")
def weights(names: tuple[str, ...], weights_dir: Path | None) -> None:
    """Download the published weights of backbones, for machines without network. Existing files are kept.

    \b
    Examples:
      extract weights videomae slowfast
      extract weights dinov2_large --dest /scratch/weights
    """
    with extraction_installed():
        from extract.backbones import get
        from extract.weights.published import fetch_weights

    for entry in [get(name, option="NAME") for name in names]:
        local = fetch_weights(entry, weights_dir)
        click.echo(f"{entry.name}: {local.path} ({local.revision})")
