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
    """Return the file of each video, or None if it has none.

    A file belongs to the video that its name without the ending says (`.MP4` or `.mp4` alike). It may lie in any folder
    below `root`: the official layout (P01/videos/P01_101.MP4), one folder per participant (P01/P01_101.mp4), or a
    single folder.

    Raises:
        DataError: `root` is no folder, or it holds a wanted video twice.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of videos.")
    wanted = set(video_ids)
    paths_of: defaultdict[str, list[Path]] = defaultdict(list)
    # The whole tree is listed once, instead of trying each possible path of each video: scratch file systems are slow.
    for path in sorted(_files_below(root)):
        if path.suffix.lower() in _ENDINGS and path.stem in wanted:
            paths_of[path.stem].append(path)
    for video_id, paths in paths_of.items():
        if len(paths) > 1:
            raise DataError(
                f"{root}: video {video_id} is there twice: {paths[0]} and {paths[1]}; leave one, "
                "or point --videos at the folder that is meant."
            )
    return {video_id: paths_of[video_id][0] if video_id in paths_of else None for video_id in sorted(wanted)}


def _files_below(root: Path) -> Iterator[Path]:
    """Yield all files below a folder, including linked folders, but each real folder only once."""
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        yield from (Path(folder, name) for name in files)
