"""The segments of a video that have no features, and why: a record beside a feature set's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from features.errors import DataError
from features.files import read_json, write_json


@dataclass(frozen=True)
class Failure:
    """A segment that has no features.

    Attributes:
        error: its class in one word, such as BeyondEnd, Undecodable, MissingVideo.
        message: what is wrong, and where.
        frame: the frame of the video at fault, where there is one.
    """

    narration_id: str
    error: str
    message: str
    frame: int | None = None


def failures_path(root: Path, video_id: str) -> Path:
    """Give the place of a video's failures."""
    return Path(root) / "failures" / f"{video_id}.json"


def write_failures(root: Path, video_id: str, failures: Sequence[Failure]) -> None:
    """Record which segments of a video failed, and why; with none, remove the record of an earlier run."""
    path = failures_path(root, video_id)
    if failures:
        write_json(path, {"video_id": video_id, "segments": [asdict(one) for one in failures]})
    else:
        path.unlink(missing_ok=True)


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
        return [Failure(**one) for one in record["segments"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not a record of failures ({error}); delete it.") from error


def failed_video_ids(root: Path) -> list[str]:
    """Give the ids of the videos with failures, sorted."""
    return sorted(path.stem for path in (Path(root) / "failures").glob("*.json"))
