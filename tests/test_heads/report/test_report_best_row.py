"""`heads report`, its best row segment by segment, each figure against another way to compute it."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_counts import CLASSES, TASKS, accuracy, best_classes, percent, true_classes
from report_runs import write_run
from report_tables import column, tables_of_markdown
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix
from synthetic import NOUNS, VERBS

from features.annotations import NUM_NOUNS, NUM_VERBS, find_splits
from features.predictions import Predictions, read_predictions, write_predictions
from heads.data.splits import choose_split

# ---- the best row, segment by segment


@pytest.mark.parametrize("task", ["verb", "noun"])
def test_accuracy_by_frequency_is_over_thirds_of_the_classes(tables, seeds, labels, dataset, task):
    counts = dataset.segments("train").table[f"{task}_class"].value_counts()
    order = sorted(counts.index, key=lambda class_id: (-counts[class_id], class_id))
    size, remainder = divmod(len(order), 3)
    edges = np.cumsum([0] + [size + (third < remainder) for third in range(3)])
    expected = []
    for low, high in itertools.pairwise(edges):
        mask = labels[f"{task}_class"].isin(order[low:high]).to_numpy(bool)
        limits = f"{counts[order[high - 1]]} to {counts[order[low]]}"
        expected.append([str(high - low), limits, str(mask.sum()), percent(accuracy(seeds, labels, task, mask))])
    table = tables[f"{task.capitalize()}s by frequency"]
    assert column(table, f"{task}s") == ["head", "middle", "tail"]
    assert [[cell.partition(" (")[0] for cell in row[1:]] for row in table[1:]] == expected


def test_classes_that_training_never_shows_are_apart(markdown_report, single_run, dataset, tmp_path):
    shutil.copytree(dataset.annotations, tmp_path / "annotations")
    train = pd.read_csv(dataset.csv("train"))
    train[train.verb_class != 3].to_csv(tmp_path / "annotations" / "EPIC_100_train.csv", index=False)
    table = tables_of_markdown(markdown_report(single_run, "--annotations", tmp_path / "annotations"))[
        "Verbs by frequency"
    ]
    assert (table[-1][0], table[-1][1], table[-1][2]) == ("never in training", "1", "0")


def _confusion_matrix(seeds: list[Path], labels: pd.DataFrame, task: str) -> np.ndarray:
    """scikit-learn's confusion matrix of all seeds together, rows the truth."""
    best = [best_classes(read_predictions(seed / "val_predictions.pt"), labels)[task] for seed in seeds]
    truth = np.tile(true_classes(labels)[task], len(seeds))
    return confusion_matrix(truth, np.concatenate(best), labels=range(CLASSES[task]))


@pytest.mark.parametrize(
    ("task", "names"), [("verb", VERBS), ("noun", {class_id: f"noun {class_id}" for class_id in range(NUM_NOUNS)})]
)
def test_confusions_are_those_of_scikit_learn(tables, seeds, labels, task, names):
    matrix = _confusion_matrix(seeds, labels, task)
    class_sizes = matrix.sum(axis=1)
    np.fill_diagonal(confusions := matrix.copy(), 0)
    expected = sorted(confusions[confusions > 0].tolist(), reverse=True)[:15]
    table = tables[f"Most confused {task}s"]
    assert [round(3 * float(value)) for value in column(table, "segments")] == expected
    by_name = {name: class_id for class_id, name in names.items()}
    for truth, predicted, _, share in table[1:]:
        if predicted in by_name:
            count = confusions[by_name[truth], by_name[predicted]]
            assert share == percent(count / class_sizes[by_name[truth]])


def test_the_matrix_of_frequent_classes_is_that_of_scikit_learn(tables, seeds, labels):
    matrix = _confusion_matrix(seeds, labels, "verb")
    classes = sorted(VERBS, key=lambda class_id: (-matrix[class_id].sum(), class_id))
    percent = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    table = tables["Confusion matrix of the frequent verbs, %"]
    assert table[0][2:] == [*[VERBS[class_id] for class_id in classes], "any other"]
    for class_id, row in zip(classes, table[1:], strict=True):
        values = [*percent[class_id, classes], 100 - percent[class_id, classes].sum()]
        assert [float(cell) for cell in row[2:]] == pytest.approx(values, abs=0.5001)


def test_accuracy_by_length_is_that_of_the_bins(tables, seeds, labels):
    bins = pd.cut(labels.stop_s - labels.start_s, [0, 0.5, 1, 2, 4, 8, 16, np.inf], right=False)
    expected = []
    for interval in bins.cat.categories:
        mask = (bins == interval).to_numpy()
        if mask.any():
            expected.append([str(mask.sum()), *[percent(accuracy(seeds, labels, task, mask)) for task in TASKS]])
    table = tables["By segment length, accuracy in %"]
    assert [[cell.partition(" (")[0] for cell in row[1:]] for row in table[1:]] == expected
    assert table[1][0] == "under 0.5 s"


def test_participants_seen_and_unseen_have_their_accuracy(tables, seeds, labels):
    for caption, names in (
        ("By participant, accuracy in %", {"P01": "P01", "P04 (unseen)": "P04"}),
        ("Participants in training or not, accuracy in %", {"seen in training": "P01", "unseen in training": "P04"}),
    ):
        for row in tables[caption][1:]:
            mask = (labels.participant_id == names[row[0]]).to_numpy()
            assert row[1:] == [str(mask.sum()), *[percent(accuracy(seeds, labels, task, mask)) for task in TASKS]]


def test_parts_of_several_videos_have_intervals_that_hold_them(markdown_report, dataset, single_run, tmp_path):
    table = tables_of_markdown(markdown_report(single_run))["By segment length, accuracy in %"]
    matches = [re.fullmatch(r"([\d.]+) \(([\d.]+) to ([\d.]+)\)", row[2]) for row in table[1:]]
    assert any(matches)
    assert all(float(match[2]) - 0.1 <= float(match[1]) <= float(match[3]) + 0.1 for match in matches if match)


@pytest.mark.parametrize("task", ["verb", "noun"])
def test_the_reliability_diagram_is_that_of_scikit_learn(tables, seeds, labels, task):
    predictions = [read_predictions(seed / "val_predictions.pt").aligned(labels.narration_id) for seed in seeds]
    p = np.concatenate(
        [softmax(getattr(seed_predictions, task).astype(float), axis=1) for seed_predictions in predictions]
    )
    hit = p.argmax(axis=1) == np.tile(true_classes(labels)[task], len(seeds))
    accuracy, confidence = calibration_curve(hit, p.max(axis=1), n_bins=15)
    table = tables[f"Reliability of {task}s"]
    assert [float(cell) for cell in column(table, "confidence, %")] == pytest.approx(100 * confidence, abs=0.051)
    assert [float(cell) for cell in column(table, "accuracy, %")] == pytest.approx(100 * accuracy, abs=0.051)
    assert sum(float(cell) for cell in column(table, "segments")) == pytest.approx(80, abs=0.5)


def test_a_fold_counts_the_training_segments_of_the_others_alone(markdown_report, dataset, tmp_path):
    run = write_run(tmp_path / "runs", "mlp", dataset, head="mlp", seed=0, split="fold:0/3")
    split = choose_split("fold:0/3", find_splits(dataset.annotations))
    names = tuple(split.validation.narration_id)
    rng = np.random.default_rng(0)
    verb, noun = (rng.normal(size=(len(names), num)).astype(np.float32) for num in (NUM_VERBS, NUM_NOUNS))
    write_predictions(run / "val_predictions.pt", Predictions(names, verb, noun, "x"))
    text = markdown_report()
    assert f"The classes in training ({len(split.train)} segments)" in text


def test_names_of_nouns_are_taken_where_there_are_some(markdown_report, single_run, dataset, tmp_path):
    shutil.copytree(dataset.annotations, tmp_path / "annotations")
    keys = pd.DataFrame({"id": NOUNS.keys(), "key": NOUNS.values()})
    keys.to_csv(tmp_path / "annotations" / "EPIC_100_noun_classes.csv", index=False)
    table = tables_of_markdown(markdown_report(single_run, "--annotations", tmp_path / "annotations"))[
        "Most confused nouns"
    ]
    assert set(column(table, "true noun")) <= set(NOUNS.values())
