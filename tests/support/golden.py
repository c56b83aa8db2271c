"""Golden files: tiny checkpoints in exactly a publisher's format, and what the publisher's code gives for a clip."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

_TESTS = Path(__file__).resolve().parents[1]
# One format of each network is kept with the tests; the others may lie in a folder beside the repository.
_FOLDERS = (_TESTS / "golden", _TESTS.parents[1] / "shared" / "encoders" / "golden")


@dataclass(frozen=True)
class Golden:
    """A golden file.

    Attributes:
        path: of the checkpoint.
        config: sizes of the tiny network.
        arrays: what the publisher's code gave, such as "steps" (B, P, D) and "tokens" (B, P, h * w, D) for "clip".
    """

    path: Path
    config: dict[str, Any]
    arrays: dict[str, torch.Tensor]


def golden(name: str) -> Golden:
    """Return a golden file, or skip the test where it is not."""
    folder = next((folder for folder in _FOLDERS if (folder / f"{name}.pth").is_file()), None)
    if folder is None:
        pytest.skip(f"{name}.pth is neither with the tests nor beside the repository")
    config = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["config"]
    with np.load(folder / f"{name}.npz") as arrays:
        return Golden(folder / f"{name}.pth", config, {key: torch.from_numpy(arrays[key]) for key in arrays.files})
