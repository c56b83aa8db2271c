"""What the tests of a report share: a night's runs, and their report as a page and as Markdown."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from report_runs import write_run, write_runs
from report_tables import Tables, tables_of_page
from synthetic import VERBS, Synthetic, write_synthetic

from heads.cli import main


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Synthetic:
    """A dataset with names of its verbs (but not of its nouns), large enough for every part to have some segments."""
    dataset = write_synthetic(tmp_path_factory.mktemp("report"), train=90, validation=80)
    keys = pd.DataFrame({"id": VERBS.keys(), "key": VERBS.values()})
    keys.to_csv(dataset.annotations / "EPIC_100_verb_classes.csv", index=False)
    return dataset


@pytest.fixture(scope="session")
def runs(dataset, tmp_path_factory) -> Path:
    """A night's runs; read them, never write into them."""
    return write_runs(tmp_path_factory.mktemp("night") / "runs", dataset)


@pytest.fixture
def single_run(dataset, tmp_path) -> Path:
    """A folder with one run of one seed, to do with as one likes."""
    return write_run(tmp_path / "few", "mean_pool", dataset, head="mean_pool", seed=0, right=0.6)


@pytest.fixture
def report(heads, tmp_path):
    """Make a report, and give its page."""

    def run(*arguments: object) -> str:
        result = heads("report", *arguments, "-o", "made.html")
        assert result.exit_code == 0, result.output
        assert re.fullmatch(r"made.html \([\d.]+ [kM]B\)\n", result.stdout)
        return (tmp_path / "made.html").read_text(encoding="utf-8")

    return run


@pytest.fixture
def markdown_report(heads):
    """Make a report, and give its Markdown: without plots it takes a tenth of the time."""

    def run(*arguments: object) -> str:
        result = heads("report", "--format", "md", *arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


@pytest.fixture(scope="session")
def page(runs, tmp_path_factory) -> str:
    """The page of the whole night."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    result = CliRunner().invoke(main, ["report", "--runs", str(runs), "-o", str(out)])
    assert result.exit_code == 0, result.output
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def tables(page) -> Tables:
    return tables_of_page(page)


@pytest.fixture(scope="session")
def labels(dataset) -> pd.DataFrame:
    return dataset.segments("validation").table


@pytest.fixture(scope="session")
def seeds(runs) -> list[Path]:
    """The seeds of the best row."""
    return [runs / f"bilstm-seed{seed}" for seed in range(3)]
