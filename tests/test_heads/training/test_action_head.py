"""`--action-head` from end to end: trained, predicted, scored, averaged, folded and submitted as a user types it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from run_files import metrics_of
from synthetic import write_synthetic_dense

from features.actions import pairs_of
from features.files import read_json, write_json
from features.predictions import Predictions, read_predictions
from heads.api.scores import compare, evaluate
from heads.models.saved import load_model

QUICK = ("--epochs", 2, "--batch-size", 8, "--device", "cpu")
OPTIONS = ("--head", "mean_pool", "--lr", 1e-2, "--select", "action", *QUICK)


@pytest.fixture
def train(heads, synthetic):
    """Train a run with an action classifier, and return its folder."""

    def run(*options: object, name: str = "it", seed: int = 0) -> Path:
        named = (*OPTIONS, "--action-head", "--name", name, "--seeds", seed, *synthetic.options)
        result = heads("train", *named, *options)
        assert result.exit_code == 0, result.output
        return Path("runs", f"{name}-seed{seed}")

    return run


def _accuracy(predictions: Predictions, segments, k: int) -> float:
    """The share of segments whose action is among the k best of the classifier, written plainly."""
    aligned = predictions.aligned(segments.narration_id)
    right = 0
    for scores, label in zip(aligned.action, zip(segments.verb_class, segments.noun_class, strict=True), strict=True):
        best = sorted(range(len(scores)), key=lambda index: -scores[index])[:k]
        right += label in [tuple(aligned.pairs[index]) for index in best]
    return 100 * right / len(segments)


def test_a_run_predicts_the_actions_of_training_and_is_scored_by_them_apart(train, heads, synthetic):
    run, segments = train(), synthetic.segments("validation")
    expected = pairs_of(synthetic.segments("train"))
    for name in ("val_predictions.pt", "test_predictions.pt"):
        np.testing.assert_array_equal(read_predictions(run / name).pairs, expected)
    predictions = read_predictions(run / "val_predictions.pt")
    own = {k: _accuracy(predictions, segments, k) for k in (1, 5)}
    last = metrics_of(run)[-1]
    assert {k: last[f"val_action_head_top{k}"] for k in own} == pytest.approx(own)
    row = evaluate([run])[0]
    assert {k: row.figures[f"action head@{k}"] for k in own} == pytest.approx(own)
    assert read_json(run / "config.json")["num_actions"] == len(expected)
    table = heads("evaluate", run).stdout
    assert "accuracy of the action classifier in %  action head@1  action head@5" in table
    again = heads("train", *OPTIONS, "--action-head", "--name", "it", *synthetic.options)
    assert again.stdout.startswith(f"{run}: was finished")
    assert f"actions     a classifier over the {len(expected)} pairs of verb and noun in training\n" in again.stderr


def test_the_actions_of_validation_can_be_told_apart_too(train, synthetic):
    run = train("--actions", "train+val")
    expected = pairs_of(synthetic.segments("train"), synthetic.segments("validation"))
    np.testing.assert_array_equal(read_predictions(run / "val_predictions.pt").pairs, expected)
    assert len(expected) > len(pairs_of(synthetic.segments("train")))


def test_verbs_and_nouns_are_scored_as_without_a_classifier(train):
    row = evaluate([train()])[0]
    plain = read_predictions(Path("runs/it-seed0/val_predictions.pt")).without_actions()
    torch.save(
        [
            {"narration_id": name, "verb_output": torch.tensor(verb), "noun_output": torch.tensor(noun)}
            for name, verb, noun in zip(plain.narration_id, plain.verb, plain.noun, strict=True)
        ],
        "plain.pt",
    )
    scored = evaluate(["plain.pt"], annotations=read_json("runs/it-seed0/config.json")["validation_csv"])[0]
    assert row.figures == {**scored.figures, **{name: row.figures[name] for name in ("action head@1", "action head@5")}}


def test_a_row_of_seeds_of_which_one_has_no_classifier_shows_what_both_have(train, heads, synthetic):
    with_classifier = train()
    assert heads("train", *OPTIONS, "--name", "it", "--seeds", 1, *synthetic.options).exit_code == 0
    row = evaluate([with_classifier, Path("runs/it-seed1")])[0]
    assert row.num_seeds == 2
    assert "action head@1" not in {*row.figures, *row.intervals}
    assert "action head@1" not in [difference.figure for difference in compare(with_classifier, "runs/it-seed1")]


def test_weight_and_loss_of_the_classifier_change_it_and_nothing_else_of_separate_heads(train):
    """`--separate`: the classifier shares nothing with verbs and nouns, so its loss cannot change them."""
    runs = [
        train("--separate", *options, name=name)
        for name, options in {
            "plain": (),
            "loss": ("--action-head-loss", "focal:gamma=2"),
            "weight": ("--action-head-weight", 0.1),
        }.items()
    ]
    plain, *others = (read_predictions(run / "val_predictions.pt") for run in runs)
    for other in others:
        np.testing.assert_array_equal(other.verb, plain.verb)
        np.testing.assert_array_equal(other.noun, plain.noun)
        assert not np.array_equal(other.action, plain.action)


def test_the_prior_is_subtracted_from_actions_too(train):
    models = [
        load_model(train("--adjust", tau, name=f"by{tau}") / "best_model.pth", device=torch.device("cpu"))[0]
        for tau in (0, 1)
    ]
    assert [bool(model.adjust_action.abs().sum() > 0) for model in models] == [False, True]


def test_folds_of_a_head_are_one_although_their_actions_differ(train, synthetic):
    runs = [train("--split-train-val", f"fold:{fold}/3", name=f"fold{fold}") for fold in range(3)]
    row = evaluate(runs)[0]
    assert row.num_folds == 3
    assert "action head@1" in row.figures


def test_an_ensemble_folds_the_scores_in_and_says_what_that_gains(train, heads, synthetic):
    members = [train(), train(seed=1)]
    assert heads("train", *OPTIONS, "--name", "plain", *synthetic.options).exit_code == 0
    result = heads("ensemble", *members, "runs/plain-seed0", "--fold-actions")
    assert result.exit_code == 0, result.output
    assert "fold-actions alone (power " in result.stdout
    assert "scores of actions: of the 2 members that have an action classifier" in result.stdout
    for name in ("val_predictions.pt", "test_predictions.pt"):
        assert read_predictions(Path("runs/ensemble", name)).action is not None
    assert 0 <= read_json("runs/ensemble/config.json")["correction"]["action_power"] <= 1


def test_without_scores_of_actions_there_is_nothing_to_fold(heads, synthetic):
    assert heads("train", *OPTIONS, "--name", "plain", *synthetic.options).exit_code == 0
    result = heads("ensemble", "runs/plain-seed0", "--fold-actions")
    assert result.exit_code == 1
    assert "no member that counts has scores of actions" in result.stderr


def test_a_submission_holds_what_the_servers_score(train, heads, synthetic):
    run = train()
    result = heads("submit", run, "--out", "out")
    assert result.exit_code == 0, result.output
    rows = torch.load("out/submission.pt", weights_only=True)
    assert {key for row in rows for key in row} == {"narration_id", "verb_output", "noun_output"}
    assert heads("submit", "--check", "out/epic_submission.zip").exit_code == 0


def test_predictions_with_all_views_have_scores_of_actions(heads, synthetic):
    write_synthetic_dense(synthetic)
    paths = ("--annotations", synthetic.annotations, "--features", synthetic.dense)
    assert heads("train", *OPTIONS, "--action-head", "--name", "it", *paths).exit_code == 0
    assert heads("predict", "runs/it-seed0", "--tta", "--split", "validation").exit_code == 0
    ours, plain = (read_predictions(Path("runs/it-seed0", f"val_{name}predictions.pt")) for name in ("tta_", ""))
    np.testing.assert_array_equal(ours.pairs, plain.pairs)
    assert not np.array_equal(ours.action, plain.action)


def test_pairs_of_a_validation_list_that_is_not_there_are_refused(heads, synthetic, tmp_path):
    train_csv = tmp_path / "alone" / "EPIC_100_train.csv"
    train_csv.parent.mkdir()
    train_csv.write_bytes(synthetic.csv("train").read_bytes())
    paths = ("--annotations", train_csv.parent, "--features", synthetic.featureset)
    result = heads("train", *OPTIONS, "--action-head", "--actions", "train+val", *paths)
    assert result.exit_code == 2
    assert "--actions: train+val: there is no validation list." in result.stderr


def test_a_run_from_before_there_were_classifiers_is_one_without(heads, synthetic):
    words = ("train", *OPTIONS, "--name", "it", *synthetic.options)
    assert heads(*words).exit_code == 0
    config = Path("runs/it-seed0/config.json")
    record = {name: value for name, value in read_json(config).items() if "action_head" not in name}
    del record["actions"]
    write_json(config, record)
    assert "was finished" in heads(*words).stdout
    assert "action_head False there, True now" in heads(*words, "--action-head").stderr
