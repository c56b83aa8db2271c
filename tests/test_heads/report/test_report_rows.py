"""`heads report`, all rows: ranking, learning curves, settings, ensembles, each against another way to compute it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_counts import CLASSES, TASKS, accuracy, best_classes, percent, true_classes
from report_runs import NUM_EPOCHS, drawn, write_run
from report_tables import column, tables_of_markdown, tables_of_page, without_spans
from scipy.special import softmax
from sklearn.metrics import recall_score

from features.files import read_json, write_json
from features.predictions import read_predictions, write_predictions

# ---- the ranking


def test_the_ranking_is_that_of_evaluate_best_first(tables, runs, heads):
    rows = [row for folder in (runs, runs / "sweep") for row in json.loads(heads("evaluate", folder, "--json").stdout)]
    expected = {row["name"]: row for row in rows}
    names = [name for name in expected if expected[name]["num_seeds"]]
    names.sort(key=lambda name: -expected[name]["figures"]["action@1"])
    ranking = tables["All rows, accuracy in %"]
    assert column(ranking, "run") == [*names, "most frequent", "chance"]
    for name in ("action@1", "verb@1", "noun@1"):
        assert column(ranking, name) == [f"{expected[row]['figures'][name]:.1f}" for row in column(ranking, "run")]
    first = expected[names[0]]
    assert ranking[1][ranking[0].index("action@1")] == "{:.1f} ({:.1f} to {:.1f})".format(
        first["figures"]["action@1"], *first["intervals"]["action@1"]
    )


def test_accuracies_are_those_counted_and_recalls_those_of_scikit_learn(tables, seeds, labels):
    ranking = tables["All rows, accuracy in %"]
    for task in TASKS:
        assert column(ranking, f"{task}@1")[0] == percent(accuracy(seeds, labels, task))
        truth = true_classes(labels)[task]
        recalls = [
            recall_score(
                truth,
                best_classes(read_predictions(seed / "val_predictions.pt"), labels)[task],
                labels=np.unique(truth),
                average="macro",
            )
            for seed in seeds
        ]
        assert column(ranking, f"{task} mean-class@1")[0] == percent(np.mean(recalls))


def test_the_spread_is_the_standard_deviation_of_the_seeds(tables, seeds, labels):
    actions = [100 * accuracy(seed, labels, "action") for seed in seeds]
    assert column(tables["All rows, accuracy in %"], "std over seeds")[0] == f"{np.std(actions, ddof=1):.1f}"
    assert column(tables["All rows, accuracy in %"], "seeds")[0] == "3"


def test_the_best_row_is_in_the_title(page, tables, seeds, labels):
    assert f"<title>bilstm: {percent(accuracy(seeds, labels, 'action'))} % action top-1</title>" in page


def test_ensembles_are_ranked_beside_runs(markdown_report, heads, runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    assert heads("ensemble", *sorted((tmp_path / "runs").glob("bilstm-seed*"))).exit_code == 0
    text = markdown_report()
    ranking = tables_of_markdown(text)["All rows, accuracy in %"]
    kinds = dict(zip(column(ranking, "run"), column(ranking, "kind"), strict=True))
    assert (kinds["ensemble"], kinds["bilstm"], kinds["chance"]) == ("ensemble", "run", "baseline")
    members = " ".join(str(tmp_path / "runs" / f"bilstm-seed{seed}") for seed in range(3))
    assert (
        f"heads ensemble --runs {tmp_path / 'runs'} --name ensemble --mean probabilities --weights uniform {members}"
        in text
    )


def test_a_folder_of_runs_stands_for_what_is_in_it(markdown_report, runs):
    rows = column(
        tables_of_markdown(markdown_report(runs / "sweep", runs / "sweep", runs / "mean_pool-seed0"))[
            "All rows, accuracy in %"
        ],
        "run",
    )
    assert len(rows) == 4 + 1 + 2
    assert not any(row.startswith("bilstm") for row in rows)


def test_rows_of_one_name_are_told_apart_by_their_folders(markdown_report, single_run, dataset, tmp_path):
    write_run(tmp_path / "other", "mean_pool", dataset, head="mean_pool", seed=0, right=0.3)
    tables = tables_of_markdown(markdown_report(tmp_path / "few", tmp_path / "other"))
    assert column(tables["All rows, accuracy in %"], "run")[:2] == ["few/mean_pool", "other/mean_pool"]
    names = ["few/mean_pool-seed0", "other/mean_pool-seed0"]
    assert column(tables["Kept epoch of each run, accuracy in %"], "run") == names
    assert column(tables["the best runs, best first"], "run added") == names


def test_folders_of_one_name_are_told_apart_further_up(markdown_report, dataset, tmp_path):
    for place, right in (("monday", 0.9), ("tuesday", 0.4)):
        write_run(tmp_path / place / "sweep", "mean_pool", dataset, head="mean_pool", seed=0, right=right)
        write_json(tmp_path / place / "sweep" / "failed.json", {"lr-10": {"0": "the loss is nan"}})
    sweeps = [tmp_path / place / "sweep" for place in ("monday", "tuesday")]
    tables = tables_of_markdown(markdown_report(*sweeps))
    rows = column(tables["All rows, accuracy in %"], "run")
    assert rows[:2] == ["monday/sweep/mean_pool", "tuesday/sweep/mean_pool"]
    assert column(tables["Runs that failed in a sweep"], "sweep") == ["monday/sweep", "tuesday/sweep"]


def test_a_run_and_its_own_file_are_one_row(markdown_report, single_run):
    text = markdown_report(single_run / "val_predictions.pt", single_run)
    rows = column(tables_of_markdown(text)["All rows, accuracy in %"], "run")
    assert rows[0] == "mean_pool"
    assert "val_predictions.pt" not in rows
    assert "mean_pool: the same predictions as in val_predictions.pt, counted once" in text


def test_of_equal_rows_the_earlier_comes_first(markdown_report, dataset, single_run, tmp_path):
    predictions = single_run / "val_predictions.pt"
    for lr, name in enumerate(("first", "second", "third"), start=1):
        run = write_run(tmp_path / "equal", name, dataset, head="mean_pool", seed=0, lr=lr)
        (run / "val_predictions.pt").write_bytes(predictions.read_bytes())
    runs = [tmp_path / "equal" / f"{name}-seed0" for name in ("second", "first", "third")]
    rows = column(tables_of_markdown(markdown_report(*runs))["All rows, accuracy in %"], "run")
    assert rows[:3] == ["second", "first", "third"]


def test_part_of_validation_is_scored_as_that_and_never_as_the_best_row(report, runs, dataset, labels):
    subset = drawn(dataset, seed=0, right=1.0).aligned(labels.narration_id[:5])
    write_predictions(Path("some.pt"), subset)
    page = report(runs / "mean_pool-seed0", "some.pt")
    assert "some.pt: scored on 5 of the 80 segments of EPIC_100_validation.csv" in page
    assert "Rows that are scored on different segments cannot be compared" in page
    assert "<title>mean_pool: " in page


def test_predictions_for_some_segments_alone_are_looked_at_closely(markdown_report, runs, dataset, labels):
    write_predictions(Path("some.pt"), drawn(dataset, seed=0, right=0.5).aligned(labels.narration_id[20:50]))
    text = markdown_report("some.pt", "--annotations", dataset.annotations)
    assert "some.pt: scored on 30 of the 80 segments of EPIC_100_validation.csv" in text
    assert sum(map(int, column(tables_of_markdown(text)["By participant, accuracy in %"], "segments"))) == 30


def test_predictions_with_tta_are_a_row_and_no_other_trial(markdown_report, single_run, dataset):
    write_predictions(single_run / "val_tta_predictions.pt", drawn(dataset, seed=1, right=0.9))
    text = markdown_report(single_run)
    assert column(tables_of_markdown(text)["All rows, accuracy in %"], "run")[:2] == ["mean_pool +tta", "mean_pool"]
    assert text.count("heads train --head mean_pool") == 1


# ---- how runs learned


def test_each_run_has_its_best_epoch_cut_off_or_not(tables):
    table = tables["Kept epoch of each run, accuracy in %"]
    assert len(table) - 1 == 3 + 2 + 1 + 8
    row = dict(zip(table[0], next(row for row in table if row[0] == "tcn-seed0"), strict=True))
    assert row["how it ended"] == f"interrupted after 2 of {NUM_EPOCHS} epochs; the same command continues it"
    assert (row["kept epoch"], row["action@1"], row["validation loss"], row["training loss of the last epoch"]) == (
        "2",
        "10.0",
        "3.000",
        "2.500",
    )


def test_a_run_that_lost_patience_says_so(markdown_report, dataset, tmp_path):
    run = write_run(tmp_path / "runs", "mlp", dataset, head="mlp", seed=0, num_epochs=4, patience=2)
    text = (run / "metrics.csv").read_text().splitlines()
    rows = [line.rsplit(",", 3)[0] + f",1,1,{10 - index}" for index, line in enumerate(text[1:])]
    (run / "metrics.csv").write_text("\n".join([text[0], *rows]) + "\n")
    table = tables_of_markdown(markdown_report())["Kept epoch of each run, accuracy in %"]
    assert table[1][1] == f"stopped after 4 of {NUM_EPOCHS} epochs: no better epoch in 2 (--patience)"
    assert table[1][3] == "1"


def test_a_run_without_validation_has_its_losses(markdown_report, single_run, dataset, tmp_path):
    run = write_run(tmp_path / "few", "all", dataset, head="mlp", seed=0)
    (run / "val_predictions.pt").unlink()
    table = pd.read_csv(run / "metrics.csv")
    table[["epoch", "lr", "train_loss"]].to_csv(run / "metrics.csv", index=False)
    text = markdown_report(tmp_path / "few")
    assert "1 of 2 runs had no validation, so they only have a training loss." in text
    assert [row[0] for row in tables_of_markdown(text)["Kept epoch of each run, accuracy in %"][1:]] == [
        "mean_pool-seed0",
        "all-seed0",
    ]


def test_what_failed_in_a_sweep_stands_in_it(tables):
    assert tables["Runs that failed in a sweep"][1:] == [["sweep", "loss-ce_lr-10", "0", "the loss is nan in epoch 1"]]


def test_what_failed_in_tasks_of_an_array_stands_in_it_as_well(markdown_report, single_run):
    write_json(single_run.parent / "failed-0of2.json", {"lr-10": {"0": "the loss is nan"}})
    write_json(single_run.parent / "failed-1of2.json", {"lr-1": {"3": "out of memory"}})
    failed = tables_of_markdown(markdown_report(single_run.parent))["Runs that failed in a sweep"]
    assert [row[1:] for row in failed[1:]] == [["lr-10", "0", "the loss is nan"], ["lr-1", "3", "out of memory"]]


def test_a_run_that_halving_stopped_says_so_and_is_not_called_cut_off(markdown_report, single_run, dataset, tmp_path):
    write_run(tmp_path / "few", "worse", dataset, head="mlp", seed=0, num_epochs=2)
    decision = {"epoch": 2, "rank": 2, "name": "worse", "score": 1.0, "stopped": True}
    write_json(single_run.parent / "halving.json", [decision, {**decision, "name": "mean_pool", "stopped": False}])
    text = markdown_report(single_run.parent)
    endings = {row[0]: row[1] for row in tables_of_markdown(text)["Kept epoch of each run, accuracy in %"]}
    assert endings["worse-seed0"] == f"stopped after 2 of {NUM_EPOCHS} epochs: in the worse half (--halving)"
    assert endings["mean_pool-seed0"] == f"all {NUM_EPOCHS} epochs"
    assert "interrupted" not in text


@pytest.fixture
def halved(dataset, tmp_path) -> Path:
    """A sweep over learning rates, two seeds each, of which halving stopped all but the best after two epochs."""
    decisions = []
    for rank, (lr, right) in enumerate(((3e-3, 0.8), (1e-3, 0.5), (1e-4, 0.2)), start=1):
        for seed in range(2):
            epochs = {} if rank == 1 else {"num_epochs": 2}
            write_run(tmp_path / "halved", f"lr-{lr:g}", dataset, head="mlp", seed=seed, right=right, lr=lr, **epochs)
        decisions.append({"epoch": 2, "rank": rank, "name": f"lr-{lr:g}", "score": 1.0, "stopped": rank > 1})
    write_json(tmp_path / "halved" / "halving.json", decisions)
    return tmp_path / "halved"


def _last_accuracies(halved: Path, name: str) -> dict[str, float]:
    last = [pd.read_csv(halved / f"{name}-seed{seed}" / "metrics.csv").iloc[-1] for seed in range(2)]
    return {task: np.mean([row[f"val_{task}_top1"] for row in last]) for task in TASKS}


def test_what_halving_stopped_stands_in_the_ranking_at_its_last_epoch_and_is_marked(markdown_report, halved):
    text = markdown_report(halved)
    ranking = tables_of_markdown(text)["All rows, accuracy in %"]
    assert column(ranking, "run")[0] == "lr-0.003"
    rows = {row[0]: dict(zip(ranking[0], row, strict=True)) for row in ranking[1:]}
    for name in ("lr-0.001", "lr-0.0001"):
        expected = _last_accuracies(halved, name)
        assert {task: rows[name][f"{task}@1"] for task in TASKS} == {task: f"{expected[task]:.1f}" for task in TASKS}
        assert (rows[name]["kind"], rows[name]["seeds"]) == ("stopped (after epoch 2)", "2")
        assert (rows[name]["action@5"], rows[name]["std over seeds"]) == ("", "0.0")
    ranked = [float(value) for value in column(ranking, "action@1")[:3]]
    assert ranked == sorted(ranked, reverse=True)
    assert "2 variants stopped early by `--halving`" in text
    assert "4 stopped early" in text[: text.index("## ")]


def test_what_halving_stopped_counts_in_the_settings_that_mattered(markdown_report, halved, labels):
    text = markdown_report(halved)
    tables = tables_of_markdown(text)
    (caption,) = [caption for caption in tables if caption.startswith("lr: ")]
    finished = np.mean([100 * accuracy(halved / f"lr-0.003-seed{seed}", labels, "action") for seed in range(2)])
    stopped = [_last_accuracies(halved, name)["action"] for name in ("lr-0.0001", "lr-0.001")]
    assert column(tables[caption], "lr") == ["0.0001", "0.001", "0.003"]
    assert column(tables[caption], "action@1") == [f"{mean:.1f}" for mean in (*stopped, finished)]
    runs = tables[caption][0].index("runs")
    assert [row[runs] for row in tables[caption][1:]] == ["2 (2 stopped)", "2 (2 stopped)", "2"]
    assert "4 of the runs were stopped early by `--halving` and count with the accuracies of their last epoch" in text


def test_the_best_row_is_never_one_that_was_stopped(report, halved):
    for seed in range(2):
        path = halved / f"lr-0.001-seed{seed}" / "metrics.csv"
        path.write_text(path.read_text().replace(",10.0,10.0,10.0", ",99.9,99.9,99.9"))
    page = report(halved)
    assert "<title>lr-0.003: " in page
    names = [row[0] for row in tables_of_page(page)["All rows, accuracy in %"][1:]]
    assert names[:2] == ["lr-0.001", "lr-0.003"]
    assert re.search(r"<tr class=best><td class=\"word\">lr-0.003<", without_spans(page))


def test_what_halving_stopped_stands_in_the_table_of_its_own_list(markdown_report, halved, dataset, tmp_path):
    """The second list has the same segments in another order; both sweeps stopped a variant of the same name."""
    pd.read_csv(dataset.csv("validation"))[::-1].to_csv(tmp_path / "reversed.csv", index=False)
    write_run(tmp_path / "other", "lr-1", dataset, head="mlp", seed=0, right=0.6)
    write_run(tmp_path / "other", "lr-0.001", dataset, head="mlp", seed=0, num_epochs=2)
    for config in (tmp_path / "other").glob("*/config.json"):
        write_json(config, {**read_json(config), "validation_csv": str(tmp_path / "reversed.csv")})
    decision = {"epoch": 2, "rank": 2, "name": "lr-0.001", "score": 1.0, "stopped": True}
    write_json(tmp_path / "other" / "halving.json", [decision])
    text = markdown_report(halved, tmp_path / "other")
    tables = tables_of_markdown(text)
    first, second = (tables[f"On {name}, accuracy in %"] for name in ("EPIC_100_validation.csv", "reversed.csv"))
    assert column(first, "run")[:3] == ["lr-0.003", "halved/lr-0.001", "lr-0.0001"]
    assert column(second, "run")[:2] == ["lr-1", "other/lr-0.001"]
    assert "3 variants stopped early by `--halving`" in text
    assert "4 of the runs were stopped early" in text  # the settings are about the first list


# ---- which setting mattered


def test_main_effects_are_the_means_of_the_runs_at_each_value(markdown_report, runs, labels):
    tables = tables_of_markdown(markdown_report(runs / "sweep"))
    trials = pd.DataFrame(
        [
            {**read_json(run / "config.json"), **{task: 100 * accuracy(run, labels, task) for task in TASKS}}
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
        for value, num, spread in zip(
            column(table, name), column(table, "runs"), column(table, "std of action@1"), strict=True
        ):
            assert (int(num), spread) == (len(grouped.get_group(value)), f"{grouped.action.std()[value]:.1f}")
        for task in TASKS:
            assert column(table, f"{task}@1") == [f"{means[task][value]:.1f}" for value in column(table, name)]


def test_luck_is_what_seeds_alone_differ_by(markdown_report, runs, labels):
    actions = [
        [100 * accuracy(runs / "sweep" / f"{name}-seed{seed}", labels, "action") for seed in range(2)]
        for name in {path.name[:-6] for path in (runs / "sweep").glob("*-seed0")}
    ]
    pooled = np.sqrt(np.mean([np.var(pair, ddof=1) for pair in actions]))
    assert f"a standard deviation of {pooled:.1f} points" in markdown_report(runs / "sweep")


def test_settings_that_went_together_are_called_confounded(markdown_report, dataset, tmp_path):
    for name, lr, loss in (("a", 1e-3, "ce"), ("b", 1e-2, "cb")):
        write_run(tmp_path / "runs", name, dataset, head="mlp", seed=0, lr=lr, loss=loss)
    assert markdown_report().count("Confounded: its values met different other settings") == 2


def test_an_option_of_a_head_is_compared_within_that_head(markdown_report, dataset, tmp_path):
    for name, head in (("a", "mlp:hidden=8"), ("b", "mlp:hidden=16"), ("c", "bilstm:hidden=8")):
        write_run(tmp_path / "runs", name, dataset, head=head, seed=0)
    tables = tables_of_markdown(markdown_report())
    (caption,) = [caption for caption in tables if caption.startswith("mlp hidden")]
    assert column(tables[caption], "mlp hidden") == ["8", "16"]


def test_other_features_are_a_setting_even_under_the_same_name(markdown_report, dataset, tmp_path):
    for name, digest in (("a", "11" * 32), ("b", "22" * 32)):
        run = write_run(tmp_path / "runs", name, dataset, head="mlp", seed=0)
        write_json(run / "config.json", {**read_json(run / "config.json"), "featureset_digests": [digest]})
    tables = tables_of_markdown(markdown_report())
    (caption,) = [caption for caption in tables if caption.startswith("features")]
    assert sorted(row[0] for row in tables[caption][1:]) == ["synthetic-seg5 (11111111)", "synthetic-seg5 (22222222)"]


def test_a_random_search_has_a_table_and_no_plot_of_every_value(report, dataset, tmp_path):
    for index in range(26):
        write_run(tmp_path / "runs", f"lr{index}", dataset, head="mlp", seed=0, lr=1e-3 + 1e-4 * index)
    page = report()
    (caption,) = [caption for caption in tables_of_page(page) if caption.startswith("lr")]
    assert len(tables_of_page(page)[caption]) == 1 + 26
    assert f"<summary>{caption}</summary>" not in page
    assert "Mean action top-1 in percent by lr" not in page


# ---- ensembles by size


def _ensemble_accuracy(members: list[Path], labels: pd.DataFrame) -> float:
    predictions = [read_predictions(member / "val_predictions.pt").aligned(labels.narration_id) for member in members]
    best = {
        task: np.mean([softmax(getattr(member, task), axis=1) for member in predictions], axis=0).argmax(axis=1)
        for task in CLASSES
    }
    return 100 * float(np.mean((best["verb"] == labels.verb_class) & (best["noun"] == labels.noun_class)))


def test_the_gain_of_seeds_begins_at_their_mean_and_ends_at_their_ensemble(tables, seeds, labels):
    cells = column(tables["seeds of bilstm"], "action@1")
    pairs = [_ensemble_accuracy([a, b], labels) for a, b in zip(seeds, [*seeds[1:], seeds[0]], strict=True)]
    assert cells[0] == percent(accuracy(seeds, labels, "action"))
    assert float(cells[1]) == pytest.approx(np.mean(pairs), abs=0.051)
    assert float(cells[2]) == pytest.approx(_ensemble_accuracy(seeds, labels), abs=0.051)


def test_the_best_runs_are_added_best_first(tables, runs, labels):
    run_folders = [path.parent for path in runs.rglob("val_predictions.pt")]
    by_name = {run.name: run for run in run_folders}
    table = tables["the best runs, best first"]
    added_runs = [by_name[name] for name in column(table, "run added")]
    accuracies = [accuracy(run, labels, "action") for run in added_runs]
    assert (len(added_runs), accuracies) == (len(run_folders), sorted(accuracies, reverse=True))
    expected = [_ensemble_accuracy(added_runs[: index + 1], labels) for index in range(len(added_runs))]
    assert [float(cell) for cell in column(table, "action@1")] == pytest.approx(expected, abs=0.051)


def test_runs_that_predict_other_segments_are_not_put_together(markdown_report, runs, dataset, labels, tmp_path):
    for name, rows in (("a", slice(0, 60)), ("b", slice(20, 80))):
        run = write_run(tmp_path / "runs", name, dataset, head="mlp", seed=0)
        write_predictions(
            run / "val_predictions.pt", drawn(dataset, seed=0, right=0.5).aligned(labels.narration_id[rows])
        )
    assert "Gain by size: no two runs predict the same segments." in markdown_report()
