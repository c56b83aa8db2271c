"""Training: it learns, it keeps its best epoch, it says what went wrong, and it never mixes two runs."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from run_files import metrics_of, weights_of
from small_heads import small_options
from synthetic import labelled_rows, write_csv, write_features

from features.annotations import Segments, SplitFiles, read_segments
from features.errors import DataError, OptionError
from features.files import read_json, write_json
from features.predictions import read_predictions
from heads.config import Schedule, TrainConfig, config_from_json, make_config, parse_seeds
from heads.data.load import TrainData, find_featuresets, load_split, load_train_data
from heads.ensembles.run import write_ensemble
from heads.models.catalogue import names
from heads.models.pooling import Classifiers
from heads.models.saved import BEST, load_model
from heads.predict.predicting import predict
from heads.runs import read_record, selected_epoch
from heads.scoring.metrics import compare, figures
from heads.training.fit import fit
from heads.training.state import Outcome, start_run

CPU = torch.device("cpu")
SETTINGS = {"epochs": 6, "batch_size": 8, "lr": 1e-2, "warmup_epochs": 1, "select": "action"}
CONFIG = make_config("bilstm", {"hidden": 8}, SETTINGS)
MEAN_POOL = replace(CONFIG, head="mean_pool", head_options={})


def _with(config: TrainConfig = CONFIG, **settings: object) -> TrainConfig:
    """The configuration with other settings of its optimisation."""
    return replace(config, optimisation=replace(config.optimisation, **settings))


def _load(roots: list[Path], files: SplitFiles, config: TrainConfig = CONFIG, **options: object) -> TrainData:
    return load_train_data(roots, files, config, **{"allow_missing": False, "device": CPU, **options})


@pytest.fixture(scope="module")
def run(train_data, tmp_path_factory) -> Outcome:
    """A finished run; read it, never write into it."""
    return fit(CONFIG, train_data, tmp_path_factory.mktemp("runs") / "bilstm-seed0", device=CPU)


# ---- epochs that are kept


def test_kept_epochs_are_the_predictions_of_runs_that_end_there(train_data, tmp_path):
    config = _with(keep_epochs="2,4-5", select="last")
    fit(config, train_data, tmp_path / "run", device=CPU)
    assert sorted(path.name for path in (tmp_path / "run").glob("epoch*")) == ["epoch2", "epoch4", "epoch5"]
    # A run that is cut off is as one that ends there: it has kept the weights of its last epoch.
    fit(_with(select="last"), train_data, tmp_path / "short", device=CPU, until=4)
    model, _ = load_model(tmp_path / "short" / BEST, device=CPU)
    for split, file in (("validation", "val_predictions.pt"), ("test", "test_predictions.pt")):
        kept = read_predictions(tmp_path / "run" / "epoch4" / file)
        expected = predict(model, train_data.predicted[split], source="", device=CPU)
        assert kept.narration_id == expected.narration_id
        np.testing.assert_array_equal(kept.verb, expected.verb)
        np.testing.assert_array_equal(kept.noun, expected.noun)


def test_keeping_epochs_changes_nothing_of_the_run(run, train_data, tmp_path):
    outcome = fit(_with(keep_epochs="1-3"), train_data, tmp_path / "run", device=CPU)
    assert outcome.metrics == run.metrics


def test_kept_epochs_are_members_of_an_ensemble(train_data, tmp_path):
    fit(_with(keep_epochs="5-6"), train_data, tmp_path / "run", device=CPU)
    members = sorted((tmp_path / "run").glob("epoch*"))
    written = write_ensemble(members, tmp_path / "ensemble", force=False)
    assert (written.names, written.splits) == (("epoch5", "epoch6"), ("validation", "test"))
    assert read_record(tmp_path / "ensemble").features == read_record(tmp_path / "run").features


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5-7", "there is no epoch 7: the run has epochs 1 to 6"),
        ("0-2", "there is no epoch 0"),
        ("some", "'some' is not a list of epochs"),
    ],
)
def test_epochs_that_are_not_there_cannot_be_kept(text, message, train_data, tmp_path):
    with pytest.raises(OptionError, match=message) as caught:
        fit(_with(keep_epochs=text), train_data, tmp_path / "run", device=CPU)
    assert caught.value.option == "--keep-epochs"


# ---- it learns


@pytest.mark.parametrize("name", names())
def test_sixteen_segments_are_learnt_to_the_last_one(name, tmp_path):
    rng = np.random.default_rng(0)
    segments = read_segments(write_csv(tmp_path / "train.csv", labelled_rows(("P01_01", "P02_101"), 16, rng)))
    steps = {segment: rng.normal(size=(4, 24)) for segment in segments.narration_id}
    write_features(tmp_path / "set", segments, steps)
    files = SplitFiles(tmp_path / "train.csv", tmp_path / "train.csv", None)  # scored on what it learns from
    data = _load([tmp_path / "set"], files)
    settings = {"epochs": 80, "batch_size": 4, "lr": 3e-2 if name == "mean_pool" else 1e-2, "warmup_epochs": 2}
    config = make_config(name, small_options(name, dropout=0.0, hidden=16, width=16, c=1e4), settings)
    metrics = fit(config, data, tmp_path / "run", device=CPU).metrics
    assert (metrics["val_verb_top1"], metrics["val_noun_top1"]) == (100, 100)


def test_the_loss_of_the_first_epoch_is_that_of_guessing(train_data, tmp_path):
    outcome = fit(_with(epochs=1, lr=1e-9, bias="zero"), train_data, tmp_path / "run", device=CPU)
    assert outcome.metrics["train_loss"] == pytest.approx(math.log(97) + math.log(300), abs=0.3)


@pytest.mark.parametrize("head", [name for name in names() if name != "logistic"])
@pytest.mark.parametrize("settings", [{}, {"separate": True}, {"noun_loss": "balanced_softmax"}], ids=repr)
def test_the_biases_of_all_classifiers_begin_where_the_losses_say(head, settings, train_data, tmp_path):
    config = make_config(head, small_options(head), settings)
    run = start_run(config, train_data, tmp_path / "run", device=CPU)
    classifiers = [module for module in run.model.modules() if isinstance(module, Classifiers)]
    biases = {task: linear.bias for classifier in classifiers for task, linear in classifier.items()}
    verbs = np.bincount(train_data.train.segments.verb_class, minlength=97).clip(min=1)
    assert biases["verb"].detach().numpy() == pytest.approx(np.log(verbs / verbs.sum()), abs=1e-5)
    assert bool((biases["noun"] == 0).all()) == ("noun_loss" in settings)


# ---- the learning rate

warm_ups = st.just(0.0) | st.floats(0.01, 50)
schedules = st.tuples(st.floats(1e-6, 10), warm_ups, st.floats(0.1, 100))
shares = st.lists(st.floats(0, 1), min_size=2, max_size=9).map(sorted)


def lr_at(epochs: float, *, peak: float, warmup: float, total: float) -> float:
    """The learning rate after so many epochs."""
    return Schedule(total, warmup, peak).lr_at(epochs / total)


@given(schedules, shares)
def test_the_learning_rate_is_never_below_zero_nor_above_its_peak(schedule, moments):
    peak, warmup, total = schedule
    assert all(0 <= lr_at(share * total, peak=peak, warmup=warmup, total=total) <= peak for share in moments)


@given(schedules, shares)
def test_the_learning_rate_rises_then_falls(schedule, moments):
    peak, warmup, decay = schedule
    total = warmup + decay
    rising = [lr_at(share * warmup, peak=peak, warmup=warmup, total=total) for share in moments if share < 1]
    falling = [lr_at(warmup + share * decay, peak=peak, warmup=warmup, total=total) for share in moments]
    assert (rising, falling) == (sorted(rising), sorted(falling, reverse=True))


@given(schedules, st.floats(0, 1, exclude_max=True))
def test_warm_up_is_a_straight_line(schedule, share):
    peak, warmup, total = schedule
    if share * warmup < warmup:
        assert lr_at(share * warmup, peak=peak, warmup=warmup, total=total) == pytest.approx(share * peak)


@given(schedules)
def test_the_learning_rate_ends_at_zero(schedule):
    peak, warmup, decay = schedule
    total = warmup + decay
    assert lr_at(total, peak=peak, warmup=warmup, total=total) == pytest.approx(0, abs=1e-12 * peak)


def test_halfway_down_the_cosine_is_half_the_peak():
    assert lr_at(60, peak=3.0, warmup=20, total=100) == pytest.approx(1.5)


# ---- what a run leaves


def test_a_run_leaves_these_files(run):
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "best_model.pth",
        "config.json",
        "last.pth",
        "metrics.csv",
        "test_predictions.pt",
        "val_predictions.pt",
    ]


def test_every_epoch_has_a_row(run):
    assert [row["epoch"] for row in metrics_of(run.folder)] == [1, 2, 3, 4, 5, 6]


def test_a_row_has_losses_and_accuracies(run):
    assert list(metrics_of(run.folder)[0]) == [
        "epoch",
        "lr",
        "train_loss",
        "val_loss",
        "val_verb_top1",
        "val_verb_top5",
        "val_noun_top1",
        "val_noun_top5",
        "val_action_top1",
        "val_action_top5",
        "val_verb_recall",
        "val_noun_recall",
    ]


def test_the_config_repeats_the_run(run, train_data, tmp_path):
    record = read_json(run.folder / "config.json")
    config = config_from_json(record)
    second_run = fit(config, train_data, tmp_path / "again", device=CPU)
    assert metrics_of(second_run.folder) == metrics_of(run.folder)


def test_the_config_says_what_it_was_trained_on(run, synthetic):
    record = read_json(run.folder / "config.json")
    assert {name: record[name] for name in ("features", "train_csv", "validation_csv", "test_csv")} == {
        "features": [str(synthetic.featureset)],
        "train_csv": str(synthetic.csv("train")),
        "validation_csv": str(synthetic.csv("validation")),
        "test_csv": str(synthetic.csv("test")),
    }


def test_options_that_were_not_given_stand_in_the_config_as_well(heads, synthetic, tmp_path):
    result = heads("train", "--head", "mean_pool", "--epochs", 1, *synthetic.options)
    assert result.exit_code == 0, result.output
    assert read_json(tmp_path / "runs" / "mean_pool-seed0" / "config.json")["head_options"] == {"dropout": 0.0}


@pytest.mark.parametrize(("name", "split"), [("val", "validation"), ("test", "test")])
def test_predictions_cover_their_split_in_its_order(run, synthetic, name, split):
    predictions = read_predictions(run.folder / f"{name}_predictions.pt")
    assert predictions.narration_id == tuple(synthetic.segments(split).narration_id)


def test_another_seed_gives_another_run(run, train_data, tmp_path):
    other_run = fit(replace(CONFIG, seed=1), train_data, tmp_path / "other", device=CPU)
    assert metrics_of(other_run.folder) != metrics_of(run.folder)


# ---- the best epoch


def test_the_best_epoch_is_the_one_of_the_highest_action_accuracy(run):
    actions = [row["val_action_top1"] for row in metrics_of(run.folder)]
    assert run.best_epoch == 1 + actions.index(max(actions))


def test_predictions_are_those_of_the_best_epoch(run, synthetic):
    predictions = read_predictions(run.folder / "val_predictions.pt")
    scores = figures(compare(predictions, synthetic.segments("validation")))
    row = metrics_of(run.folder)[run.best_epoch - 1]
    tops = {
        f"val_{task}_top{k}": float(scores[f"{task}@{k}"][0]) for task in ("verb", "noun", "action") for k in (1, 5)
    }
    assert tops.items() <= row.items()


@pytest.mark.parametrize(("select", "epoch"), [("action", 2), ("loss", 3), ("last", 4)])
def test_the_epoch_that_counts_is_the_earliest_of_the_best_by_action_or_loss_or_the_last(select, epoch):
    values = [(10.0, 3.0), (30.0, 2.0), (20.0, 1.0), (30.0, 1.0)]
    history = [{"val_action_top1": action, "val_loss": loss} for action, loss in values]
    assert selected_epoch(history, select) == epoch


def test_the_weights_that_are_kept_are_those_of_the_selected_epoch(train_data, tmp_path):
    outcome = fit(_with(select="last"), train_data, tmp_path / "run", device=CPU)
    best, last = (weights_of(outcome.folder / name) for name in ("best_model.pth", "last.pth"))
    assert outcome.best_epoch == 6
    assert all(torch.equal(best[key], last[key]) for key in last)


def test_on_a_small_validation_list_the_last_epoch_is_kept_and_recorded(train_data, tmp_path):
    outcome = fit(_with(select=None), train_data, tmp_path / "run", device=CPU)
    assert outcome.best_epoch == 6
    assert read_json(outcome.folder / "config.json")["select"] == "last"


def test_without_validation_the_last_epoch_is_the_best(train_data, tmp_path):
    outcome = fit(CONFIG, replace(train_data, validation=None), tmp_path / "run", device=CPU)
    best, last = (weights_of(outcome.folder / name) for name in ("best_model.pth", "last.pth"))
    assert outcome.best_epoch == 6
    assert all(torch.equal(best[key], last[key]) for key in last)


def test_without_validation_only_the_test_list_is_predicted(train_data, tmp_path):
    outcome = fit(_with(epochs=1), replace(train_data, validation=None), tmp_path / "run", device=CPU)
    assert [path.name for path in outcome.folder.glob("*_predictions.pt")] == ["test_predictions.pt"]


def test_a_training_csv_alone_is_enough(heads, synthetic, tmp_path):
    result = heads(
        *("train", "--head", "mean_pool", "--epochs", 2),
        *("--train", synthetic.csv("train"), "--features", synthetic.featureset),
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == "runs/mean_pool-seed0: done, keeps epoch 2 (runs/mean_pool-seed0/best_model.pth)\n"


# ---- what goes wrong


def _epoch_and_step(error: pytest.ExceptionInfo) -> tuple[int, int]:
    words = str(error.value).replace(",", "").replace(";", "").split()
    return int(words[words.index("epoch") + 1]), int(words[words.index("step") + 1])


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(train_data, tmp_path):
    with pytest.raises(
        DataError, match=r"run: the loss is (nan|inf) in epoch \d, step \d \(segments P0.*\); try a lower"
    ) as error:
        fit(_with(MEAN_POOL, lr=1e30), train_data, tmp_path / "run", device=CPU)
    # Three steps an epoch; the first one's loss, of the initial weights, is always finite.
    assert _epoch_and_step(error) in {(1, 2), (1, 3)}


def test_weights_that_are_not_finite_are_never_the_best(train_data, tmp_path):
    # One step an epoch: in one of them the loss is still finite, and the weights after it no longer are. Logits that
    # are no numbers have no best class; taken by their order they would be right about class 0, every time.
    validation = train_data.validation
    table = validation.segments.table.copy()
    table[["verb_class", "noun_class"]] = 0
    all_zero = copy.copy(validation)
    all_zero.segments = Segments(table.astype(validation.segments.table.dtypes), "all of class 0")
    config = _with(MEAN_POOL, lr=1e30, batch_size=100, warmup_epochs=0)
    with pytest.raises(DataError, match="try a lower --lr"):
        fit(config, replace(train_data, validation=all_zero), tmp_path / "run", device=CPU)
    best = tmp_path / "run" / "best_model.pth"
    assert not best.exists() or all(value.isfinite().all() for value in weights_of(best).values())


def test_a_training_list_without_labels_is_refused(synthetic, heads, tmp_path):
    result = heads("train", "--head", "mean_pool", "--train", synthetic.csv("test"), "--features", synthetic.features)
    assert result.exit_code == 1
    assert "EPIC_100_test_timestamps.csv: segments have no verb_class" in result.stderr


@pytest.mark.parametrize("option", ["--train", "--validation"])
def test_a_list_without_labels_is_refused_before_a_run_is_begun(synthetic, heads, tmp_path, option):
    heads("train", "--head", "mean_pool", "--epochs", 1, *synthetic.options, option, synthetic.csv("test"))
    assert not (tmp_path / "runs" / "mean_pool-seed0").exists()


@pytest.mark.parametrize(
    ("config", "difference"),
    [
        (_with(lr=2e-2), "lr 0.01 there, 0.02 now"),
        (_with(epochs=7), "epochs 6 there, 7 now"),
        (replace(CONFIG, seed=1), "seed 0 there, 1 now"),
        (replace(CONFIG, separate=True), "separate False there, True now"),
        (MEAN_POOL, "head 'bilstm' there, 'mean_pool' now; head_options"),
    ],
    ids=["lr", "epochs", "seed", "separate", "head"],
)
def test_another_run_in_the_same_folder_is_refused(run, train_data, config, difference):
    with pytest.raises(DataError, match=f"holds another run .*{difference}.*give this one a --name"):
        fit(config, train_data, run.folder, device=CPU)


def test_another_feature_set_in_the_same_folder_is_refused(run, train_data):
    (source,) = train_data.sources
    other_source = replace(source, featureset=replace(source.featureset, backbone="another"))
    with pytest.raises(DataError, match=r"holds another run .*featureset_digests"):
        fit(CONFIG, replace(train_data, sources=(other_source,)), run.folder, device=CPU)


def test_validation_that_was_not_there_before_is_another_run(run, train_data):
    with pytest.raises(DataError, match="validation_segments 12 there, 0 now"):
        fit(CONFIG, replace(train_data, validation=None), run.folder, device=CPU)


def test_other_labels_in_the_same_folder_are_refused(run, synthetic, tmp_path):
    lines = synthetic.csv("train").read_text().splitlines()
    verb_class = lines[0].split(",").index("verb_class")
    cells = [line.split(",") for line in lines[1:]]
    for row in cells:
        row[verb_class] = "5"
    (tmp_path / "train.csv").write_text("\n".join([lines[0], *(",".join(row) for row in cells)]))
    files = SplitFiles(tmp_path / "train.csv", synthetic.csv("validation"), synthetic.csv("test"))
    relabelled_data = _load([synthetic.featureset], files)
    assert set(relabelled_data.train.segments.verb_class) == {5}
    with pytest.raises(DataError, match="holds another run"):
        fit(CONFIG, relabelled_data, run.folder, device=CPU)


def test_a_run_of_an_older_version_goes_on_and_then_records_what_it_did_not(train_data, tmp_path):
    config, folder = _with(epochs=2), tmp_path / "run"
    fit(config, train_data, folder, device=CPU, until=1)
    record = read_json(folder / "config.json")
    write_json(folder / "config.json", {name: value for name, value in record.items() if name != "times_digest"})
    assert not fit(config, train_data, folder, device=CPU).was_there
    assert read_json(folder / "config.json") == record


def test_a_finished_run_is_not_trained_again(run, train_data):
    mtimes = {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir()}
    outcome = fit(CONFIG, train_data, run.folder, device=CPU)
    assert {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir()} == mtimes
    assert outcome == Outcome(run.folder, run.best_epoch, run.metrics, was_there=True)


def test_a_test_list_whose_features_came_later_is_predicted_by_a_finished_run(train_data, tmp_path):
    fit(_with(epochs=1), replace(train_data, test=None), tmp_path / "run", device=CPU)
    fit(_with(epochs=1), train_data, tmp_path / "run", device=CPU)
    assert (tmp_path / "run" / "test_predictions.pt").is_file()


# ---- settings and inputs


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0", [0]), ("0-4", [0, 1, 2, 3, 4]), ("0,2,5", [0, 2, 5]), ("3-3", [3]), (" 1 , 7-8", [1, 7, 8])],
)
def test_seeds_are_read_as_a_list(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "0-2-4", "1,,2", "0,0", "0-3,2", "4-0", "1.5"])
def test_what_is_no_list_of_seeds_is_refused(text):
    with pytest.raises(OptionError, match=r"^--seeds: "):
        parse_seeds(text)


def test_the_only_feature_set_of_a_folder_is_found(synthetic):
    assert find_featuresets([synthetic.features]) == [synthetic.featureset]


def test_a_feature_set_is_found_by_its_own_path(synthetic):
    assert find_featuresets([synthetic.featureset]) == [synthetic.featureset]


def test_a_test_list_without_features_is_left_out(synthetic, tmp_path):
    rows = labelled_rows(("P09_01",), 4, np.random.default_rng(0))
    files = SplitFiles(synthetic.csv("train"), None, write_csv(tmp_path / "test.csv", rows, labels=False))
    assert _load([synthetic.featureset], files).test is None


def test_a_test_list_that_has_grown_is_predicted_again_without_training(train_data, tmp_path):
    folder = tmp_path / "run"
    first_four = load_split(
        train_data.sources,
        train_data.test.segments.where(np.arange(len(train_data.test)) < 4),
        CONFIG.inputs,
        allow_missing=False,
        device=CPU,
    )
    fit(CONFIG, replace(train_data, test=first_four), folder, device=CPU)
    mtime = (folder / "last.pth").stat().st_mtime_ns
    fit(CONFIG, train_data, folder, device=CPU)
    assert len(read_predictions(folder / "test_predictions.pt")) == len(train_data.test)
    assert (folder / "last.pth").stat().st_mtime_ns == mtime
