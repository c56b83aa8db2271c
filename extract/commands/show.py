"""`extract show`."""

from __future__ import annotations

from pathlib import Path

import click

from extract.commands.options import annotations_option, boxes_options, extraction_installed, regions_option
from features.console import table


@click.command(short_help="Show what a backbone sees of the regions of a segment, as a picture.")
@click.argument("videos", metavar="VIDEO", type=click.Path(path_type=Path))
@click.option("--segment", required=True, metavar="NARRATION_ID", help="The segment to show, such as P01_101_7.")
@annotations_option
@regions_option(default="hands+objects")
@boxes_options
@click.option(
    "--backbone", default="resnet50", show_default=True, help="The backbone that sees them; it needs no weights here."
)
@click.option("--frames", type=int, default=8, show_default=True, help="Number of frames spread over the segment.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The PNG file to write.")
def show(
    videos: Path,
    segment: str,
    annotations: tuple[Path, ...],
    regions: str,
    boxes: Path | None,
    min_score: float,
    backbone: str,
    frames: int,
    out: Path,
) -> None:
    """Show what a backbone sees of the regions of a segment: a contact sheet as a PNG file.

    VIDEO is the folder of videos, or the file of the segment's video. The top row of the sheet has whole frames with
    the squares that are cut out; below, a row per region has what the backbone sees. Where a frame lacks a region, the
    backbone sees the centre crop, and the sheet has a red cross over it.

    \b
    Example:
      extract show data/videos --segment P01_101_7 --annotations data/annotations \\
          --regions hands+objects --boxes EPIC-KITCHENS -o sheet.png
    """
    with extraction_installed():
        from extract.showing import show as write_sheet
    from features.annotations import read_all_segments

    shown = write_sheet(
        read_all_segments(annotations),
        videos,
        segment,
        out,
        regions=regions,
        boxes=boxes,
        backbone=backbone,
        num_frames=frames,
        min_score=min_score,
    )
    click.echo(table(("second", "has"), [(f"{frame.second:.2f}", ", ".join(frame.regions) or "-") for frame in shown]))
