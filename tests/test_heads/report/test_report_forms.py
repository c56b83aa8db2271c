"""`heads report` as a page and as Markdown: what is said where nothing can be computed, and what is refused."""

from __future__ import annotations

import html
import re
import shutil
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_runs import drawn, write_run
from report_tables import tables_of_markdown, tables_of_page, without_spans
from synthetic import VERBS

from features.annotations import NUM_NOUNS, NUM_VERBS
from features.files import read_json, write_json
from features.predictions import Predictions, read_predictions, write_predictions

# ---- what cannot be computed is said where it would stand


def test_one_run_alone_says_what_it_lacks(report, single_run):
    (single_run / "metrics.csv").unlink()
    page = without_spans(report(single_run))
    for sentence in (
        "Standard deviation over seeds: no row has two seeds (heads train --seeds 0-2).",
        "None of the runs has a metrics.csv.",
        "Main effects: only 1 run has a record of its settings; at least two are needed.",
        "Gain by size: at least two runs are needed; other ensembles are in the ranking.",
        "Names of nouns: there is no EPIC_100_noun_classes.csv beside the validation list, so ids are shown.",
    ):
        assert html.escape(sentence) in page


def test_without_lists_their_places_say_so(report, single_run, dataset, tmp_path):
    (tmp_path / "bare").mkdir()
    shutil.copy(dataset.csv("validation"), tmp_path / "bare")
    page = without_spans(report(single_run, "--annotations", tmp_path / "bare" / "EPIC_100_validation.csv"))
    for sentence in (
        "Accuracy by frequency: there is no training list beside EPIC_100_validation.csv; give --annotations,",
        "Baselines (the most frequent classes, and chance): there is no training list beside the validation list.",
        "Unseen participants: there is no EPIC_100_unseen_participant_ids_validation.csv beside the validation list.",
        "Accuracy over unseen participants: there is no list of them beside the validation list, or no segment.",
        "Names of verbs: there is no EPIC_100_verb_classes.csv",
    ):
        assert html.escape(sentence) in page


def test_segments_of_one_video_have_no_intervals_and_the_page_says_why(report, dataset, labels):
    one_video = labels.narration_id[labels.video_id == "P01_02"]
    write_predictions(Path("some.pt"), drawn(dataset, seed=0, right=0.5).aligned(one_video))
    page = report("some.pt", "--annotations", dataset.annotations)
    assert "Intervals: some rows are scored on segments of a single video, so there is nothing to draw." in page
    assert "no interval" in page


def test_runs_of_the_same_settings_have_no_main_effects(markdown_report, single_run, dataset, tmp_path):
    write_run(tmp_path / "few", "again", dataset, head="mean_pool", seed=0)
    assert "Main effects: all 2 runs have the same settings and the same seed." in markdown_report(tmp_path / "few")


def test_without_two_seeds_luck_is_not_known(markdown_report, runs):
    text = markdown_report(runs / "bilstm-seed0", runs / "mean_pool-seed0")
    assert "No settings have two seeds, so it is unknown how much of a difference is due to chance." in text


def test_a_perfect_row_has_no_confusions(report, single_run, dataset):
    write_predictions(single_run / "val_predictions.pt", drawn(dataset, seed=0, right=2.0))
    predictions = read_predictions(single_run / "val_predictions.pt")
    rows = np.arange(len(predictions))
    segments = dataset.segments("validation")
    predictions.verb[rows, segments.verb_class] += 50
    predictions.noun[rows, segments.noun_class] += 50
    write_predictions(single_run / "val_predictions.pt", predictions)
    assert "Confused verbs: every verb is right." in report(single_run)


def test_a_run_whose_settings_are_not_known_is_left_out_by_name(markdown_report, runs, single_run):
    write_json(single_run / "config.json", {**read_json(single_run / "config.json"), "head": "gone_head"})
    text = markdown_report(runs / "bilstm-seed0", runs / "mean_pool-seed0", single_run)
    assert re.search(r"Left out: \S*mean_pool-seed0: its config.json is not of this version \(--head: no head", text)
    assert "No command: its config.json does not say how it was trained." in text


# ---- as Markdown


def test_markdown_has_the_tables_of_the_page(heads, runs, tables):
    result = heads("report", "--runs", runs, "--format", "md")
    assert result.exit_code == 0
    assert tables_of_markdown(result.stdout) == tables
    assert result.stdout.startswith("# bilstm: ")


def test_markdown_goes_into_a_file_when_asked(heads, runs):
    markdown = heads("report", runs / "bilstm-seed0", "--format", "md").stdout
    result = heads("report", runs / "bilstm-seed0", "--format", "md", "-o", "deep/report.md")
    assert result.stdout.startswith("deep/report.md (")
    assert Path("deep/report.md").read_text(encoding="utf-8") == markdown


def test_markdown_takes_no_name_for_markup(heads, single_run, tmp_path):
    single_run.rename(tmp_path / "few" / "a|b*<i>\x1b[31m-seed0")
    markdown = heads("report", tmp_path / "few", "--format", "md").stdout
    assert r"| a\|b\*\<i>\\x1b\[31m " in markdown
    assert "\x1b" not in markdown


# ---- the page as a file


def test_names_from_files_are_text_wherever_they_stand(report, single_run, dataset, tmp_path):
    shutil.copytree(dataset.annotations, tmp_path / "annotations")
    keys = pd.DataFrame({"id": VERBS.keys(), "key": [f'<b onclick="x">{key}&$_$' for key in VERBS.values()]})
    keys.to_csv(tmp_path / "annotations" / "EPIC_100_verb_classes.csv", index=False)
    markup = '<img src=x onerror="alert(1)">$x^$'
    single_run.rename(tmp_path / "few" / f"{markup}-seed0")
    write_json(tmp_path / "few" / "failed.json", {markup: {"0": markup}})
    page = report(tmp_path / "few", "--annotations", tmp_path / "annotations")
    assert "<img src=x" not in page
    assert "<b onclick" not in page
    assert page.count(html.escape(markup)) >= 5
    assert tables_of_page(page)["Runs that failed in a sweep"][1][1:] == [markup, "0", markup]


def test_the_page_asks_for_nothing_outside_itself(page):
    external_links = [
        link for link in re.findall(r"""(?:src|href)=["']?([^"'\s>]+)""", page) if not link.startswith(("data:", "#"))
    ]
    assert external_links == []
    assert "url(" not in page
    assert "@import" not in page


def test_every_plot_says_in_words_what_it_shows(page):
    images = re.findall(r"<img [^>]*>", page)
    assert len(images) >= 10
    assert all(len(re.search(r'alt="([^"]*)"', image)[1]) > 40 for image in images)


def test_the_same_runs_give_the_same_bytes_on_a_day(report, runs, page):
    a_date = r"<dd>\d+ [A-Z][a-z]+ 20\d\d</dd>"
    assert re.sub(a_date, "", report("--runs", runs)) == re.sub(a_date, "", page) != page


def test_the_head_says_when_on_what_and_from_which_features(page, dataset):
    head = without_spans(page[: page.index("</header>")])
    today, yesterday = (date.today() - timedelta(days=days) for days in (0, 1))  # it may be past midnight by now
    assert any(f"<dt>Date</dt><dd>{day.day} {day:%B %Y}</dd>" in head for day in (today, yesterday))
    assert "<dt>Scored on</dt><dd>80 segments of EPIC_100_validation.csv</dd>" in head
    assert f"<dt>Features</dt><dd>{dataset.featureset.name}</dd>" in head


def test_a_name_in_letters_that_a_font_lacks_is_drawn_all_the_same(report, single_run, tmp_path):
    single_run.rename(tmp_path / "few" / "頭\u0378-seed0")
    assert "頭" in report(tmp_path / "few")


# ---- what is refused


@pytest.fixture
def runs_copy(runs, tmp_path) -> Path:
    """A copy of two runs, to break."""
    for name in ("bilstm-seed0", "mean_pool-seed0"):
        shutil.copytree(runs / name, tmp_path / "runs" / name)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 1, "Error: nowhere: no such run or file.\n"),
        ([], 1, "Error: runs: no finished runs in it; train some first (heads train --head ...).\n"),
        (["--format", "pdf"], 2, "Invalid value for '--format'"),
        (["--out"], 2, "Option '--out' requires an argument"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(command, arguments, code, message):
    result = command("heads", "report", *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda run: _cut(run / "val_predictions.pt"), "val_predictions.pt: "),
        (lambda run: _cut(run / "config.json"), "config.json: not a JSON file"),
        (lambda run: (run / "metrics.csv").write_text(""), "metrics.csv: no column epoch in it; delete its folder"),
        (lambda run: (run / "metrics.csv").write_text("epoch,train_loss\n"), "metrics.csv: no epoch in it"),
        (
            lambda run: (run / "metrics.csv").write_text("epoch,train_loss\n1,2\n2,x\n"),
            "metrics.csv, row 3: not 2 numbers",
        ),
        (lambda run: (run / "metrics.csv").write_text("epoch,train_loss\n1\n"), "metrics.csv, row 2: not 2 numbers"),
        (lambda run: (run / "metrics.csv").write_bytes(b"\xff\xfe"), "metrics.csv: cannot be read"),
        (lambda run: write_json(run.parent / "failed.json", {"a": "b"}), "failed.json: not a list of failed runs"),
        (lambda run: write_json(run.parent / "failed.json", []), "failed.json: not a list of failed runs"),
    ],
)
def test_a_damaged_file_is_named_and_an_older_report_kept(heads, runs_copy, harm, message):
    Path("report.html").write_text("older")
    harm(runs_copy / "bilstm-seed0")
    result = heads("report")
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert Path("report.html").read_text() == "older"


def test_predictions_of_another_split_are_refused(heads, runs_copy, dataset):
    test_segments = dataset.segments("test")
    run = runs_copy / "bilstm-seed0"
    rng = np.random.default_rng(0)
    verb, noun = (rng.normal(size=(len(test_segments), num)).astype(np.float32) for num in (NUM_VERBS, NUM_NOUNS))
    write_predictions(run / "val_predictions.pt", Predictions(tuple(test_segments.narration_id), verb, noun, "x"))
    result = heads("report")
    assert result.exit_code == 1
    assert "are these predictions for another split?" in result.stderr


def test_runs_that_have_only_begun_are_no_report(heads, dataset, tmp_path):
    write_run(tmp_path / "runs", "tcn", dataset, head="tcn", seed=0, num_epochs=2)
    result = heads("report")
    assert result.exit_code == 1
    assert "no predictions for validation in it" in result.stderr


def test_a_folder_is_no_file_to_write_to(heads, runs_copy):
    result = heads("report", "-o", runs_copy)
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: \S+: cannot be written: Is a directory.\n", result.stderr)
    assert sorted(path.name for path in runs_copy.iterdir()) == ["bilstm-seed0", "mean_pool-seed0"]


def test_a_list_without_labels_cannot_be_reported_on(heads, runs_copy, dataset):
    result = heads("report", "--annotations", dataset.csv("test"))
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)


def test_report_html_is_the_default(heads, runs_copy):
    assert heads("report").stdout.startswith("report.html (")
    assert Path("report.html").is_file()
