"""Our own files of tensors: written whole, and read without running any code in them.

features/checkpoints.py reads those of others.
"""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import torch

from features.errors import DataError
from features.files import is_of_the_system, unreadable, written_whole


def save_tensors(path: Path, content: Any) -> None:
    """Write tensors and plain values whole; the same content gives the same bytes."""
    # Not directly to the path: torch.save would write the temporary name into the file, and would turn a full disk into
    # a RuntimeError of many lines.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with written_whole(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_safely(path: Path | BinaryIO, *, device: torch.device | str = "cpu", name: str | None = None) -> Any:
    """Read a file that torch.save wrote: tensors and plain values only. No code in the file is run.

    Args:
        name: the name of the file in messages; by default its path.

    Raises:
        DataError: the file does not exist, is damaged, or could only be loaded unsafely.
    """
    name = name or str(path)
    if isinstance(path, (str, Path)) and not os.path.isfile(path):  # also false for a path that no file can have
        raise DataError(f"{name}: no such file.")
    try:
        with warnings.catch_warnings():
            # torch before 2.2 warns of its own code at every load.
            warnings.filterwarnings("ignore", message="TypedStorage is deprecated", category=UserWarning)
            return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        if isinstance(error, OSError) and is_of_the_system(error.errno):
            raise unreadable(name, error) from error
        reason = str(error).split("\n", 1)[0]
        raise DataError(f"{name}: cannot be loaded safely as tensors ({reason}).") from error
