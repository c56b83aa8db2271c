"""Find the video files of a dataset. Knows no annotations."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from features.errors import DataError

# Not .avi: it has no presentation times.
_ENDINGS = {".mp4", ".mkv", ".mov"}


def find_videos(root: Path, video_ids: Iterable[str]) -> dict[str, Path | None]:
    """Give the file of each video, or None where there is none.

    Files are known by their name without its ending, whatever its case, in any folder below `root`: the official
    layout (P01/videos/P01_101.MP4), a flat one a participant (P01/P01_101.mp4), or all in one folder.

    Raises:
        DataError: `root` is no folder, or a wanted video lies in it twice.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of videos.")
    wanted = set(video_ids)
    found = defaultdict(list)
    # The whole tree is listed once, rather than each place tried for each video: scratch answers slowly.
    for path in sorted(_files_below(root)):
        if path.suffix.lower() in _ENDINGS and path.stem in wanted:
            found[path.stem].append(path)
    for video_id, paths in found.items():
        if len(paths) > 1:
            raise DataError(
                f"{root}: video {video_id} is there twice: {paths[0]} and {paths[1]}; leave one, "
                "or point --videos at the folder that is meant."
            )
    return {video_id: (found[video_id] or [None])[0] for video_id in sorted(wanted)}


def _files_below(root: Path) -> Iterator[Path]:
    """Give all files below a folder, linked folders included, each real folder once."""
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        yield from (Path(folder, name) for name in files)
