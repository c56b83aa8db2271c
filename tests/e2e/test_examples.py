"""The script and the notebook of examples/ run on the miniature, as a newcomer runs them after `make demo`."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from shell import ROOT

SCRIPT = ROOT / "examples" / "train_from_python.py"
NOTEBOOK = ROOT / "examples" / "explore.ipynb"


@pytest.fixture(scope="module")
def demo(tmp_path_factory, miniature) -> Path:
    """A folder with the annotations and the videos of the miniature, as `make demo` leaves them."""
    folder = tmp_path_factory.mktemp("examples") / "demo"
    folder.mkdir()
    (folder / "annotations").symlink_to(miniature.annotations)
    (folder / "videos").symlink_to(miniature.videos)
    return folder


def _cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_script_goes_from_videos_to_a_submission(demo, capsys):
    runpy.run_path(str(SCRIPT))["main"](demo)
    output = capsys.readouterr().out
    assert "mean_pool" in output
    assert "multiscale_lstm" in output
    assert (demo / "features" / "tiny_cnn-seg16" / "featureset.json").is_file()
    submission = demo / "runs_from_python" / "ensemble" / "submission"
    assert {path.name for path in submission.iterdir()} >= {"submission.pt", "epic_submission.zip"}


def test_notebook_shows_features_and_a_learning_curve(demo, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    monkeypatch.setattr(pyplot, "show", lambda: None)
    monkeypatch.chdir(demo.parent)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(cell for cell in _cells() if cell["cell_type"] == "code"):
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, cell {number}", "exec"), namespace)
    assert pyplot.get_fignums()
    pyplot.close("all")
    assert (demo / "runs_from_notebook" / "multiscale_lstm-seed0" / "metrics.csv").is_file()


def test_notebook_is_kept_without_outputs():
    cells = [cell for cell in _cells() if cell["cell_type"] == "code"]
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
