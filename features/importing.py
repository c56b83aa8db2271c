"""Published features become a feature set. features/formats/ opens the files, features/import_videos.py writes."""

from __future__ import annotations

import contextlib
import datetime
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features import __version__
from features.annotations import Segments, find_csv, read_all_segments, read_video_info
from features.errors import DataError, first_few
from features.featureset import FeatureSet, Weights
from features.formats.registry import get, open_source
from features.formats.source import Request, Source
from features.import_videos import VideoImporter
from features.intervals import segment_times
from features.progress import progress


@dataclass(frozen=True)
class ImportSummary:
    """What an import did, in segments of the videos that the files hold; done, kept and failed add up to `segments`.

    Attributes:
        done, kept: imported now, and there before.
        failed: without features; the reasons are recorded in failures/.
        failed_videos: the ids of their videos.
        missing_videos: ids in the annotations of which the files hold nothing at all.
        unknown: ids in the files that are not in the annotations.
        others: the other files whose features the set holds, as its videos name them.
        has_lengths: whether the lengths of the videos were known, so that ends could be checked.
    """

    videos: int
    segments: int
    done: int
    kept: int
    failed: int
    failed_videos: tuple[str, ...]
    missing_videos: tuple[str, ...]
    unknown: tuple[str, ...]
    others: tuple[str, ...]
    has_lengths: bool


def import_features(
    name: str,
    path: Path,
    *,
    out: Path,
    annotations: Path,
    backbone: str | None = None,
    part: str | None = None,
    fps: float | None = None,
    stride: float | None = None,
    offset: float | None = None,
    intervals: tuple[Path, ...] = (),
) -> ImportSummary:
    """Import published features into a feature set. What the set holds already stays; run again to continue.

    Args:
        name: of a format, as features/formats/registry.py has them.
        path: the file or folder of the features.
        annotations: the folder of the annotations, or one CSV.
        backbone: what made the features, for the record; by default the format and its part.
        part, fps, stride, offset, intervals: as in `Request`.

    Raises:
        OptionError: the format needs an option that is missing, or does not take one.
        DataError: a file is damaged or of another format, a value is not finite or beyond float16, the folder holds
            other features, or no id is known. Videos that were written before stay.
    """
    get(name)
    segments = read_all_segments([annotations])
    request = Request(Path(path), segments, part, fps, stride, offset, tuple(intervals))
    source = open_source(name, request)
    with contextlib.closing(source):
        known = set(segments.table.video_id if source.is_dense else segments.narration_id)
        if known.isdisjoint(source.files):
            names = first_few(source.files)
            raise DataError(
                f"{path}: none of its ids ({names}) is in {segments.source}; give the annotations of these."
            )
        record, video_info = _record(name, source, backbone, request), _video_info(annotations)
        importer = VideoImporter(Path(out), source, record, path, video_info)
        return _import_videos(importer, source, segments, label=f"import {name}")


def _import_videos(importer: VideoImporter, source: Source, segments: Segments, *, label: str) -> ImportSummary:
    """Import one video after the other."""
    ids = segments.table.video_id if source.is_dense else segments.table.narration_id
    held = set(segments.table.video_id[ids.isin(source.files.keys())])
    counts: Counter[str] = Counter()
    failed_videos, num_segments = [], int(segments.table.video_id.isin(held).sum())
    with progress(total=num_segments, unit="segments", label=label) as bar:
        for video_id, rows in segments.by_video():
            if video_id not in held:
                continue
            of_video = importer.import_video(video_id, segment_times(rows))
            counts += of_video
            failed_videos += [video_id] if of_video["failed"] else []
            bar.update(len(rows))
    return ImportSummary(
        videos=len(held),
        segments=num_segments,
        done=counts["done"],
        kept=counts["kept"],
        failed=counts["failed"],
        failed_videos=tuple(failed_videos),
        missing_videos=tuple(sorted(set(segments.table.video_id) - held)),
        unknown=tuple(sorted(set(source.files) - set(ids))),
        others=tuple(sorted(importer.others)),
        has_lengths=importer.has_lengths,
    )


def _record(name: str, source: Source, backbone: str | None, request: Request) -> FeatureSet:
    """Return the record of a set, but for the width of its steps."""
    publication = get(name).publication
    layout = {"format": name, **({"part": request.part} if request.part else {}), **source.layout}
    return FeatureSet(
        backbone=backbone or (f"{name}:{request.part}" if request.part else name),
        weights=Weights(source=publication, revision="as published", sha256=""),
        preprocess={},
        precision="unknown",
        sampling=source.sampling,
        dim=1,
        imported=layout,
        versions={"epic-heads": __version__},
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def _video_info(annotations: Path) -> Mapping[str, Any]:
    """Return the length and the frames per second of each video, if they are published beside the annotations."""
    folder = annotations if annotations.is_dir() else annotations.parent
    path = find_csv(folder, "EPIC_100_video_info.csv")
    if path is None:
        return {}
    table = read_video_info(path)
    return dict(zip(table.index, zip(table.duration_s, table.fps, strict=True), strict=True))
