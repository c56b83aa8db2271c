"""Golden files: tiny checkpoints in the layouts in which networks are published, and what the publishers' code gives.

Those in tests/golden have one layout of each network. More lie in the folder shared/ beside the checkout, where it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_TESTS = Path(__file__).resolve().parents[1]
_FOLDERS = (_TESTS / "golden", _TESTS.parents[1] / "shared" / "encoders" / "golden")


@dataclass(frozen=True)
class GoldenFile:
    """A checkpoint.

    Attributes:
        config: the size of its network.
        arrays: a clip, and the features that the publisher's code gives for it, in float32.
    """

    path: Path
    config: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]


def golden_file(name: str) -> GoldenFile:
    """Return a golden file; skip the test where it is not there."""
    folder = next((folder for folder in _FOLDERS if (folder / f"{name}.pth").is_file()), None)
    if folder is None:
        pytest.skip(f"{name}.pth is neither in tests/golden nor in shared/encoders/golden beside the checkout")
    config = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["config"]
    with np.load(folder / f"{name}.npz") as arrays:
        return GoldenFile(folder / f"{name}.pth", config, dict(arrays))
