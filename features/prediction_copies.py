"""Whether two predictions files hold the same. Most are told apart without reading the predictions."""

from __future__ import annotations

import zipfile
from collections.abc import Hashable
from pathlib import Path

import numpy as np

from features.errors import DataError
from features.files import sha256_of_file
from features.prediction_formats import is_torch_zip, read_predictions_file


def fingerprint(path: Path) -> Hashable:
    """Return a value that files with the same content share, and hardly any others; the predictions are not read.

    torch.save names the content of a zip after the file, so bytes differ where the content is the same. The zip's table
    has a checksum of each part.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        if not is_torch_zip(path):
            return sha256_of_file(path)
        with zipfile.ZipFile(path) as archive:
            parts = {info.filename.partition("/")[2]: (info.file_size, info.CRC) for info in archive.infolist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error
    return tuple(sorted(item for item in parts.items() if item[0].startswith("data")))


def are_same(a: Path, b: Path) -> bool:
    """Return whether two files hold the same scores for the same segments.

    Raises:
        DataError: a file does not hold predictions.
    """
    prints = fingerprint(a), fingerprint(b)
    if prints[0] != prints[1]:
        return False
    if isinstance(prints[0], str):  # all bytes are the same
        return True
    first, second = (read_predictions_file(path).predictions for path in (a, b))  # zips may lack the checksums
    return first.narration_id == second.narration_id and all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in ("verb", "noun", "action", "pairs")
    )
