"""The segments of a video that have no features, and why: a record beside the files of a feature set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from features.errors import DataError
from features.files import read_json, write_json


class FailureKind(str, Enum):
    """Why a segment has no features: the value of "error" in a record, as it is written on disk.

    Attributes:
        meaning: what happened.
        remedy: what to do about it.
    """

    meaning: str
    remedy: str

    MISSING_VIDEO = (
        "MissingVideo",
        "The folder of videos holds no file for this video.",
        "Copy the video into the folder, or give the right folder with `--videos`.",
    )
    UNREADABLE_VIDEO = (
        "UnreadableVideo",
        "The video's file cannot be opened, or holds no video stream that can be decoded.",
        "Check the file with ffplay. If that fails too, download it again.",
    )
    BEYOND_END = (
        "BeyondEnd",
        "The segment ends after the last frame of the video's file.",
        "Compare its length with EPIC_100_video_info.csv. If the file is shorter, download it again.",
    )
    NO_FRAMES = (
        "NoFrames",
        "The video has a gap: no frames close enough to the times that the segment needs, or a missing JPEG frame.",
        "Download the video again. If the published file has the gap, the segment has no features.",
    )
    UNDECODABLE = (
        "Undecodable",
        "A frame that the segment needs cannot be decoded or depends on a damaged one.",
        "Download the video again: the file is damaged.",
    )
    NOT_FINITE = (
        "NotFinite",
        "The backbone's output is NaN, infinite, or beyond the largest float16, 65504.",
        "Extract with `--precision float32`. If that does not help, check the weights.",
    )
    WORKER_DIED = (
        "WorkerDied",
        "The process that read the video ended; the message gives the signal or the exit code.",
        "Run the extraction again. After signal 9 (memory ran out), use fewer `--workers`.",
    )
    WORKER_HUNG = (
        "WorkerHung",
        "The process that read the video did not answer for too long and was ended.",
        "Check the file system that holds the videos, then run the extraction again.",
    )
    NO_BOXES = (
        "NoBoxes",
        "The boxes of the video's hands and objects are missing or cannot be read (`--regions`).",
        "Copy the file of the video into the folder of boxes, or fetch it again.",
    )
    KEPT_EARLIER = (
        "KeptEarlier",
        "The video's file has gone or lacks frames that an earlier run used, so the earlier features were kept.",
        "Bring back the whole video, then run the extraction again.",
    )

    NOT_IN_SOURCE = (
        "NotInSource",
        "The imported files hold no features for this segment.",
        "Compare the files with the publisher's list. If they are the published ones, the segment has no features.",
    )
    WRONG_ROWS = (
        "WrongRows",
        "The rows of the imported file are not as many as they should be, or lie past the end of the video.",
        "Check `--fps`, `--stride`, `--offset` and `--intervals`. If they are right, download the file again.",
    )

    def __new__(cls, value: str, meaning: str, remedy: str) -> FailureKind:
        kind = str.__new__(cls, value)
        kind._value_ = value
        kind.meaning, kind.remedy = meaning, remedy
        return kind

    def __str__(self) -> str:  # the value in every version of Python
        return str(self.value)


_KINDS = {kind.value: kind for kind in FailureKind}


@dataclass(frozen=True)
class Failure:
    """A segment that has no features.

    Attributes:
        error: its kind; text of any other kind, in a record of another version, is kept as it is.
        message: what is wrong, and where.
        frame: the number of the video's frame that is at fault, where it is a frame.
        views: names of the views that the segment has no features in, though its video's file has others; empty if it
            has none at all.
    """

    narration_id: str
    error: FailureKind | str
    message: str
    frame: int | None = None
    views: tuple[str, ...] = ()


def failures_path(root: Path, video_id: str) -> Path:
    """Return the path of a video's record of failures."""
    return Path(root) / "failures" / f"{video_id}.json"


def write_failures(root: Path, video_id: str, failures: Sequence[Failure]) -> None:
    """Write which segments of a video failed, and why; without failures, remove the record of an earlier run."""
    path = failures_path(root, video_id)
    if failures:
        write_json(path, {"video_id": video_id, "segments": [_as_json(failure) for failure in failures]})
    else:
        path.unlink(missing_ok=True)


def _as_json(failure: Failure) -> dict[str, Any]:
    record = asdict(failure)
    if not failure.views:  # as in records from before a set could gain views
        del record["views"]
    return record


def read_failures(root: Path, video_id: str) -> list[Failure]:
    """Read which segments of a video failed; an empty list where none did.

    Raises:
        DataError: the record is damaged.
    """
    path = failures_path(root, video_id)
    if not path.is_file():
        return []
    record = read_json(path)
    try:
        failures = [Failure(**segment) for segment in record["segments"]]
        return [
            replace(failure, error=_KINDS.get(failure.error, failure.error), views=tuple(failure.views))
            for failure in failures
        ]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not a record of failures ({error}); delete it.") from error


def failed_video_ids(root: Path) -> list[str]:
    """Return the ids of the videos that have failures, sorted."""
    return sorted(path.stem for path in (Path(root) / "failures").glob("*.json"))
