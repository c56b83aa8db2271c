"""The facts of EPIC-KITCHENS-100 and its annotation files, as published. Knows no features.

Where a segment lies in its video is given by its start and stop timestamps, in seconds, and by nothing else. The frame
columns of the files count frames of copies at 60 fps (videos PXX_YY) or 50 fps (PXX_1YY), not frames of the video file;
they are kept for reference and used nowhere.

Source: Damen et al., "Rescaling Egocentric Vision", IJCV 2022; epic-kitchens/epic-kitchens-100-annotations.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from features.errors import DataError, first_few
from features.files import unreadable

NUM_VERBS = 97
NUM_NOUNS = 300
# The labels of every segment, and the number of their classes.
NUM_CLASSES = {"verb": NUM_VERBS, "noun": NUM_NOUNS}

TRAIN_CSV = "EPIC_100_train.csv"
VALIDATION_CSV = "EPIC_100_validation.csv"
TEST_CSV = "EPIC_100_test_timestamps.csv"

_REQUIRED = ("narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp")
_FRAMES = ("start_frame", "stop_frame")
_LABELS = {f"{task}_class": num_classes for task, num_classes in NUM_CLASSES.items()}
_TIMESTAMP = r"(\d+):([0-5]\d):([0-5]\d(?:\.\d+)?)"
# Ids become file names, so no other characters are allowed in them.
_ID = r"[A-Za-z0-9][A-Za-z0-9_-]*"

_Content = TypeVar("_Content")


@dataclass(frozen=True, eq=False)
class Segments:
    """Annotated actions, one row per action, in the order of their files.

    Attributes:
        table: columns narration_id, participant_id, video_id (str), start_s, stop_s (float64, seconds of the
            video), start_frame, stop_frame (Int64, for reference only), verb_class, noun_class (Int64, <NA> where
            the split withholds them), narration (str, for people; empty where the file has none). Its index is
            0..N-1.
        source: the files it was read from, for messages.
    """

    table: pd.DataFrame
    source: str

    def __post_init__(self) -> None:
        if self.table.empty:
            raise DataError(f"{self.source}: no segments; the file or the selection is empty.")

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        videos = self.table.video_id.nunique()
        return f"Segments({len(self)} in {videos} videos, from {self.source})"

    @property
    def narration_id(self) -> np.ndarray:
        """(N,) str objects."""
        return self.table["narration_id"].to_numpy(dtype=object)

    @property
    def verb_class(self) -> np.ndarray:
        """(N,) int64; DataError where the split withholds labels."""
        return self._labels("verb_class")

    @property
    def noun_class(self) -> np.ndarray:
        """(N,) int64; DataError where the split withholds labels."""
        return self._labels("noun_class")

    @property
    def is_labelled(self) -> bool:
        """True if every segment has a verb_class and a noun_class."""
        return not self.table[list(_LABELS)].isna().any(axis=None)

    def _labels(self, column: str) -> np.ndarray:
        if self.table[column].isna().any():
            raise DataError(f"{self.source}: segments have no {column}; a labelled split is needed.")
        return self.table[column].to_numpy(dtype=np.int64)

    def by_video(self) -> Iterator[tuple[str, Segments]]:
        """Yield each video's id and segments: videos in the order of their ids, rows in the order of the table."""
        for video_id, rows in self.table.groupby("video_id", sort=True):
            yield str(video_id), Segments(rows.reset_index(drop=True), self.source)

    def where(self, mask: np.ndarray) -> Segments:
        """Return the segments where `mask` (N,) bool is true; DataError if there are none."""
        return Segments(self.table[mask].reset_index(drop=True), self.source)


@dataclass(frozen=True)
class SplitFiles:
    """The annotation files of the three splits; None for a split without a file."""

    train: Path | None
    validation: Path | None
    test: Path | None


@dataclass(frozen=True)
class Annotations:
    """The content of a folder of annotation files; None for a file that is not there.

    Attributes:
        verb_keys, noun_keys: class id -> its key, such as 0 -> "take".
        tail_verbs, tail_nouns: classes with few instances, from the challenge's lists.
        unseen_validation, unseen_test: participants of whom the training split has no video.
    """

    train: Segments | None = None
    validation: Segments | None = None
    test: Segments | None = None
    verb_keys: dict[int, str] | None = None
    noun_keys: dict[int, str] | None = None
    tail_verbs: frozenset[int] | None = None
    tail_nouns: frozenset[int] | None = None
    unseen_validation: frozenset[str] | None = None
    unseen_test: frozenset[str] | None = None


def read_segments(path: Path) -> Segments:
    """Read one annotation CSV (train, validation or test timestamps), plain or compressed.

    Raises:
        DataError: the file cannot be read, a column is missing, or a row is wrong: a bad id or timestamp, a stop
            that is not after its start, a class id out of range, or a repeated narration_id. The message names the
            file, the row (as a spreadsheet counts rows: the header is row 1) and the narration_id.
    """
    path = Path(path)
    rows = _read_csv(path)
    _need_columns(path, rows, _REQUIRED)
    labels = [column for column in _LABELS if column in rows]
    if len(labels) == 1:
        other = next(column for column in _LABELS if column not in labels)
        raise DataError(f"{path}: it has the column {labels[0]} but not {other}; give both or neither.")
    for column in ("narration_id", "participant_id", "video_id"):
        _need_all(path, rows, rows[column].str.fullmatch(_ID), column, "letters, digits, '_' and '-'")
    table = rows[["narration_id", "participant_id", "video_id"]].copy()
    _need_unique_ids(path, rows)
    table["start_s"] = _seconds(path, rows, "start_timestamp")
    table["stop_s"] = _seconds(path, rows, "stop_timestamp")
    _need_positive_length(path, rows, table)
    for column in _FRAMES:
        numbers = pd.to_numeric(rows.get(column, pd.Series(np.nan, rows.index)), errors="coerce")
        table[column] = numbers.where(numbers.between(0, 2**31)).round().astype("Int64")
    for column, num_classes in _LABELS.items():
        table[column] = _classes(path, rows, column, num_classes) if column in rows else pd.NA
        table[column] = table[column].astype("Int64")
    table["narration"] = rows.get("narration", pd.Series("", rows.index))
    return Segments(table.reset_index(drop=True), path.name)


def concatenate(parts: Sequence[Segments]) -> Segments:
    """Return the segments of several files in one table.

    Raises:
        DataError: a narration_id is in two of them.
    """
    source = " + ".join(part.source for part in parts)
    table = pd.concat([part.table for part in parts], ignore_index=True)
    repeated = table.narration_id[table.narration_id.duplicated()]
    if len(repeated):
        raise DataError(
            f"{source}: {len(repeated)} narration_id in several files ({first_few(repeated)}); give each split once."
        )
    return Segments(table, source)


def find_csv(folder: Path, name: str) -> Path | None:
    """Return the path of a published file in a folder, plain or compressed with gzip; None if neither is there."""
    plain = Path(folder) / name
    return next((path for path in (plain, plain.with_name(f"{name}.gz")) if path.is_file()), None)


def find_splits(folder: Path, **files: Path | None) -> SplitFiles:
    """Return the files of the splits: those given by name (train=, ...), else the published ones in a folder."""
    names = {"train": TRAIN_CSV, "validation": VALIDATION_CSV, "test": TEST_CSV}
    return SplitFiles(**{split: files.get(split) or find_csv(folder, name) for split, name in names.items()})


def read_annotations(folder: Path, files: SplitFiles | None = None) -> Annotations:
    """Read the published annotation files that a folder holds.

    Args:
        files: the three splits, if they have other names or are in another folder.

    Raises:
        DataError: the folder is missing, it holds none of the three splits, or a file is wrong.
    """
    folder = Path(folder)
    if files is None:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; give the folder that holds {TRAIN_CSV} (or name the CSV).")
        files = find_splits(folder)
    if files == SplitFiles(None, None, None):
        raise DataError(f"{folder}: none of {TRAIN_CSV}, {VALIDATION_CSV}, {TEST_CSV} (or .gz) is in it.")

    def published(name: str) -> Path | None:
        return find_csv(folder, name)

    return Annotations(
        train=_if_any(files.train, read_segments),
        validation=_if_any(files.validation, read_segments),
        test=_if_any(files.test, read_segments),
        verb_keys=_if_any(published("EPIC_100_verb_classes.csv"), read_verb_keys),
        noun_keys=_if_any(published("EPIC_100_noun_classes.csv"), read_noun_keys),
        tail_verbs=_if_any(published("EPIC_100_tail_verbs.csv"), read_tail_verbs),
        tail_nouns=_if_any(published("EPIC_100_tail_nouns.csv"), read_tail_nouns),
        unseen_validation=_if_any(published("EPIC_100_unseen_participant_ids_validation.csv"), read_participants),
        unseen_test=_if_any(published("EPIC_100_unseen_participant_ids_test.csv"), read_participants),
    )


def _if_any(path: Path | None, read: Callable[[Path], _Content]) -> _Content | None:
    return None if path is None else read(path)


def read_all_segments(paths: Iterable[Path]) -> Segments:
    """Read the segments of several annotation CSVs; of a folder, those of all three splits.

    Raises:
        DataError: a file is wrong, or a narration_id is in two of them.
    """
    parts = []
    for path in map(Path, paths):
        if path.is_dir():
            splits = read_annotations(path)
            parts += [split for split in (splits.train, splits.validation, splits.test) if split]
        else:
            parts.append(read_segments(path))
    return concatenate(parts)


def read_verb_keys(path: Path) -> dict[int, str]:
    """Read EPIC_100_verb_classes.csv: class id -> key."""
    return _keys(path, NUM_VERBS)


def read_noun_keys(path: Path) -> dict[int, str]:
    """Read EPIC_100_noun_classes.csv: class id -> key. (The file named _v2 numbers the classes differently.)"""
    return _keys(path, NUM_NOUNS)


def read_tail_verbs(path: Path) -> frozenset[int]:
    """Read EPIC_100_tail_verbs.csv: the verb classes of the tail."""
    return _class_list(path, "verb", NUM_VERBS)


def read_tail_nouns(path: Path) -> frozenset[int]:
    """Read EPIC_100_tail_nouns.csv: the noun classes of the tail."""
    return _class_list(path, "noun", NUM_NOUNS)


def read_participants(path: Path) -> frozenset[str]:
    """Read EPIC_100_unseen_participant_ids_*.csv: the participants listed."""
    rows = _read_csv(Path(path))
    _need_columns(path, rows, ["participant_id"])
    return frozenset(rows.participant_id)


def read_video_info(path: Path) -> pd.DataFrame:
    """Read EPIC_100_video_info.csv: duration_s, fps (float64) and resolution (str) of the originals, by video_id."""
    rows = _read_csv(Path(path))
    _need_columns(path, rows, ["video_id", "duration", "fps", "resolution"])
    columns = {
        "duration_s": _numbers(path, rows, "duration"),
        "fps": _numbers(path, rows, "fps"),
        "resolution": rows.resolution,
    }
    return pd.DataFrame(columns).set_axis(rows.video_id, axis=0)


def _read_csv(path: Path) -> pd.DataFrame:
    """Read every cell as text, so that a message quotes a cell exactly as the file has it."""
    try:
        rows = pd.read_csv(
            path, dtype=str, keep_default_na=False, index_col=False, skip_blank_lines=False, encoding="utf-8"
        )
        rows = rows.fillna("")  # the cells that a short row lacks
        # A blank line is not a segment, yet a spreadsheet counts it: the index keeps a row's position in the file.
        return rows[(rows != "").any(axis=1)]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file.") from error
    except OSError as error:  # gzip too raises this, for a file that gzip did not write
        raise unreadable(path, error) from error
    except (ValueError, EOFError, zlib.error) as error:  # pandas' own errors; a file that is empty or cut short
        raise DataError(f"{path}: not a CSV file ({error}).") from error


def _need_columns(path: Path, rows: pd.DataFrame, columns: Iterable[str]) -> None:
    missing = [column for column in columns if column not in rows]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; it has {', '.join(rows.columns)}.")


def _where(path: Path, rows: pd.DataFrame, index: int) -> str:
    """Return the name of a row for a message; row 1 is the header."""
    name = rows.narration_id.iloc[index] if "narration_id" in rows else ""
    return f"{path}, row {rows.index[index] + 2}" + (f" ({name})" if name else "")


def _need_all(path: Path, rows: pd.DataFrame, is_valid: pd.Series, column: str, expected: str) -> None:
    invalid = np.flatnonzero(~is_valid.to_numpy(dtype=bool))
    if len(invalid):
        index = int(invalid[0])
        more = f" ({len(invalid) - 1} more such rows)" if len(invalid) > 1 else ""
        value = rows[column].iloc[index]
        raise DataError(f"{_where(path, rows, index)}: {column} is '{value}', not {expected}{more}.")


def _need_unique_ids(path: Path, rows: pd.DataFrame) -> None:
    repeated = np.flatnonzero(rows.narration_id.duplicated())
    if len(repeated):
        index = int(repeated[0])
        first = int(np.flatnonzero(rows.narration_id == rows.narration_id.iloc[index])[0])
        raise DataError(f"{_where(path, rows, index)}: this narration_id is in row {rows.index[first] + 2} already.")


def _seconds(path: Path, rows: pd.DataFrame, column: str) -> pd.Series:
    is_time = rows[column].str.fullmatch(_TIMESTAMP)
    _need_all(path, rows, is_time, column, "a time such as 00:01:23.45")
    parts = rows[column].str.extract(_TIMESTAMP).astype(float)
    return parts[0] * 3600 + parts[1] * 60 + parts[2]


def _need_positive_length(path: Path, rows: pd.DataFrame, table: pd.DataFrame) -> None:
    invalid = np.flatnonzero(~(table.stop_s > table.start_s))
    if len(invalid):
        index = int(invalid[0])
        start, stop = rows.start_timestamp.iloc[index], rows.stop_timestamp.iloc[index]
        raise DataError(f"{_where(path, rows, index)}: stop_timestamp {stop} is not after start_timestamp {start}.")


def _classes(path: Path, rows: pd.DataFrame, column: str, num_classes: int) -> pd.Series:
    is_number = rows[column].str.fullmatch(r"[0-9]{1,6}")
    in_range = pd.to_numeric(rows[column].where(is_number, "-1")).between(0, num_classes - 1)
    _need_all(path, rows, in_range, column, f"a class id from 0 to {num_classes - 1}")
    return pd.to_numeric(rows[column])


def _numbers(path: Path, rows: pd.DataFrame, column: str) -> pd.Series:
    numbers = pd.to_numeric(rows[column], errors="coerce")
    _need_all(path, rows, numbers > 0, column, "a number above 0")
    return numbers


def _keys(path: Path, num_classes: int) -> dict[int, str]:
    rows = _read_csv(Path(path))
    _need_columns(path, rows, ["id", "key"])
    ids = _classes(path, rows, "id", num_classes)
    _need_all(path, rows, ~ids.duplicated(), "id", "an id of its own (another row above has it)")
    return dict(zip(ids.astype(int).tolist(), rows.key, strict=True))


def _class_list(path: Path, column: str, num_classes: int) -> frozenset[int]:
    rows = _read_csv(Path(path))
    _need_columns(path, rows, [column])
    return frozenset(_classes(path, rows, column, num_classes).astype(int).tolist())
