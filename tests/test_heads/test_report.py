"""`heads report`: every figure against another way to compute it; what is said where one cannot be; what is refused."""

from __future__ import annotations

import html
import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from report_runs import NUM_EPOCHS, drawn, write_run, write_runs
from report_tables import Tables, column, tables_of_markdown, tables_of_page
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, recall_score
from synthetic import NOUNS, VERBS, Synthetic, write_synthetic

from features.annotations import NUM_NOUNS, NUM_VERBS, find_splits
from features.files import read_json, write_json
from features.predictions import Predictions, read_predictions, write_predictions
from heads.cli import main
from heads.splits import choose_split

CLASSES = {"verb": NUM_VERBS, "noun": NUM_NOUNS}
TASKS = ("action", "verb", "noun")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Synthetic:
    """A dataset with names of its verbs (but not of its nouns), large enough for every part to have some segments."""
    made = write_synthetic(tmp_path_factory.mktemp("report"), train=90, validation=80)
    keys = pd.DataFrame({"id": VERBS.keys(), "key": VERBS.values()})
    keys.to_csv(made.annotations / "EPIC_100_verb_classes.csv", index=False)
    return made


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory) -> str:
    """The page of the whole night."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    ran = CliRunner().invoke(main, ["report", "--runs", str(runs), "-o", str(out)])
    assert ran.exit_code == 0, ran.output
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tables(page) -> Tables:
    return tables_of_page(page)


@pytest.fixture(scope="module")
def labels(made) -> pd.DataFrame:
    return made.segments("validation").table


def _best(predictions: Predictions, labels: pd.DataFrame) -> dict[str, np.ndarray]:
    """The best class of each task, an action as a pair of them, by argmax alone."""
    one = predictions.aligned(labels.narration_id)
    verb, noun = one.verb.argmax(axis=1), one.noun.argmax(axis=1)
    return {"verb": verb, "noun": noun, "action": verb * 1000 + noun}


def _truth(labels: pd.DataFrame) -> dict[str, np.ndarray]:
    verb, noun = labels.verb_class.to_numpy(int), labels.noun_class.to_numpy(int)
    return {"verb": verb, "noun": noun, "action": verb * 1000 + noun}


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _accuracy(of: Path | list[Path], labels: pd.DataFrame, task: str, mask: np.ndarray | None = None) -> float:
    """The mean accuracy over the seeds of a row, counted segment by segment."""
    mask = np.ones(len(labels), dtype=bool) if mask is None else mask
    best = [
        _best(read_predictions(run / "val_predictions.pt"), labels)[task]
        for run in ([of] if isinstance(of, Path) else of)
    ]
    found = [
        np.mean([one == other for one, other in zip(_truth(labels)[task][mask], each[mask], strict=True)])
        for each in best
    ]
    return float(np.mean(found))


@pytest.fixture(scope="module")
def seeds(runs) -> list[Path]:
    """The seeds of the best row."""
    return [runs / f"bilstm-seed{seed}" for seed in range(3)]


# ---- the ranking


def test_the_ranking_is_that_of_evaluate_best_first(tables, runs, heads):
    rows = [row for folder in (runs, runs / "sweep") for row in json.loads(heads("evaluate", folder, "--json").stdout)]
    expected = {row["name"]: row for row in rows}
    ranked = [name for name in expected if expected[name]["num_seeds"]]
    ranked.sort(key=lambda name: -expected[name]["figures"]["action@1"])
    ranking = tables["All rows"]
    assert column(ranking, "row") == [*ranked, "most frequent", "chance"]
    for name in ("action@1", "verb@1", "noun@1"):
        assert column(ranking, name) == [f"{expected[row]['figures'][name]:.1f}" for row in column(ranking, "row")]
    first = expected[ranked[0]]
    assert ranking[1][ranking[0].index("action@1")] == "{:.1f} ({:.1f} to {:.1f})".format(
        first["figures"]["action@1"], *first["intervals"]["action@1"]
    )


def test_accuracies_are_those_counted_and_recalls_those_of_scikit_learn(tables, seeds, labels):
    ranking = tables["All rows"]
    for task in TASKS:
        assert column(ranking, f"{task}@1")[0] == _percent(_accuracy(seeds, labels, task))
        truth = _truth(labels)[task]
        recalls = [
            recall_score(
                truth,
                _best(read_predictions(seed / "val_predictions.pt"), labels)[task],
                labels=np.unique(truth),
                average="macro",
            )
            for seed in seeds
        ]
        assert column(ranking, f"{task} mean-class@1")[0] == _percent(np.mean(recalls))


def test_the_spread_is_the_standard_deviation_of_the_seeds(tables, seeds, labels):
    actions = [100 * _accuracy(seed, labels, "action") for seed in seeds]
    assert column(tables["All rows"], "+-")[0] == f"{np.std(actions, ddof=1):.1f}"
    assert column(tables["All rows"], "seeds")[0] == "3"


def test_the_best_row_is_in_the_title(page, tables, seeds, labels):
    assert f"<title>bilstm: {_percent(_accuracy(seeds, labels, 'action'))} % action top-1</title>" in page


def test_ensembles_are_ranked_beside_runs(told, heads, runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    assert heads("ensemble", *sorted((tmp_path / "runs").glob("bilstm-seed*"))).exit_code == 0
    text = told()
    ranking = tables_of_markdown(text)["All rows"]
    kinds = dict(zip(column(ranking, "row"), column(ranking, "what"), strict=True))
    assert (kinds["ensemble"], kinds["bilstm"], kinds["chance"]) == ("ensemble", "run", "baseline")
    members = " ".join(str(tmp_path / "runs" / f"bilstm-seed{seed}") for seed in range(3))
    assert (
        f"heads ensemble --runs {tmp_path / 'runs'} --name ensemble --mean probabilities --weights uniform {members}"
        in text
    )


def test_a_folder_of_runs_stands_for_what_is_in_it(told, runs):
    rows = column(tables_of_markdown(told(runs / "sweep", runs / "sweep", runs / "mean_pool-seed0"))["All rows"], "row")
    assert len(rows) == 4 + 1 + 2
    assert not any(row.startswith("bilstm") for row in rows)


def test_rows_of_one_name_are_told_apart_by_their_folders(told, alone, made, tmp_path):
    write_run(tmp_path / "other", "mean_pool", made, head="mean_pool", seed=0, right=0.3)
    rows = column(tables_of_markdown(told(tmp_path / "few", tmp_path / "other"))["All rows"], "row")
    assert rows[:2] == ["few/mean_pool", "other/mean_pool"]


def test_part_of_validation_is_scored_as_that_and_never_as_the_best_row(report, runs, made, labels):
    some = drawn(made, seed=0, right=1.0).aligned(labels.narration_id[:5])
    write_predictions(Path("some.pt"), some)
    page = report(runs / "mean_pool-seed0", "some.pt")
    assert "some.pt: scored on 5 of the 80 segments of validation" in page
    assert "Rows that are scored on other segments are not to be compared" in page
    assert "<title>mean_pool: " in page


def test_predictions_for_some_segments_alone_are_looked_at_closely(told, runs, made, labels):
    write_predictions(Path("some.pt"), drawn(made, seed=0, right=0.5).aligned(labels.narration_id[20:50]))
    text = told("some.pt", "--annotations", made.annotations)
    assert "some.pt: scored on 30 of the 80 segments of validation" in text
    assert sum(map(int, column(tables_of_markdown(text)["By participant"], "segments"))) == 30


def test_predictions_with_tta_are_a_row_and_no_other_trial(told, alone, made):
    write_predictions(alone / "val_tta_predictions.pt", drawn(made, seed=1, right=0.9))
    text = told(alone)
    assert column(tables_of_markdown(text)["All rows"], "row")[:2] == ["mean_pool +tta", "mean_pool"]
    assert text.count("heads train --head mean_pool") == 1


# ---- how runs learned


def test_each_run_has_its_best_epoch_cut_off_or_not(tables):
    learned = tables["At the best epoch of each run"]
    assert len(learned) - 1 == 3 + 2 + 1 + 8
    row = dict(zip(learned[0], next(row for row in learned if row[0] == "tcn-seed0"), strict=True))
    assert row["how it ended"] == f"cut off after 2 of {NUM_EPOCHS} epochs; the same command goes on"
    assert (row["best epoch"], row["action@1"], row["val loss"], row["last train loss"]) == (
        "2",
        "10.0",
        "3.000",
        "2.500",
    )


def test_a_run_that_lost_patience_says_so(told, made, tmp_path):
    run = write_run(tmp_path / "runs", "mlp", made, head="mlp", seed=0, num_epochs=4, patience=2)
    text = (run / "metrics.csv").read_text().splitlines()
    falling = [line.rsplit(",", 3)[0] + f",1,1,{10 - place}" for place, line in enumerate(text[1:])]
    (run / "metrics.csv").write_text("\n".join([text[0], *falling]) + "\n")
    learned = tables_of_markdown(told())["At the best epoch of each run"]
    assert learned[1][1] == f"stopped after 4 of {NUM_EPOCHS} epochs: none better for 2 (--patience)"
    assert learned[1][3] == "1"


def test_a_run_without_validation_has_its_losses(told, alone, made, tmp_path):
    run = write_run(tmp_path / "few", "all", made, head="mlp", seed=0)
    (run / "val_predictions.pt").unlink()
    table = pd.read_csv(run / "metrics.csv")
    table[["epoch", "lr", "train_loss"]].to_csv(run / "metrics.csv", index=False)
    text = told(tmp_path / "few")
    assert "1 of 2 runs had no validation: they have a training loss alone." in text
    assert [row[0] for row in tables_of_markdown(text)["At the best epoch of each run"][1:]] == [
        "mean_pool-seed0",
        "all-seed0",
    ]


def test_what_failed_in_a_sweep_stands_in_it(tables):
    assert tables["Failed in a sweep"][1:] == [["sweep", "loss-ce_lr-10", "0", "the loss is nan in epoch 1"]]


# ---- which setting mattered


def test_main_effects_are_the_means_of_the_runs_at_each_value(told, runs, labels):
    tables = tables_of_markdown(told(runs / "sweep"))
    trials = pd.DataFrame(
        [
            {**read_json(run / "config.json"), **{task: 100 * _accuracy(run, labels, task) for task in TASKS}}
            for run in sorted((runs / "sweep").glob("*-seed*"))
        ]
    )
    captions = [caption for caption in tables if re.fullmatch(r".*: [\d.]+ points", caption)]
    assert [caption.split(":")[0] for caption in captions][-1] == "seed"
    assert {caption.split(":")[0] for caption in captions} == {"loss", "lr", "seed"}
    for caption in captions:
        name = caption.split(":")[0]
        grouped = trials.groupby(trials[name].astype(str))
        means, table = grouped[list(TASKS)].mean(), tables[caption]
        assert sorted(column(table, name)) == sorted(means.index)
        assert caption == f"{name}: {means.action.max() - means.action.min():.1f} points"
        for value, num, spread in zip(column(table, name), column(table, "runs"), column(table, "spread"), strict=True):
            assert (int(num), spread) == (len(grouped.get_group(value)), f"{grouped.action.std()[value]:.1f}")
        for task in TASKS:
            assert column(table, f"{task}@1") == [f"{means[task][value]:.1f}" for value in column(table, name)]


def test_luck_is_what_seeds_alone_differ_by(told, runs, labels):
    actions = [
        [100 * _accuracy(runs / "sweep" / f"{name}-seed{seed}", labels, "action") for seed in range(2)]
        for name in {path.name[:-6] for path in (runs / "sweep").glob("*-seed0")}
    ]
    pooled = np.sqrt(np.mean([np.var(pair, ddof=1) for pair in actions]))
    assert f"a standard deviation of {pooled:.1f} points" in told(runs / "sweep")


def test_settings_that_went_together_are_called_confounded(told, made, tmp_path):
    for name, lr, loss in (("a", 1e-3, "ce"), ("b", 1e-2, "cb")):
        write_run(tmp_path / "runs", name, made, head="mlp", seed=0, lr=lr, loss=loss)
    assert told().count("Confounded: its values met different other settings") == 2


def test_an_option_of_a_head_is_compared_within_that_head(told, made, tmp_path):
    for name, head in (("a", "mlp:hidden=8"), ("b", "mlp:hidden=16"), ("c", "bilstm:hidden=8")):
        write_run(tmp_path / "runs", name, made, head=head, seed=0)
    tables = tables_of_markdown(told())
    (caption,) = [caption for caption in tables if caption.startswith("mlp hidden")]
    assert column(tables[caption], "mlp hidden") == ["8", "16"]


def test_other_features_are_a_setting_even_under_the_same_name(told, made, tmp_path):
    for name, digest in (("a", "11" * 32), ("b", "22" * 32)):
        run = write_run(tmp_path / "runs", name, made, head="mlp", seed=0)
        write_json(run / "config.json", {**read_json(run / "config.json"), "featureset_digests": [digest]})
    tables = tables_of_markdown(told())
    (caption,) = [caption for caption in tables if caption.startswith("features")]
    assert sorted(row[0] for row in tables[caption][1:]) == ["synthetic-seg5 (11111111)", "synthetic-seg5 (22222222)"]


def test_a_random_search_has_a_table_and_no_plot_of_every_value(report, made, tmp_path):
    for place in range(26):
        write_run(tmp_path / "runs", f"lr{place}", made, head="mlp", seed=0, lr=1e-3 + 1e-4 * place)
    page = report()
    (caption,) = [caption for caption in tables_of_page(page) if caption.startswith("lr")]
    assert len(tables_of_page(page)[caption]) == 1 + 26
    assert f"<summary>{caption}</summary>" not in page
    assert "Mean action top-1 in percent by lr" not in page


# ---- the best row, segment by segment


@pytest.mark.parametrize("task", ["verb", "noun"])
def test_accuracy_by_frequency_is_over_thirds_of_the_classes(tables, seeds, labels, made, task):
    counts = made.segments("train").table[f"{task}_class"].value_counts()
    order = sorted(counts.index, key=lambda one: (-counts[one], one))
    size, more = divmod(len(order), 3)
    edges = np.cumsum([0] + [size + (place < more) for place in range(3)])
    expected = []
    for low, high in itertools.pairwise(edges):
        mask = labels[f"{task}_class"].isin(order[low:high]).to_numpy(bool)
        limits = f"{counts[order[high - 1]]} to {counts[order[low]]}"
        expected.append([str(high - low), limits, str(mask.sum()), _percent(_accuracy(seeds, labels, task, mask))])
    found = tables[f"{task.capitalize()}s by frequency"]
    assert column(found, f"{task}s") == ["head", "middle", "tail"]
    assert [[cell.partition(" (")[0] for cell in row[1:]] for row in found[1:]] == expected


def test_classes_that_training_never_shows_are_apart(told, alone, made, tmp_path):
    shutil.copytree(made.annotations, tmp_path / "annotations")
    train = pd.read_csv(made.csv("train"))
    train[train.verb_class != 3].to_csv(tmp_path / "annotations" / "EPIC_100_train.csv", index=False)
    found = tables_of_markdown(told(alone, "--annotations", tmp_path / "annotations"))["Verbs by frequency"]
    assert (found[-1][0], found[-1][1], found[-1][2]) == ("never in training", "1", "0")


def _pooled(seeds: list[Path], labels: pd.DataFrame, task: str) -> np.ndarray:
    """scikit-learn's confusion matrix of all seeds together, rows the truth."""
    best = [_best(read_predictions(seed / "val_predictions.pt"), labels)[task] for seed in seeds]
    truth = np.tile(_truth(labels)[task], len(seeds))
    return confusion_matrix(truth, np.concatenate(best), labels=range(CLASSES[task]))


@pytest.mark.parametrize(
    ("task", "names"), [("verb", VERBS), ("noun", {one: f"noun {one}" for one in range(NUM_NOUNS)})]
)
def test_confusions_are_those_of_scikit_learn(tables, seeds, labels, task, names):
    matrix = _pooled(seeds, labels, task)
    of_class = matrix.sum(axis=1)
    np.fill_diagonal(off := matrix.copy(), 0)
    expected = sorted(off[off > 0].tolist(), reverse=True)[:15]
    found = tables[f"Most confused {task}s"]
    assert [round(3 * float(value)) for value in column(found, "segments")] == expected
    by_name = {name: one for one, name in names.items()}
    for truth, predicted, _, share in found[1:]:
        if predicted in by_name:
            count = off[by_name[truth], by_name[predicted]]
            assert share == _percent(count / of_class[by_name[truth]])


def test_the_matrix_of_frequent_classes_is_that_of_scikit_learn(tables, seeds, labels):
    matrix = _pooled(seeds, labels, "verb")
    shown = sorted(VERBS, key=lambda one: (-matrix[one].sum(), one))
    percent = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    found = tables["Confusion matrix of the frequent verbs, %"]
    assert found[0][2:] == [*[VERBS[one] for one in shown], "any other"]
    for one, row in zip(shown, found[1:], strict=True):
        values = [*percent[one, shown], 100 - percent[one, shown].sum()]
        assert [float(cell) for cell in row[2:]] == pytest.approx(values, abs=0.5001)


def test_accuracy_by_length_is_that_of_the_bins(tables, seeds, labels):
    bins = pd.cut(labels.stop_s - labels.start_s, [0, 0.5, 1, 2, 4, 8, 16, np.inf], right=False)
    expected = []
    for one in bins.cat.categories:
        mask = (bins == one).to_numpy()
        if mask.any():
            expected.append([str(mask.sum()), *[_percent(_accuracy(seeds, labels, task, mask)) for task in TASKS]])
    found = tables["By segment length"]
    assert [[cell.partition(" (")[0] for cell in row[1:]] for row in found[1:]] == expected
    assert found[1][0] == "under 0.5 s"


def test_participants_seen_and_unseen_have_their_accuracy(tables, seeds, labels):
    for caption, names in (
        ("By participant", {"P01": "P01", "P04 (unseen)": "P04"}),
        ("Participants that training does not show", {"seen in training": "P01", "unseen in training": "P04"}),
    ):
        for row in tables[caption][1:]:
            mask = (labels.participant_id == names[row[0]]).to_numpy()
            assert row[1:] == [str(mask.sum()), *[_percent(_accuracy(seeds, labels, task, mask)) for task in TASKS]]


def test_parts_of_several_videos_have_intervals_that_hold_them(told, made, alone, tmp_path):
    found = tables_of_markdown(told(alone))["By segment length"]
    inside = [re.fullmatch(r"([\d.]+) \(([\d.]+) to ([\d.]+)\)", row[2]) for row in found[1:]]
    assert any(inside)
    assert all(float(one[2]) - 0.1 <= float(one[1]) <= float(one[3]) + 0.1 for one in inside if one)


@pytest.mark.parametrize("task", ["verb", "noun"])
def test_the_reliability_diagram_is_that_of_scikit_learn(tables, seeds, labels, task):
    predicted = [read_predictions(seed / "val_predictions.pt").aligned(labels.narration_id) for seed in seeds]
    p = np.concatenate([softmax(getattr(one, task).astype(float), axis=1) for one in predicted])
    hit = p.argmax(axis=1) == np.tile(_truth(labels)[task], len(seeds))
    accuracy, confidence = calibration_curve(hit, p.max(axis=1), n_bins=15)
    found = tables[f"Reliability of {task}s"]
    assert [float(cell) for cell in column(found, "confidence, %")] == pytest.approx(100 * confidence, abs=0.051)
    assert [float(cell) for cell in column(found, "accuracy, %")] == pytest.approx(100 * accuracy, abs=0.051)
    assert sum(float(cell) for cell in column(found, "segments")) == pytest.approx(80, abs=0.5)


# ---- ensembles by size


def _ensemble_accuracy(members: list[Path], labels: pd.DataFrame) -> float:
    read = [read_predictions(one / "val_predictions.pt").aligned(labels.narration_id) for one in members]
    best = {
        task: np.mean([softmax(getattr(one, task), axis=1) for one in read], axis=0).argmax(axis=1) for task in CLASSES
    }
    return 100 * float(np.mean((best["verb"] == labels.verb_class) & (best["noun"] == labels.noun_class)))


def test_the_gain_of_seeds_begins_at_their_mean_and_ends_at_their_ensemble(tables, seeds, labels):
    found = column(tables["seeds of bilstm"], "action@1")
    pairs = [_ensemble_accuracy([a, b], labels) for a, b in zip(seeds, [*seeds[1:], seeds[0]], strict=True)]
    assert found[0] == _percent(_accuracy(seeds, labels, "action"))
    assert float(found[1]) == pytest.approx(np.mean(pairs), abs=0.051)
    assert float(found[2]) == pytest.approx(_ensemble_accuracy(seeds, labels), abs=0.051)


def test_the_best_runs_are_added_best_first(tables, runs, labels):
    every = [path.parent for path in runs.rglob("val_predictions.pt")]
    by_name = {run.name: run for run in every}
    found = tables["the best runs, best first"]
    added = [by_name[name] for name in column(found, "added")]
    accuracies = [_accuracy(run, labels, "action") for run in added]
    assert (len(added), accuracies) == (len(every), sorted(accuracies, reverse=True))
    expected = [_ensemble_accuracy(added[: place + 1], labels) for place in range(len(added))]
    assert [float(cell) for cell in column(found, "action@1")] == pytest.approx(expected, abs=0.051)


def test_runs_that_predict_other_segments_are_not_put_together(told, runs, made, labels, tmp_path):
    for name, part in (("a", slice(0, 60)), ("b", slice(20, 80))):
        run = write_run(tmp_path / "runs", name, made, head="mlp", seed=0)
        write_predictions(run / "val_predictions.pt", drawn(made, seed=0, right=0.5).aligned(labels.narration_id[part]))
    assert "Gain by size: no two runs predict the same segments." in told()


# ---- what cannot be computed is said where it would stand


def test_one_run_alone_says_what_it_lacks(report, alone):
    (alone / "metrics.csv").unlink()
    page = report(alone)
    for said in (
        "Spread over seeds: no row has two seeds (heads train --seeds 0-2).",
        "None of the runs has a metrics.csv.",
        "Main effects: 1 run here has a record of its settings; it takes two that differ.",
        "Gain by size: it takes two runs or more; ensembles of other things are in the ranking.",
        "Names of nouns: no EPIC_100_noun_classes.csv beside the validation list, so classes have their ids.",
    ):
        assert html.escape(said) in page


def test_without_lists_their_places_say_so(report, alone, made, tmp_path):
    (tmp_path / "bare").mkdir()
    shutil.copy(made.csv("validation"), tmp_path / "bare")
    page = report(alone, "--annotations", tmp_path / "bare" / "EPIC_100_validation.csv")
    for said in (
        "Accuracy by frequency: there is no training list beside EPIC_100_validation.csv; give --annotations,",
        "Baselines (the most frequent classes, and chance): there is no training list beside the validation list.",
        "Unseen participants: no EPIC_100_unseen_participant_ids_validation.csv beside the validation list.",
        "Accuracy over unseen participants: no list of them beside the validation list, or no such segment.",
        "Names of verbs: no EPIC_100_verb_classes.csv",
    ):
        assert html.escape(said) in page


def test_segments_of_one_video_have_no_intervals_and_the_page_says_why(report, made, labels):
    one_video = labels.narration_id[labels.video_id == "P01_02"]
    write_predictions(Path("some.pt"), drawn(made, seed=0, right=0.5).aligned(one_video))
    page = report("some.pt", "--annotations", made.annotations)
    assert "Intervals: where all scored segments are of one video, there is nothing to draw from." in page
    assert "no interval" in page


def test_runs_of_the_same_settings_have_no_main_effects(told, alone, made, tmp_path):
    write_run(tmp_path / "few", "again", made, head="mean_pool", seed=0)
    assert "Main effects: all 2 runs have the same settings and the same seed." in told(tmp_path / "few")


def test_without_two_seeds_luck_is_not_known(told, runs):
    text = told(runs / "bilstm-seed0", runs / "mean_pool-seed0")
    assert "No settings have two seeds, so that it cannot be told how much of a difference is luck." in text


def test_a_perfect_row_has_no_confusions(report, alone, made):
    write_predictions(alone / "val_predictions.pt", drawn(made, seed=0, right=2.0))
    predictions = read_predictions(alone / "val_predictions.pt")
    rows = np.arange(len(predictions))
    segments = made.segments("validation")
    predictions.verb[rows, segments.verb_class] += 50
    predictions.noun[rows, segments.noun_class] += 50
    write_predictions(alone / "val_predictions.pt", predictions)
    assert "Confused verbs: every verb is right." in report(alone)


def test_a_run_whose_settings_are_not_known_is_left_out_by_name(told, runs, alone):
    write_json(alone / "config.json", {**read_json(alone / "config.json"), "head": "gone_head"})
    text = told(runs / "bilstm-seed0", runs / "mean_pool-seed0", alone)
    assert re.search(r"Left out: \S*mean_pool-seed0: its config.json is not of this version \(--head: no head", text)
    assert "No command: its config.json does not say how it was trained." in text


# ---- as Markdown


def test_markdown_has_the_tables_of_the_page(heads, runs, tables):
    ran = heads("report", "--runs", runs, "--format", "md")
    assert ran.exit_code == 0
    assert tables_of_markdown(ran.stdout) == tables
    assert ran.stdout.startswith("# bilstm: ")


def test_markdown_goes_into_a_file_when_asked(heads, runs):
    shown = heads("report", runs / "bilstm-seed0", "--format", "md").stdout
    ran = heads("report", runs / "bilstm-seed0", "--format", "md", "-o", "deep/report.md")
    assert ran.stdout.startswith("deep/report.md (")
    assert Path("deep/report.md").read_text(encoding="utf-8") == shown


def test_markdown_takes_no_name_for_markup(heads, alone, tmp_path):
    alone.rename(tmp_path / "few" / "a|b*<i>\x1b[31m-seed0")
    shown = heads("report", tmp_path / "few", "--format", "md").stdout
    assert r"| a\|b\*\<i>\\x1b\[31m " in shown
    assert "\x1b" not in shown


# ---- the page as a file


def test_names_from_files_are_text_wherever_they_stand(report, alone, made, tmp_path):
    shutil.copytree(made.annotations, tmp_path / "annotations")
    keys = pd.DataFrame({"id": VERBS.keys(), "key": [f'<b onclick="x">{key}&$_$' for key in VERBS.values()]})
    keys.to_csv(tmp_path / "annotations" / "EPIC_100_verb_classes.csv", index=False)
    evil = '<img src=x onerror="alert(1)">$x^$'
    alone.rename(tmp_path / "few" / f"{evil}-seed0")
    write_json(tmp_path / "few" / "failed.json", {evil: {"0": evil}})
    page = report(tmp_path / "few", "--annotations", tmp_path / "annotations")
    assert "<img src=x" not in page
    assert "<b onclick" not in page
    assert page.count(html.escape(evil)) >= 5
    assert tables_of_page(page)["Failed in a sweep"][1][1:] == [evil, "0", evil]


def test_the_page_asks_for_nothing_outside_itself(page):
    outside = [
        link for link in re.findall(r"""(?:src|href)=["']?([^"'\s>]+)""", page) if not link.startswith(("data:", "#"))
    ]
    assert outside == []
    assert "url(" not in page
    assert "@import" not in page


def test_every_plot_says_in_words_what_it_shows(page):
    images = re.findall(r"<img [^>]*>", page)
    assert len(images) >= 10
    assert all(len(re.search(r'alt="([^"]*)"', image)[1]) > 40 for image in images)


def test_the_same_runs_give_the_same_bytes(report, runs, page):
    assert report("--runs", runs) == page


def test_a_name_in_letters_that_a_font_lacks_is_drawn_all_the_same(report, alone, tmp_path):
    alone.rename(tmp_path / "few" / "頭\u0378-seed0")
    assert "頭" in report(tmp_path / "few")


# ---- what is refused


@pytest.fixture
def night(runs, tmp_path) -> Path:
    """A copy of two runs, to break."""
    for name in ("bilstm-seed0", "mean_pool-seed0"):
        shutil.copytree(runs / name, tmp_path / "runs" / name)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 1, "Error: nowhere: no such run or file.\n"),
        ([], 1, "Error: runs: no finished runs in it; train some first (heads train --head ...).\n"),
        (["--format", "pdf"], 2, "Invalid value for '--format'"),
        (["--out"], 2, "Option '--out' requires an argument"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(command, arguments, code, said):
    ran = command("heads", "report", *arguments)
    assert (ran.returncode, ran.stdout) == (code, "")
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("harm", "said"),
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
        (lambda run: write_json(run.parent / "failed.json", {"a": "b"}), "failed.json: not a list of what failed"),
        (lambda run: write_json(run.parent / "failed.json", []), "failed.json: not a list of what failed"),
    ],
)
def test_a_damaged_file_is_named_and_an_older_report_kept(heads, night, harm, said):
    Path("report.html").write_text("older")
    harm(night / "bilstm-seed0")
    ran = heads("report")
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert said in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert Path("report.html").read_text() == "older"


def test_predictions_of_another_split_are_refused(heads, night, made):
    strangers = made.segments("test")
    run = night / "bilstm-seed0"
    rng = np.random.default_rng(0)
    verb, noun = (rng.normal(size=(len(strangers), num)).astype(np.float32) for num in (NUM_VERBS, NUM_NOUNS))
    write_predictions(run / "val_predictions.pt", Predictions(tuple(strangers.narration_id), verb, noun, "x"))
    ran = heads("report")
    assert ran.exit_code == 1
    assert "are these predictions for another split?" in ran.stderr


def test_runs_that_have_only_begun_are_no_report(heads, made, tmp_path):
    write_run(tmp_path / "runs", "tcn", made, head="tcn", seed=0, num_epochs=2)
    ran = heads("report")
    assert ran.exit_code == 1
    assert "no predictions for validation in it" in ran.stderr


def test_a_folder_is_no_file_to_write_to(heads, night):
    ran = heads("report", "-o", night)
    assert ran.exit_code == 1
    assert re.fullmatch(r"Error: \S+: cannot be written: Is a directory.\n", ran.stderr)
    assert sorted(path.name for path in night.iterdir()) == ["bilstm-seed0", "mean_pool-seed0"]


def test_a_list_without_labels_cannot_be_reported_on(heads, night, made):
    ran = heads("report", "--annotations", made.csv("test"))
    assert (ran.exit_code, len(ran.stderr.splitlines())) == (1, 1)


def test_report_html_is_the_default(heads, night):
    assert heads("report").stdout.startswith("report.html (")
    assert Path("report.html").is_file()


def test_a_fold_counts_the_training_segments_of_the_others_alone(told, made, tmp_path):
    run = write_run(tmp_path / "runs", "mlp", made, head="mlp", seed=0, split="fold:0/3")
    chosen = choose_split("fold:0/3", find_splits(made.annotations))
    names = tuple(chosen.validation.narration_id)
    rng = np.random.default_rng(0)
    verb, noun = (rng.normal(size=(len(names), num)).astype(np.float32) for num in (NUM_VERBS, NUM_NOUNS))
    write_predictions(run / "val_predictions.pt", Predictions(names, verb, noun, "x"))
    text = told()
    assert f"The classes that training shows ({len(chosen.train)} segments)" in text


def test_names_of_nouns_are_taken_where_there_are_some(told, alone, made, tmp_path):
    shutil.copytree(made.annotations, tmp_path / "annotations")
    keys = pd.DataFrame({"id": NOUNS.keys(), "key": NOUNS.values()})
    keys.to_csv(tmp_path / "annotations" / "EPIC_100_noun_classes.csv", index=False)
    found = tables_of_markdown(told(alone, "--annotations", tmp_path / "annotations"))["Most confused nouns"]
    assert set(column(found, "true noun")) <= set(NOUNS.values())
