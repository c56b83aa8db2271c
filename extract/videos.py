"""Find the videos of a dataset, in whatever form they lie on the disk. Reads names only, and knows no annotations.

P01/P01_101.mp4, P01/videos/P01_101.MP4         a file
P01/rgb_frames/P01_101/frame_0000000001.jpg     a folder of JPEG frames
P01/rgb_frames/P01_101.tar                      a tar of JPEG frames
P01/P01_101.MP4/0.MP4, 15.MP4, ...              a folder of chunks, named by the seconds at which they begin
GX010123.MP4, GX020123.MP4, ...                 the chapters of a GoPro, which are the video GX010123
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from extract.decode.sources import FRAME_NAME, FileSeries, FrameFiles, Source, published_fps
from features.errors import DataError, OptionError, unknown_name

FORMS = {"video": "video file", "frames": "folder or tar of JPEG frames", "chunks": "folder of chunks"}
# FFmpeg opens more kinds of files; names with these endings are taken for videos.
ENDINGS = (
    *(".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob"),
    *(".wmv", ".asf", ".flv", ".f4v", ".3gp", ".ogv", ".mxf"),
)
# The published optical flow, whose tars have the same names as those of the frames.
_FLOW = "flow_frames"
_SECONDS = re.compile(r"\d+(\.\d+)?")
# A folder with so many frames holds nothing else. The frames of all videos are some twenty million files.
_FRAMES_ENOUGH = 64


@dataclass(frozen=True)
class _Candidate:
    """A file or folder that has the name of a video.

    Attributes:
        form: one of `FORMS`.
        files: the video files in the folder of a file, or the chunks in a folder of chunks.
    """

    path: Path
    form: str
    files: Sequence[Path] = ()


def find_videos(
    root: Path,
    video_ids: Iterable[str],
    *,
    known_ids: Iterable[str] = (),
    form: str | None = None,
    frames_fps: float | None = None,
) -> dict[str, Source | None]:
    """Return where each video is; None if it is not below `root`.

    A file or folder belongs to the video that its name without the ending says. If nothing has exactly that name, upper
    and lower case count as the same. It may lie in any folder below `root` that is not hidden.

    Args:
        known_ids: of other videos, so that theirs are not taken for parts of these, or for other spellings.
        form: one of `FORMS`, to look for nothing else.
        frames_fps: frames per second of JPEG frames; by default those of the published frames.

    Raises:
        OptionError: there is no such form, or the rate of frames is missing or makes no sense.
        DataError: `root` is no folder, or it holds a wanted video twice.
    """
    root = Path(root)
    if form is not None and form not in FORMS:
        raise unknown_name("--input", "form", form, FORMS)
    if frames_fps is not None and not (math.isfinite(frames_fps) and frames_fps > 0):
        raise OptionError("--frames-fps", f"{frames_fps} is not a number of frames per second above 0.")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of videos.")
    wanted = set(video_ids)
    known = wanted.union(known_ids)
    # The whole tree is listed once, instead of trying each possible path of each video: scratch file systems are slow.
    listed = [item for item in _candidates_below(root) if form in (None, item.form)]
    candidates = _by_video(sorted(listed, key=lambda candidate: candidate.path), wanted, known)
    sources: dict[str, Source | None] = dict.fromkeys(sorted(wanted))
    for video_id in sources:
        if candidates[video_id]:
            candidate = _only_one(root, video_id, candidates[video_id])
            sources[video_id] = _source(candidate, video_id, known, frames_fps)
    return sources


def missing_message(video_id: str, form: str | None) -> str:
    """Return what to say of a video that is not there."""
    if form is not None:
        return f"no {FORMS[form]} named {video_id} below the folder of videos (--input {form} looks for nothing else)"
    return (
        f"nothing named {video_id} below the folder of videos: no file {video_id}.mp4 (whatever the case, or with "
        "another ending of videos), no folder or tar of JPEG frames, and no folder of chunks"
    )


# ---- the tree


def _candidates_below(root: Path) -> Iterator[_Candidate]:
    """Yield all files and folders that may be videos, by what they hold; of what video, their names say."""
    for folder, files, has_frames in _folders_below(root):
        videos = [path for path in files if path.suffix.lower() in ENDINGS]
        for path in files:
            is_tar = path.suffix.lower() == ".tar"
            yield _Candidate(path, "frames") if is_tar else _Candidate(path, "video", videos)
        if has_frames:
            yield _Candidate(folder, "frames")
        chunks = [path for path in videos if _SECONDS.fullmatch(path.stem)]
        if chunks and not _SECONDS.fullmatch(folder.stem):  # the folder of a video 12 may be called 12
            yield _Candidate(folder, "chunks", chunks)


def _folders_below(root: Path) -> Iterator[tuple[Path, list[Path], bool]]:
    """Yield each folder with its videos and tars, and whether it holds JPEG frames.

    Folders that have links to them are yielded by all of their names, but what is below them only once.
    """
    seen = set()
    todo = [root]
    while todo:
        folder = todo.pop()
        subfolders, files, num_frames = _entries(folder)
        yield folder, files, num_frames > 0
        real = os.path.realpath(folder)
        if real not in seen and num_frames < _FRAMES_ENOUGH:
            todo += sorted(subfolders, reverse=True)
        seen.add(real)


def _entries(folder: Path) -> tuple[list[Path], list[Path], int]:
    """Return the subfolders of a folder, its videos and tars, and how many JPEG frames it has, if not too many."""
    subfolders, files, num_frames = [], [], 0
    # Folders that may not be read, such as lost+found, hold no videos of the user's.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if FRAME_NAME.fullmatch(entry.name):
                num_frames += 1
                if num_frames == _FRAMES_ENOUGH:
                    break
            elif entry.name.startswith(".") or entry.name == _FLOW:
                continue
            elif _is_folder(entry):
                subfolders.append(Path(entry.path))
            elif (path := Path(entry.path)).suffix.lower() in (*ENDINGS, ".tar"):
                files.append(path)
    return subfolders, files, num_frames


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


# ---- the videos


def _by_video(
    candidates: Sequence[_Candidate], wanted: Collection[str], known: Collection[str]
) -> dict[str, list[_Candidate]]:
    """Return the candidates of each wanted video: those of exactly its name, or else those of its name in any case."""
    exact, in_any_case = defaultdict(list), defaultdict(list)
    for candidate in candidates:
        name = _name(candidate)
        exact[name].append(candidate)
        if name not in known:
            in_any_case[name.lower()].append(candidate)
    return {video_id: exact.get(video_id) or in_any_case.get(video_id.lower(), []) for video_id in wanted}


def _name(candidate: _Candidate) -> str:
    path = candidate.path
    return path.stem if path.suffix.lower() in (*ENDINGS, ".tar") else path.name


def _only_one(root: Path, video_id: str, candidates: Sequence[_Candidate]) -> _Candidate:
    """Return the candidate, of which links may give several names to one."""
    first, *others = {_identity(candidate): candidate for candidate in reversed(candidates)}.values()
    first, *others = sorted([first, *others], key=lambda candidate: candidate.path)
    if not others:
        return first
    forms = {first.form: first, **{candidate.form: candidate for candidate in others}}
    if len(forms) > 1:
        raise DataError(
            f"{root}: video {video_id} is there in {len(forms)} forms: "
            f"{' and '.join(f'{candidate.path} ({FORMS[form]})' for form, candidate in forms.items())}; "
            f"choose one with --input {'|'.join(forms)}."
        )
    raise DataError(
        f"{root}: video {video_id} is there twice: {first.path} and {others[0].path}; leave one, or point --videos at "
        "the folder that is meant."
    )


def _identity(candidate: _Candidate) -> tuple[str, object]:
    try:
        status = candidate.path.stat()
    except OSError:  # a link to nothing
        return candidate.form, candidate.path
    return candidate.form, (status.st_dev, status.st_ino)


def _source(candidate: _Candidate, video_id: str, known: Collection[str], frames_fps: float | None) -> Source:
    if candidate.form == "frames":
        return FrameFiles(candidate.path, _frames_per_second(candidate.path, video_id, frames_fps))
    if candidate.form == "chunks":
        return _chunks(candidate.path, candidate.files)
    chapters = _chapters(candidate.path, candidate.files, known)
    return FileSeries(candidate.path, chapters, starts=None) if len(chapters) > 1 else candidate.path


def _frames_per_second(path: Path, video_id: str, frames_fps: float | None) -> Fraction:
    if frames_fps is not None:
        return Fraction(str(frames_fps))
    if (fps := published_fps(video_id)) is not None:
        return fps
    raise OptionError(
        "--frames-fps", f"is missing: {path} holds JPEG frames, and {video_id} is not of EPIC-KITCHENS-100."
    )


def _chunks(folder: Path, files: Sequence[Path]) -> FileSeries:
    in_order = sorted(files, key=lambda path: (Fraction(path.stem), path))
    starts = tuple(Fraction(path.stem) for path in in_order)
    for index, (start, following) in enumerate(itertools.pairwise(starts)):
        if start == following:
            raise DataError(
                f"{folder}: two chunks begin at {start} s: {in_order[index].name} and "
                f"{in_order[index + 1].name}; leave one."
            )
    return FileSeries(folder, tuple(in_order), starts)


def _chapters(first: Path, files: Sequence[Path], known: Collection[str]) -> tuple[Path, ...]:
    """Return the files of a recording that begins with `first`, as GoPros name them.

    A recording is GX010123, GX020123, GX030123 and so on (H.264: GH), or GOPR0123, GP010123, GP020123 of older ones.
    """
    match = re.fullmatch(r"(?:(G[HXL])01|GOPR)(\d{4})", first.stem, re.IGNORECASE)
    if match is None:
        return (first,)
    # A chapter that the annotations call a video is a video.
    others = {path.stem.upper(): path for path in files if path.suffix.lower() == first.suffix.lower()}
    for video_id in known:
        others.pop(video_id.upper(), None)
    prefix = (match[1] or "GP").upper()
    chapters = [first]
    number = 2 if match[1] else 1
    while chapter := others.get(f"{prefix}{number:02}{match[2]}"):
        chapters.append(chapter)
        number += 1
    return tuple(chapters)
