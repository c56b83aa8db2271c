"""What the tests of live share: runs on feature sets of the small miniature, and `heads watch` in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

import extract
import heads
from heads.cli import main

_SAMPLINGS = {"tiny_cnn-seg8": {"frames": 8}, "tiny_cnn-every0.2": {"every": 0.2}}


@dataclass(frozen=True)
class Trained:
    """Folders of the data, the feature sets by name, and the runs by name."""

    annotations: Path
    videos: Path
    sets: dict[str, Path]
    runs: Path

    def run(self, name: str) -> Path:
        """Return the folder of a run or an ensemble."""
        return self.runs / (name if name.startswith("ensemble") else f"{name}-seed0")


@pytest.fixture(autouse=True)
def _one_thread():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="session")
def trained(miniature, tmp_path_factory) -> Trained:
    """Runs on sets by segment and dense ones, with an ensemble of them; read them, never write into them."""
    folder = tmp_path_factory.mktemp("watched")
    sets = {name: folder / "features" / name for name in _SAMPLINGS}
    data = {"annotations": miniature.annotations}
    for name, sampling in _SAMPLINGS.items():
        extraction = {"backbone": "tiny_cnn", "weights": "random:0", "device": "cpu", "workers": 1}
        extract.run(videos=miniature.videos, out=sets[name], **data, **sampling, **extraction)
    segments, dense = sets.values()
    options = {**data, "runs": folder / "runs", "device": "cpu", "epochs": 6, "batch_size": 8, "lr": 5e-3}
    heads.train(head="bilstm:hidden=8", features=segments, name="by_segment", **options)
    heads.train(head="mean_pool", features=dense, context=0.5, name="dense", **options)
    heads.train(head="mean_pool", features=[segments, dense], name="both", **options)
    heads.train(head="mean_pool", features=segments, neighbours=1, name="neighbours", **options)
    shared = {"head": "context:width=16:layers=1:attention_heads=2", "window": 3, **options}
    heads.train(features=dense, name="shared", **shared)
    heads.train(features=segments, name="shared_by_segment", **shared)
    members = [folder / "runs" / f"{name}-seed0" for name in ("by_segment", "dense")]
    heads.ensemble(members, runs=folder / "runs", weights=(3, 1), annotations=miniature.annotations)
    return Trained(miniature.annotations, miniature.videos, sets, folder / "runs")


@pytest.fixture
def watch(tmp_path, monkeypatch) -> Callable[..., Result]:
    """Run `heads watch` in this process, on the CPU, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EPIC_WEIGHTS", raising=False)

    def run(*arguments: object) -> Result:
        words = ["watch", *map(str, arguments), "--device", "cpu", "--workers", "1"]
        result = CliRunner().invoke(main, words)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
