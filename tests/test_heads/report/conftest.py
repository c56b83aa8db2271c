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
def made(tmp_path_factory) -> Synthetic:
    """A dataset with names of its verbs (but not of its nouns), large enough for every part to have some segments."""
    made = write_synthetic(tmp_path_factory.mktemp("report"), train=90, validation=80)
    keys = pd.DataFrame({"id": VERBS.keys(), "key": VERBS.values()})
    keys.to_csv(made.annotations / "EPIC_100_verb_classes.csv", index=False)
    return made


@pytest.fixture(scope="session")
def runs(made, tmp_path_factory) -> Path:
    """A night's runs; read them, never write into them."""
    return write_runs(tmp_path_factory.mktemp("night") / "runs", made)


@pytest.fixture
def alone(made, tmp_path) -> Path:
    """A folder with one run of one seed, to do with as one likes."""
    return write_run(tmp_path / "few", "mean_pool", made, head="mean_pool", seed=0, right=0.6)


@pytest.fixture
def report(heads, tmp_path):
    """Make a report, and give its page."""

    def run(*arguments: object) -> str:
        ran = heads("report", *arguments, "-o", "made.html")
        assert ran.exit_code == 0, ran.output
        assert re.fullmatch(r"made.html \([\d.]+ [kM]B\)\n", ran.stdout)
        return (tmp_path / "made.html").read_text(encoding="utf-8")

    return run


@pytest.fixture
def told(heads):
    """Make a report, and give its Markdown: without plots it takes a tenth of the time."""

    def run(*arguments: object) -> str:
        ran = heads("report", "--format", "md", *arguments)
        assert ran.exit_code == 0, ran.output
        return ran.stdout

    return run


@pytest.fixture(scope="session")
def page(runs, tmp_path_factory) -> str:
    """The page of the whole night."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    ran = CliRunner().invoke(main, ["report", "--runs", str(runs), "-o", str(out)])
    assert ran.exit_code == 0, ran.output
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def tables(page) -> Tables:
    return tables_of_page(page)


@pytest.fixture(scope="session")
def labels(made) -> pd.DataFrame:
    return made.segments("validation").table


@pytest.fixture(scope="session")
def seeds(runs) -> list[Path]:
    """The seeds of the best row."""
    return [runs / f"bilstm-seed{seed}" for seed in range(3)]
