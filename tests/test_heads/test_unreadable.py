"""A file of a run that the system does not let be read is no reason to delete the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from forbidden import forbidden, refused_for

from heads.models.saved import load_model
from heads.runs import read_metrics, read_record
from heads.sweep.options_file import read_options_file
from heads.sweep.records import read_failures
from heads.training.resume import resume

_CPU = torch.device("cpu")
READERS: dict[str, Callable[[Path], object]] = {
    "config.json": lambda path: read_record(path.parent),
    "metrics.csv": read_metrics,
    "best_model.pth": lambda path: load_model(path, device=_CPU),
    "last.pth": lambda path: resume(path, torch.nn.Linear(1, 1), None, None, _CPU),
    "failed.json": lambda path: read_failures(path.parent),
    "sweep.yaml": lambda path: read_options_file(path, {}),
}


@pytest.mark.parametrize("name", READERS)
def test_file_without_permission_is_not_to_be_deleted(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("run") / name
    path.parent.mkdir()
    path.write_text("{}")
    with forbidden(path), refused_for(f"{path}: cannot be read: Permission denied", "owner"):
        READERS[name](path)
