"""Heads learn what they are built for: on real hand sequences, and on miniatures with nouns that are hard to see.

Of one the nouns show only before their segments; of the other the objects are small, among many others.

The first part needs the joints of First-Person Hand Action beside the checkout (tests/support/fpha.py) and skips
without.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from fpha import write_fpha
from miniature import write_miniature
from shell import ROOT, output_here, output_of
from small_heads import small_options

from heads.cli import main
from heads.losses import catalogue as losses
from heads.models import catalogue as models
from heads.runs import METRICS, read_metrics

LABELLED = ROOT.parent / "shared" / "labelled" / "fpha"
needs_sequences = pytest.mark.skipif(not LABELLED.is_dir(), reason=f"no hand sequences in {LABELLED.name}")


# ---- real sequences


@pytest.fixture(scope="module")
def sequences(tmp_path_factory) -> Path:
    """A folder with the joints of all hand sequences as a feature set, and lists of a fifth of them."""
    folder = tmp_path_factory.mktemp("sequences")
    write_fpha(LABELLED, folder / "joints")
    for split in ("train", "validation"):
        header, *rows = (LABELLED / f"FPHA_{split}.csv").read_text().splitlines()
        (folder / f"{split}.csv").write_text("\n".join([header, *rows[::5]]))
    return folder


def _train(sequences: Path, name: str, *arguments: object, train: Path, validation: Path) -> list[dict[str, float]]:
    """Train by the command line, in this process; return the rows of metrics.csv."""
    data_options = ("--features", sequences / "joints", "--runs", sequences / "runs", "--annotations", sequences)
    options = ("--train", train, "--validation", validation, "--device", "cpu", "--max-steps", 16, "--batch-size", 32)
    words = ("train", *data_options, *options, "--name", name, *arguments)
    output_here(main, *words)
    return read_metrics(sequences / "runs" / f"{name}-seed0" / METRICS)


def _set(options: dict[str, object]) -> list[object]:
    return [word for key, value in options.items() for word in ("--set", f"{key}={value}")]


@needs_sequences
@pytest.mark.parametrize("head", [name for name in models.names() if not models.is_fitted(name)])
def test_every_head_trains_on_real_sequences(head, sequences):
    options = _set(small_options(head, hidden=16, width=16, dropout=0.0))
    plan = ("--epochs", 4, "--warmup-epochs", 0, "--lr", 3e-3)
    lists = {"train": sequences / "train.csv", "validation": sequences / "validation.csv"}
    first, *_, last = _train(sequences, f"short-{head}", "--head", head, *options, *plan, **lists)
    assert last["train_loss"] + 0.2 < first["train_loss"] < 10.5  # at first it guesses: log 97 + log 300 = 10.3


@needs_sequences
@pytest.mark.parametrize("loss", losses.names())
def test_every_loss_trains_on_real_sequences(loss, sequences):
    plan = ("--epochs", 20, "--warmup-epochs", 0, "--lr", 1e-2)
    lists = {"train": sequences / "train.csv", "validation": sequences / "train.csv"}
    rows = _train(sequences, f"loss-{loss}", "--head", "mean_pool", "--loss", loss, *plan, **lists)
    assert rows[-1]["val_verb_top1"] > 25  # 27 verbs, the most frequent 16 %


@needs_sequences
@pytest.mark.slow
def test_order_tells_more_of_real_hands_than_their_average(sequences):
    plan = ("--epochs", 18, "--warmup-epochs", 2, "--lr", 3e-3)
    lists = {"train": LABELLED / "FPHA_train.csv", "validation": LABELLED / "FPHA_validation.csv"}
    average = _train(sequences, "average", "--head", "mean_pool", *plan, **lists)
    options = _set({"hidden": 64, "dropout": 0.0})
    order = _train(sequences, "order", "--head", "bilstm", *options, *plan, **lists)
    average_top1, order_top1 = (max(row["val_action_top1"] for row in rows) for rows in (average, order))
    assert order_top1 > average_top1 + 10


# ---- nouns that show before their segments


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """A folder with a miniature whose nouns show only before their segments, and a dense set of it."""
    folder = tmp_path_factory.mktemp("before")
    write_miniature(folder, size="context", nouns="before")
    data_options = ("--annotations", folder / "annotations", "--videos", folder / "videos", "--out", folder / "dense")
    extract_options = ("--backbone", "tiny_cnn", "--weights", "random:0", "--every", 0.2)
    output_of("extract", "run", *data_options, *extract_options, folder=folder, timeout_s=900, OMP_NUM_THREADS=1)
    return folder


def _last_epochs(dataset: Path, name: str, *options: object, head: str = "mean_pool") -> dict[str, float]:
    """Train two seeds; return the mean of their last epochs' rows."""
    data_options = ("--head", head, "--features", dataset / "dense", "--annotations", dataset / "annotations")
    plan = ("--device", "cpu", "--epochs", 20, "--lr", 3e-3, "--runs", dataset / "runs", "--name", name)
    output_here(main, "train", *data_options, *plan, "--seeds", "0-1", *options)
    rows = [read_metrics(dataset / "runs" / f"{name}-seed{seed}" / METRICS)[-1] for seed in range(2)]
    return {column: sum(row[column] for row in rows) / 2 for column in rows[0]}


@pytest.fixture(scope="module")
def with_context(dataset) -> dict[str, float]:
    return _last_epochs(dataset, "context", "--context", 0.6)


@pytest.mark.slow
def test_context_shows_nouns_that_the_segment_does_not(dataset, with_context):
    without_context = _last_epochs(dataset, "segment")
    assert with_context["val_noun_top1"] > without_context["val_noun_top1"] + 15


@pytest.mark.slow
def test_windows_that_segments_share_show_as_much_as_context_of_each_segment(dataset, with_context):
    plan = ("--window", 6, "--window-hop", 2, "--step-dropout", 0.3, "--batch-size", 16, "--epochs", 40, "--lr", 1e-3)
    shared = _last_epochs(dataset, "shared", *plan, head="context:layers=2")
    for column in ("val_verb_top1", "val_noun_top1", "val_action_top1"):
        assert shared[column] >= with_context[column]


@pytest.mark.slow
def test_balanced_classes_find_more_of_the_rare_ones(dataset, with_context):
    balanced = _last_epochs(dataset, "balanced", "--context", 0.6, "--loss", "cb")
    assert balanced["val_noun_recall"] > with_context["val_noun_recall"] + 3


# ---- small objects among others


@pytest.fixture(scope="module")
def small_objects(tmp_path_factory) -> Path:
    """A folder with a miniature of small objects, and its features of whole frames and of hands and what they hold."""
    folder = tmp_path_factory.mktemp("small")
    write_miniature(folder, size="crops", objects="small")
    data_options = ("--annotations", folder / "annotations", "--videos", folder / "videos")
    extract_options = ("--backbone", "tiny_cnn", "--weights", "random:0", "--frames", 8)
    for name, options in (("whole", ()), ("hands", ("--regions", "hands", "--boxes", folder / "hand-objects"))):
        words = ("extract", "run", *data_options, *extract_options, *options, "--out", folder / name)
        output_of(*words, folder=folder, timeout_s=900, OMP_NUM_THREADS=1)
    return folder


def test_crops_of_hands_show_nouns_that_whole_frames_do_not(small_objects):
    top1 = {}
    for name in ("whole", "hands"):
        data_options = ("--features", small_objects / name, "--annotations", small_objects / "annotations")
        plan = ("--head", "mean_pool", "--device", "cpu", "--epochs", 20, "--lr", 3e-3, "--seeds", "0-2")
        output_here(main, "train", *data_options, *plan, "--runs", small_objects / "runs", "--name", name)
        runs = [small_objects / "runs" / f"{name}-seed{seed}" for seed in range(3)]
        top1[name] = [read_metrics(run / METRICS)[-1]["val_noun_top1"] for run in runs]
    # 21, 20 and 20 % of the nouns by whole frames, 45 to 47 % by crops.
    assert min(top1["hands"]) > max(top1["whole"]) + 10
