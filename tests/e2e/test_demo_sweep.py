"""`make demo-sweep` at the small size: what it runs ends well, and says what a sweep is for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser import CHROMIUM, chromium
from demos import repeated
from shell import ROOT, output_of

from features.files import read_json

pytestmark = pytest.mark.slow

EPOCHS = 8


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """The demo's folder of the sweep, and what it printed, at a small size."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    output = output_of("bash", "jobs/demo-sweep.sh", out, folder=ROOT, timeout_s=600, SIZE="test", EPOCHS=EPOCHS)
    return out / "runs" / "sweep", output


def test_half_of_the_variants_are_stopped_and_half_of_the_rest(demo):
    folder, output = demo
    assert [output.count(f"at epoch {epoch}\n") for epoch in (2, 4)] == [3, 1]
    assert sum(decision["stopped"] for decision in read_json(folder / "halving.json")) == 4
    assert len(list(folder.glob("*-seed*/val_predictions.pt"))) == 4


def test_ensemble_is_chosen_among_those_that_ran_to_their_end_and_says_how_sure_its_gain_is(demo):
    folder, output = demo
    run_names = {path.parent.name for path in folder.glob("*-seed*/val_predictions.pt")}
    assert {Path(member).name for member in read_json(folder / "best" / "config.json")["members"]} == run_names
    form = r"^action@1: [+-][\d.]+ \(95 % interval: [+-][\d.]+ to [+-][\d.]+\) points over "
    assert re.search(form, output, flags=re.MULTILINE)
    assert "Validation is cross-fitted" in output


def test_it_ends_with_the_table_of_the_sweep_and_where_things_are(demo):
    folder, output = demo
    end = output[output.rindex("$ heads report") :]
    table = (folder.parents[1] / "sweep.txt").read_text()
    assert table in end
    assert len(table.splitlines()) == 1 + 6
    places = end.partition("Where things are:\n")[2].splitlines()
    assert 1 <= len(places) <= 5
    assert all(Path(line.split()[0]).exists() for line in places)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine; on Debian: apt-get install chromium")
def test_its_page_opens_in_a_browser_without_complaint(demo, tmp_path):
    folder, _ = demo
    with chromium(tmp_path) as browser:
        browser.open(folder / "report.html", width=1280)
        complaints = [browser.events_of(name) for name in ("Runtime.exceptionThrown", "Log.entryAdded")]
        text = browser.run("document.body.textContent")
    assert complaints == [[], []]
    assert all(run.name in text for run in folder.glob("*-seed0"))


def test_repeating_it_trains_nothing_again(demo):
    folder, output = demo
    mtimes_before = {path: path.stat().st_mtime_ns for path in folder.rglob("last.pth")}
    commands = repeated(output, folder.parents[1])
    assert [words.split()[0] for words in commands] == ["run", "sweep", "ensemble", "report"]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("last.pth")} == mtimes_before
    assert len(mtimes_before) == 12
