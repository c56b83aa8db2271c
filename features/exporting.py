"""A feature set as plain files of arrays, as detection code and other loaders read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import DataError, unknown_name
from features.featureset import FeatureSet, read_featureset
from features.files import write_text
from features.formats.files import write_arrays
from features.formats.source import Grid
from features.progress import progress
from features.store import VideoFeatures, read_video, video_ids

FORMATS = ("hdf5", "npy", "npz")
# Frames per second that the times of a set are counted in, where no publication gives another number.
_FPS = 30.0
_TOLERANCE_S = 1e-3
_README = "README.txt"


@dataclass(frozen=True)
class ExportSummary:
    """What an export wrote.

    Attributes:
        arrays: how many.
        shifted: ids of dense videos whose first row lies elsewhere than that of most, and so all of their rows.
        with_gaps: ids of dense videos that were left out, as rows are missing in them.
    """

    arrays: int
    shifted: tuple[str, ...]
    with_gaps: tuple[str, ...]


def export(root: Path, out: Path, file_format: str) -> ExportSummary:
    """Write the features of a set, of the first view: one array per video of a dense set, or one per segment.

    Raises:
        OptionError: there is no such format.
        DataError: the folder holds other files, a video is damaged, or a file cannot be written.
    """
    if file_format not in FORMATS:
        raise unknown_name("--format", "format", file_format, FORMATS)
    featureset = read_featureset(root)
    videos = video_ids(root)
    if not videos:
        raise DataError(f"{root}: has no features yet.")
    title = f"Features exported by epic-heads as {file_format} from a set of digest {featureset.digest[:16]}."
    _need_own_folder(out, title)
    write_text(out / _README, f"{title}\nThis export is not complete; run it again.\n")
    is_dense = featureset.sampling.kind == "dense"
    grid = _grid(featureset, read_video(root, videos[0], digest=featureset.digest)) if is_dense else None
    num_arrays, shifted, with_gaps = 0, [], []
    with progress(videos, total=len(videos), unit="videos", label="export") as bar:
        for video_id in bar:
            video = read_video(root, video_id, digest=featureset.digest, views=featureset.views[:1])
            if grid is None:
                num_arrays += _write_segments(out, video, file_format)
                continue
            own_grid = _grid(featureset, video)
            if np.abs(own_grid.seconds(len(video.seconds)) - video.seconds).max() > _TOLERANCE_S:
                with_gaps.append(video_id)
                continue
            if abs(own_grid.offset - grid.offset) / grid.fps > _TOLERANCE_S:
                shifted.append(video_id)
            times = {"fps": own_grid.fps, "stride": own_grid.stride, "offset": own_grid.offset}
            _write_dense(out, video, file_format, times)
            num_arrays += 1
    summary = ExportSummary(num_arrays, tuple(shifted), tuple(with_gaps))
    write_text(out / _README, "\n".join([title, "", *_describe(featureset, grid, summary, file_format)]) + "\n")
    return summary


def _need_own_folder(out: Path, title: str) -> None:
    if not out.is_dir() or not any(out.iterdir()):
        return
    readme = out / _README
    if not readme.is_file() or readme.read_text(encoding="utf-8").split("\n", 1)[0] != title:
        raise DataError(f"{out}: holds other files; export into a new folder (--out).")


def _grid(featureset: FeatureSet, video: VideoFeatures) -> Grid:
    """Return the times of a video's rows as frames: those of the publication, or of 30 frames per second."""
    every_s, layout = featureset.sampling.every_s, featureset.imported or {}
    assert every_s is not None
    fps, stride = layout.get("fps", _FPS), layout.get("stride", round(every_s * _FPS, 9))
    return Grid(fps, stride, round(float(video.seconds[0]) * fps, 6))


def _write_dense(out: Path, video: VideoFeatures, file_format: str, times: dict[str, float]) -> None:
    arrays = _arrays(video, slice(None))
    if file_format == "hdf5":
        write_arrays(out / f"{video.video_id}.hdf5", arrays)
    else:
        write_arrays(out / f"{video.video_id}.{file_format}", {**arrays, **times})


def _write_segments(out: Path, video: VideoFeatures, file_format: str) -> int:
    arrays = dict(_arrays_of_segments(video))
    if file_format == "hdf5":
        write_arrays(out / f"{video.video_id}_segments.hdf5", arrays)
    else:
        for name, of_segment in arrays.items():
            write_arrays(out / f"{name}.{file_format}", of_segment)
    return len(arrays)


def _arrays_of_segments(video: VideoFeatures) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, name in enumerate(video.narration_id):
        rows = slice(int(video.offset[index]), int(video.offset[index + 1]))
        yield name, _arrays(video, rows)


def _arrays(video: VideoFeatures, rows: slice) -> dict[str, Any]:
    arrays = {"feats": video.features[rows, 0].astype(np.float32), "seconds": video.seconds[rows]}
    return arrays if video.has_region is None else {**arrays, "has_region": video.has_region[rows]}


def _describe_regions(featureset: FeatureSet, file_format: str) -> str:
    cells = f"A row holds the cells {', '.join(featureset.cells)} side by side. "
    if file_format == "npy":
        return f"{cells}Which of them a row lacks is not in these files: such a cell is of the plain centre crop."
    return (
        f"{cells}Beside feats, has_region [T, {len(featureset.cells)}] says which of them a row has: a cell that it "
        "lacks is of the plain centre crop."
    )


def _describe(featureset: FeatureSet, grid: Grid | None, summary: ExportSummary, file_format: str) -> Iterator[str]:
    unit = "segment (its narration_id)" if grid is None else "video"
    files = {
        "npy": f"One file per {unit}: an array of rows and values, [T, {featureset.dim}] float32.",
        "npz": f"One file per {unit}: feats [T, {featureset.dim}] float32, and seconds [T], the time of each row.",
        "hdf5": f"One file per video, with feats [T, {featureset.dim}] float32 and seconds [T]"
        + (" in a group per segment." if grid is None else "."),
    }
    yield files[file_format]
    if featureset.regions is not None:
        yield _describe_regions(featureset, file_format)
    yield f"Backbone: {featureset.backbone}. View: {featureset.views[0]}. Arrays: {summary.arrays}."
    if grid is None:
        yield "The seconds of rows count from the start of the video."
        return
    yield (
        f"Row t lies at second (t * stride + offset) / fps of the video, with fps {grid.fps:.10g}, stride "
        f"{grid.stride:.10g} and offset {grid.offset:.10g}."
    )
    if summary.shifted:
        yield f"Another offset, as their first frame is later or earlier: {', '.join(summary.shifted)}."
    if summary.with_gaps:
        yield f"Left out, as rows are missing in them: {', '.join(summary.with_gaps)}."
    times = (
        ""
        if file_format != "npy"
        else f" --fps {grid.fps:.10g} --stride {grid.stride:.10g} --offset {grid.offset:.10g}"
    )
    yield f"To import them: features import {file_format} FOLDER{times} --out SET --annotations FOLDER"
