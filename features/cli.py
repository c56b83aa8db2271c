"""The command line `features`: show and check a feature set, bring others in and out, and merge sets."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from features.console import Commands, human_size
from features.progress import progress

if TYPE_CHECKING:
    from features.check import Info
    from features.featureset import FeatureSet
    from features.importing import ImportSummary


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="epic-heads")
def main() -> None:
    """Show, check, import, export and merge feature sets, the folders that `heads` trains on."""


@main.command(short_help="Show what a feature set holds and what it lacks.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--annotations",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Annotation CSV, or the folder that holds them, to count missing segments. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def info(folder: Path, annotations: tuple[Path, ...], as_json: bool) -> None:
    """Show what a feature set is, and how many of its videos and segments are complete, missing or failed.

    \b
    Example: features info data/features/resnet50-seg16 --annotations data/annotations
    """
    from features.annotations import read_all_segments
    from features.check import info as count

    counts = count(folder, read_all_segments(annotations) if annotations else None)
    if as_json:
        click.echo(json.dumps(asdict(counts), indent=2))
        return
    featureset = counts.featureset
    weights = featureset.weights
    missing = "give --annotations to count them"
    if counts.missing_segments is not None:
        missing = f"{counts.missing_videos} videos, {counts.missing_segments} segments"
    lines = {
        "backbone": featureset.backbone,
        "weights": f"{weights.revision} from {weights.source} (sha256 {weights.sha256[:12]})",
        "sampling": _describe(featureset),
        "step": f"{featureset.dim} {featureset.dtype}",
        "views": ", ".join(f"{view} ({num_videos} videos)" for view, num_videos in counts.views.items()),
        "complete": f"{counts.complete_videos} videos, {_complete(counts)}",
        "missing": missing,
        "failed": f"{counts.failed_segments} segments in {counts.failed_videos} videos"
        + (f" (see {folder / 'failures'})" if counts.failed_segments else ""),
        "size": human_size(counts.size_bytes),
        "created": featureset.created,
    }
    if featureset.regions is not None:
        made = ", ".join(f"{name} {value}" for name, value in featureset.regions.items())
        shares = ", ".join(
            f"{cell} in {100 * num / max(counts.complete_steps, 1):.1f} %" for cell, num in counts.regions.items()
        )
        lines["regions"] = made
        lines["cells"] = f"{shares} of the steps"
    if featureset.imported is not None:
        imported = ", ".join(f"{name} {value}" for name, value in featureset.imported.items())
        lines["weights"] = f"{weights.revision} by {weights.source}"
        lines["imported"] = imported
    for name, value in lines.items():
        click.echo(f"{name:10}{value}")


def _complete(counts: Info) -> str:
    if counts.featureset.sampling.kind == "segment":
        return f"{counts.complete_segments} segments"
    covered = "" if counts.complete_segments is None else f" that cover {counts.complete_segments} segments"
    return f"{counts.complete_steps} steps{covered}"


def _describe(featureset: FeatureSet) -> str:
    sampling = featureset.sampling
    if sampling.kind == "dense":
        return f"dense, a clip every {sampling.every_s} s"
    if sampling.clip_frames == 1:
        return featureset.sampled + ("" if featureset.imported else ", each an image of its own")
    rate = "spread over it" if sampling.clip_fps is None else f"at {sampling.clip_fps:g} fps"
    clip = f"{sampling.clip_frames} frames {rate}, {sampling.steps_per_clip} steps per clip"
    return f"{featureset.sampled}, in clips of {clip}"


@main.command(short_help="Read every byte of a feature set and report problems.")
@click.argument("folder", type=click.Path(path_type=Path))
def verify(folder: Path) -> None:
    """Read every byte of a feature set and print each problem; the exit code is 1 if there is any.

    \b
    Example: features verify data/features/resnet50-seg16
    """
    from features.check import verify as check
    from features.store import video_ids

    videos = video_ids(folder)
    with progress(videos, total=len(videos), unit="videos", label="verify") as bar:
        problems = list(check(folder, bar))
    for problem in problems:
        click.echo(problem)
    if problems:
        click.echo(f"{folder}: {len(problems)} problems in {len(videos)} videos.", err=True)
        sys.exit(1)
    click.echo(f"{folder}: {len(videos)} videos, no problems.")


@main.command("import", short_help="Make a feature set of features that others published.")
@click.argument("format_name", metavar="FORMAT")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the feature set.")
@click.option(
    "--annotations",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the published annotations. With EPIC_100_video_info.csv in it, ends of videos are checked too.",
)
@click.option("--part", help="Which of several kinds of features, such as visual or audio (mtcn), rgb, flow or obj.")
@click.option("--fps", type=float, help="Row t of a video lies at frame stride x t + offset, at this many per second.")
@click.option("--stride", type=float, help="Frames from one row to the next.")
@click.option("--offset", type=float, help="Frame of row 0, such as the middle of the first clip.")
@click.option(
    "--intervals",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Pickled table with the interval of each row (tim). May be repeated.",
)
@click.option("--backbone", help="What made the features, for the record.  [default: the format and its part]")
def import_(
    format_name: str,
    source: Path,
    out: Path,
    annotations: Path,
    part: str | None,
    fps: float | None,
    stride: float | None,
    offset: float | None,
    intervals: tuple[Path, ...],
    backbone: str | None,
) -> None:
    """Make a feature set of features that others published, in FORMAT: mtcn, tim, rulstm, actionformer, opentad,
    or plain npy, npz, pt, hdf5. docs/features.md has the command of each publication.

    Videos that the set holds already are kept, so the same command continues an interrupted import. Segments without
    features are recorded in failures/, and the exit code is then 1.

    \b
    Example:
      features import mtcn downloads/mtcn --part visual --out data/features/mtcn-visual \\
          --annotations data/annotations
    """
    from features.importing import import_features

    summary = import_features(
        format_name,
        source,
        out=out,
        annotations=annotations,
        part=part,
        fps=fps,
        stride=stride,
        offset=offset,
        intervals=intervals,
        backbone=backbone,
    )
    _print_import(out, source, summary)
    if summary.failed:
        sys.exit(1)


def _print_import(out: Path, source: Path, summary: ImportSummary) -> None:
    from features.errors import first_few

    click.echo(
        f"{out}: {summary.segments} segments in {summary.videos} videos of {source}: {summary.done} done, "
        f"{summary.kept} there before, {summary.failed} failed."
    )
    if summary.failed:
        click.echo(
            f"Failed in {len(summary.failed_videos)} videos: {first_few(summary.failed_videos)}. "
            f"The reasons are in {out / 'failures'}; the same command tries them again.",
            err=True,
        )
    if summary.missing_videos:
        click.echo(
            f"{source} holds nothing of {len(summary.missing_videos)} annotated videos: "
            f"{first_few(summary.missing_videos)}.",
            err=True,
        )
    if summary.others:
        click.echo(f"{out} holds features of other files as well: {first_few(summary.others)}.", err=True)
    if summary.unknown:
        click.echo(
            f"Left out, as the annotations do not have them: {len(summary.unknown)} ids, {first_few(summary.unknown)}.",
            err=True,
        )
    if not summary.has_lengths:
        click.echo("Ends of videos were not checked: EPIC_100_video_info.csv is not beside the annotations.", err=True)


@main.command(short_help="Write a feature set as plain files of arrays.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--format", "file_format", required=True, metavar="FORMAT", help="npz, npy or hdf5.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the files.")
def export(folder: Path, file_format: str, out: Path) -> None:
    """Write a feature set as plain files: one array per video of a dense set, or one per segment, of the first view.

    ActionFormer and OpenTAD read those of dense sets. README.txt beside the files says what is in them.

    \b
    Example: features export data/features/videomae-every0.2 --format npz --out videomae-npz
    """
    from features.errors import first_few
    from features.exporting import export as write

    summary = write(folder, out, file_format)
    click.echo(f"{out}: {summary.arrays} arrays; {out / 'README.txt'} says what they are.")
    if summary.shifted:
        click.echo(f"Another offset in {len(summary.shifted)} videos: {first_few(summary.shifted)}.", err=True)
    if summary.with_gaps:
        names = first_few(summary.with_gaps)
        click.echo(f"Left out, as rows are missing: {len(summary.with_gaps)} videos, {names}.", err=True)
        sys.exit(1)


@main.command(short_help="Make one feature set of several with the same settings.")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the merged set.")
def merge(folders: tuple[Path, ...], out: Path) -> None:
    """Make one feature set of several that were made with the same settings, such as on two machines.

    Features that differ between two sets are an error.

    \b
    Example: features merge first/resnet50-seg16 second/resnet50-seg16 --out data/features/resnet50-seg16
    """
    from features.merging import merge as write

    summary = write(folders, out)
    click.echo(f"{out}: {summary.videos} videos, {summary.shared} of them in several sets; {summary.failed} failures.")
