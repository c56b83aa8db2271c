"""Records of backbones load no library, and repeat what libraries and pages say of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from feature_files import finished, python
from torchvision.models import get_model_weights

from extract.backbones import PublishedFile, get, names, table
from extract.weights.published import find_weights

PAGE = Path(__file__).resolve().parents[3] / "docs" / "backbones.md"
HEAVY = ("torch", "torchvision", "transformers", "av")
OF_TORCHVISION = [name for name in names() if get(name).source.endswith("; torchvision")]


def _output(code: str, *arguments: str) -> str:
    """Return what a new process prints."""
    exit_code, out, err = finished(python(code, *arguments))
    assert exit_code == 0, err
    return out


LIST = """
import sys
from extract.cli import main
main(["backbones"], prog_name="extract", standalone_mode=False)
print("loaded:", *[name for name in sys.argv[1:] if name in sys.modules])
"""


def test_backbones_are_listed_without_torch_and_without_libraries():
    *lines, last = _output(LIST, *HEAVY, "numpy", "pandas").splitlines()
    assert last == "loaded:"
    assert {line.split()[0] for line in lines if line} >= set(names())


def test_records_are_imported_without_torch_and_without_libraries():
    code = "import sys, extract.backbones; print(*[name for name in sys.argv[1:] if name in sys.modules])"
    assert _output(code, *HEAVY) == "\n"


def test_package_loads_its_functions_when_they_are_used():
    code = """
import sys, extract
print(*[name for name in sys.argv[1:] if name in sys.modules], *extract.__all__)
from extract.extraction import run
print(extract.run is run, "run" in dir(extract), hasattr(extract, "walk"))
"""
    assert _output(code, *HEAVY) == "Summary run\nTrue True False\n"


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_record_has_the_preprocessing_and_the_address_of_torchvision(name):
    entry = get(name)
    assert isinstance(entry.weights, PublishedFile)
    kind, member = entry.weights.revision.split(".")
    published_weights = get_model_weights(name)[member]
    assert (type(published_weights).__name__, published_weights.url) == (kind, entry.weights.url)
    preset, ours = published_weights.transforms(), entry.preprocess
    size = tuple(preset.resize_size)
    assert ours.resize == (size[0] if len(size) == 1 else size)
    assert ours.crop == tuple(preset.crop_size) * (2 if len(preset.crop_size) == 1 else 1)
    assert (ours.mean, ours.std) == (tuple(preset.mean), tuple(preset.std))
    assert ours.interpolation == preset.interpolation.value
    # Video presets resize without antialiasing and do not say so (torchvision.transforms._presets.VideoClassification).
    # Image presets before 0.17 say "warn": pictures of PIL, which the published accuracies are of, are antialiased.
    assert ours.antialias == bool(getattr(preset, "antialias", False))


def test_torchvision_has_thirteen_of_the_backbones():
    """Or the test above would say nothing."""
    assert len(OF_TORCHVISION) == 13


FIND = """
from extract.weights.published import _torch_hub_folder
print(_torch_hub_folder())
import torch
print(torch.hub.get_dir())
"""


@pytest.mark.parametrize(
    "variables", [{}, {"TORCH_HOME": "~/elsewhere"}, {"XDG_CACHE_HOME": "/var/cache"}], ids=["neither", "torch", "xdg"]
)
def test_cache_of_torch_is_found_without_loading_torch(monkeypatch, variables):
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ours, theirs = _output(FIND).splitlines()
    assert ours == theirs


def test_cache_that_a_program_has_chosen_is_used(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    entry = get("resnet50")
    assert find_weights(entry) is None
    file = tmp_path / "checkpoints" / os.path.basename(entry.weights.url)
    file.parent.mkdir()
    file.write_bytes(b"")
    assert find_weights(entry).path == file


# ---- the table of docs/backbones.md


def test_table_of_the_page_is_that_of_the_registry():
    assert table.main([str(PAGE), "--check"]) == 0


def test_table_names_every_backbone_once():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == names()


def test_table_that_is_out_of_date_is_noticed_and_renewed(tmp_path, capsys):
    page = tmp_path / "page.md"
    text = PAGE.read_text(encoding="utf-8")
    page.write_text(text.replace("| 2048 |", "| 2049 |"), encoding="utf-8")
    assert table.main([str(page), "--check"]) == 1
    assert "run `make docs`" in capsys.readouterr().err
    assert table.main([str(page)]) == 0
    assert page.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("text", ["", table.BEGIN, f"{table.END}\n{table.BEGIN}", 2 * f"{table.BEGIN}{table.END}"])
def test_page_without_the_two_markers_is_refused(text):
    with pytest.raises(ValueError, match="once each and in this order"):
        table.with_table(text)
