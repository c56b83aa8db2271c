"""Ensembles as run folders: what they hold, what they are fitted to, what they say they gain, what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import drawn_predictions

from features.annotations import read_annotations
from features.errors import DataError, OptionError
from features.files import read_json, write_json
from features.predictions import read_predictions, write_predictions
from heads.ensembles.blend import blend, uniform
from heads.ensembles.posthoc import Correction
from heads.ensembles.run import write_ensemble
from heads.ensembles.settings import EnsembleConfig
from heads.runs import predictions_of
from heads.scoring.evaluation import score
from heads.scoring.metrics import figures


@pytest.fixture
def runs(tmp_path, synthetic) -> Path:
    """Three finished runs; the last one predicts validation alone."""
    for seed in range(3):
        folder = tmp_path / "runs" / f"bilstm-seed{seed}"
        write_json(folder / "config.json", {"head": "bilstm", "validation_csv": str(synthetic.csv("validation"))})
        write_predictions(folder / "val_predictions.pt", drawn_predictions(synthetic.segments("validation"), seed=seed))
        if seed < 2:
            write_predictions(folder / "test_predictions.pt", drawn_predictions(synthetic.segments("test"), seed=seed))
    return tmp_path / "runs"


def _members(runs: Path, *seeds: int) -> list[Path]:
    return [runs / f"bilstm-seed{seed}" for seed in seeds]


def test_every_split_that_all_members_predict_is_averaged(runs):
    assert write_ensemble(_members(runs, 0, 1), runs / "both", force=False).splits == ("validation", "test")


def test_a_split_that_a_member_does_not_predict_is_left_out(runs):
    assert write_ensemble(_members(runs, 0, 2), runs / "one", force=False).splits == ("validation",)


def test_the_folder_holds_the_average_of_each_split(runs):
    write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    members = [read_predictions(folder / "test_predictions.pt") for folder in _members(runs, 0, 1)]
    predictions = read_predictions(runs / "both" / "test_predictions.pt")
    expected = blend(members, uniform(2), "probabilities", source="")
    np.testing.assert_array_equal(predictions.noun, expected.aligned(predictions.narration_id).noun)


def test_the_folder_says_who_its_members_are(runs):
    write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    assert read_json(runs / "both" / "config.json")["members"] == [str(folder) for folder in _members(runs, 0, 1)]


def test_the_same_members_may_be_averaged_again(runs):
    write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    assert write_ensemble(_members(runs, 0, 1), runs / "both", force=False).folder == runs / "both"


def test_an_ensemble_of_other_members_is_kept(runs):
    write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    with pytest.raises(DataError, match="holds an ensemble of 2 other members; --force replaces it"):
        write_ensemble(_members(runs, 0, 1, 2), runs / "both", force=False)


@pytest.mark.parametrize("settings", [EnsembleConfig(kind="logits"), EnsembleConfig(weights=(2.0, 1.0))])
def test_an_ensemble_that_was_put_together_otherwise_is_kept(runs, settings):
    write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    with pytest.raises(DataError, match="of these members with other settings; --force replaces it"):
        write_ensemble(_members(runs, 0, 1), runs / "both", settings=settings, force=False)
    write_ensemble(_members(runs, 0, 1), runs / "both", settings=settings, force=True)
    write_ensemble(_members(runs, 0, 1), runs / "both", settings=settings, force=False)  # the same again


def test_force_replaces_an_ensemble_of_other_members(runs):
    write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    write_ensemble(_members(runs, 1, 2), runs / "both", force=True)
    assert read_json(runs / "both" / "config.json")["members"] == [str(folder) for folder in _members(runs, 1, 2)]


def test_no_prediction_of_the_replaced_members_is_left(runs):
    write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    write_ensemble(_members(runs, 1, 2), runs / "both", force=True)  # these predict validation alone
    assert not (runs / "both" / "test_predictions.pt").exists()


def test_a_run_is_never_replaced_by_an_ensemble(runs):
    with pytest.raises(DataError, match="bilstm-seed2: holds a run, not an ensemble"):
        write_ensemble(_members(runs, 0, 1), runs / "bilstm-seed2", force=True)


def test_members_that_share_no_predictions_are_an_error(runs):
    (runs / "bilstm-seed1" / "val_predictions.pt").unlink()
    with pytest.raises(DataError, match="no predictions that all 2 members have; are the runs finished"):
        write_ensemble(_members(runs, 1, 2), runs / "none", force=False)


def test_a_failed_ensemble_leaves_no_folder(runs, synthetic):
    subset = synthetic.segments("test").where(np.arange(10) < 9)
    write_predictions(runs / "bilstm-seed1" / "test_predictions.pt", drawn_predictions(subset))
    with pytest.raises(DataError, match="no prediction for 1 segments"):
        write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    assert not (runs / "both").exists()


def test_no_members_leave_no_folder(runs):
    with pytest.raises(OptionError, match="needs members"):
        write_ensemble([], runs / "none", force=False)
    assert not (runs / "none").exists()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_segment_that_one_member_lacks_is_named(runs, synthetic, seed):
    subset = synthetic.segments("validation").where(np.arange(12) < 10)
    write_predictions(runs / f"bilstm-seed{seed}" / "val_predictions.pt", drawn_predictions(subset))
    message = f"bilstm-seed{seed}/val_predictions.pt: no prediction for 2 segments: P04_01_4, P04_01_5"
    with pytest.raises(DataError, match=message):
        write_ensemble(_members(runs, 0, 1), runs / "both", force=False)


def test_members_may_list_their_segments_in_different_orders(runs):
    write_ensemble(_members(runs, 0, 1), runs / "one", force=False)
    path = runs / "bilstm-seed1" / "val_predictions.pt"
    predictions = read_predictions(path)
    write_predictions(path, predictions.aligned(predictions.narration_id[::-1]))
    write_ensemble(_members(runs, 0, 1), runs / "other", force=False)
    noun_logits = [read_predictions(runs / name / "val_predictions.pt").noun for name in ("one", "other")]
    np.testing.assert_array_equal(*noun_logits)


def test_a_member_given_twice_is_refused(runs):
    with pytest.raises(OptionError, match="bilstm-seed0: given twice; each member counts once"):
        write_ensemble([*_members(runs, 0, 1), runs / "." / "bilstm-seed0"], runs / "both", force=False)


@pytest.mark.parametrize("twin", ["its own file", "a copy", "a copied run"])
def test_the_same_predictions_have_no_double_weight(runs, twin):
    first, second = _members(runs, 0, 1)
    twins = {"its own file": first / "val_predictions.pt", "a copy": runs / "copy.pt", "a copied run": runs / "copied"}
    (runs / "copy.pt").write_bytes((first / "val_predictions.pt").read_bytes())
    shutil.copytree(first, runs / "copied")
    ensemble = write_ensemble([first, second, twins[twin]], runs / "made", force=False)
    assert (ensemble.members, ensemble.copies) == ((first, second), (twins[twin].name,))
    write_ensemble([first, second], runs / "both", force=False)
    both, made = (read_predictions(runs / name / "test_predictions.pt").noun for name in ("both", "made"))
    np.testing.assert_array_equal(made, both)


def test_a_weight_for_the_same_predictions_is_refused(runs):
    (runs / "copy.pt").write_bytes((runs / "bilstm-seed0" / "val_predictions.pt").read_bytes())
    settings = EnsembleConfig(weights=(1.0, 1.0, 2.0))
    message = r"--weights: 3 numbers for 2 members \(copy.pt: the same predictions as another member\)"
    with pytest.raises(OptionError, match=message):
        write_ensemble([*_members(runs, 0, 1), runs / "copy.pt"], runs / "made", settings=settings, force=False)


def test_members_of_one_name_are_told_apart(runs, tmp_path, annotations):
    shutil.copytree(runs / "bilstm-seed1", tmp_path / "others" / "bilstm-seed0")
    members = [runs / "bilstm-seed0", tmp_path / "others" / "bilstm-seed0"]
    ensemble = write_ensemble(members, runs / "made", annotations=annotations, force=False)
    assert ensemble.names == ("runs/bilstm-seed0", "others/bilstm-seed0")
    assert [row.name for row in ensemble.scores] == [*ensemble.names, "made"]


def test_a_predictions_file_may_be_a_member(runs):
    file = runs / "bilstm-seed1" / "val_predictions.pt"
    write_ensemble([runs / "bilstm-seed0", file], runs / "mixed", force=False)
    write_ensemble(_members(runs, 0, 1), runs / "both", force=False)
    noun_logits = [read_predictions(runs / name / "val_predictions.pt").noun for name in ("mixed", "both")]
    np.testing.assert_array_equal(*noun_logits)


# ---- weights and corrections


@pytest.fixture
def annotations(synthetic):
    return read_annotations(synthetic.annotations)


@pytest.fixture
def runs_with_expert(runs, synthetic) -> Path:
    """The three runs, of which seed 1 knows validation and the others guess."""
    segments = synthetic.segments("validation")
    for seed in range(3):
        predictions = drawn_predictions(segments, seed=seed, scale=1)
        rows = np.arange(len(segments))
        for task in ("verb", "noun"):
            getattr(predictions, task)[rows, getattr(segments, f"{task}_class")] += 5 * (seed == 1)
        write_predictions(runs / f"bilstm-seed{seed}" / "val_predictions.pt", predictions)
    return runs


def _ensemble_of_three(runs: Path, annotations, **settings: object):
    return write_ensemble(
        _members(runs, 0, 1, 2), runs / "made", settings=EnsembleConfig(**settings), annotations=annotations, force=True
    )


def test_given_weights_are_used_as_shares(runs, annotations):
    ensemble = _ensemble_of_three(runs, annotations, weights=(2.0, 1.0, 1.0))
    assert ensemble.weights["noun"].tolist() == [0.5, 0.25, 0.25]
    members = [predictions_of(folder, "validation") for folder in ensemble.members]
    expected = blend(members, ensemble.weights, "probabilities", source="")
    np.testing.assert_array_equal(predictions_of(ensemble.folder, "validation").verb, expected.verb)


@pytest.mark.parametrize("weights", ["fitted", "greedy"])
def test_fitted_weights_find_the_member_that_knows(runs_with_expert, annotations, weights):
    ensemble = _ensemble_of_three(runs_with_expert, annotations, weights=weights)
    assert ensemble.is_fitted
    assert ensemble.weights["verb"][1] > 0.8
    assert read_json(ensemble.folder / "config.json")["weights"]["verb"][1] == pytest.approx(
        ensemble.weights["verb"][1]
    )


def test_other_splits_are_put_together_by_what_all_of_validation_says(runs_with_expert, annotations):
    members = _members(runs_with_expert, 0, 1)
    ensemble = write_ensemble(
        members,
        runs_with_expert / "made",
        settings=EnsembleConfig(weights="fitted"),
        annotations=annotations,
        force=False,
    )
    test_predictions = [predictions_of(folder, "test") for folder in members]
    expected = blend(test_predictions, ensemble.weights, "probabilities", source="")
    np.testing.assert_array_equal(predictions_of(ensemble.folder, "test").noun, expected.noun)


def test_validation_is_predicted_by_what_was_fitted_to_other_videos(runs_with_expert, annotations):
    ensemble = _ensemble_of_three(runs_with_expert, annotations, weights="fitted", per_task=True)
    members = [predictions_of(folder, "validation") for folder in ensemble.members]
    in_sample = blend(members, ensemble.weights, "probabilities", source="")
    assert not np.array_equal(predictions_of(ensemble.folder, "validation").verb, in_sample.verb)


def test_the_gain_is_that_over_the_members_scores(runs_with_expert, annotations):
    ensemble = _ensemble_of_three(runs_with_expert, annotations, weights="fitted")

    def action(source: Path) -> float:
        results = score(predictions_of(source, "validation"), annotations.validation, annotations)
        return float(figures(results)["action@1"][0])

    member_scores = [action(folder) for folder in ensemble.members]
    assert ensemble.gains["the mean of its members"][0] == pytest.approx(
        action(ensemble.folder) - np.mean(member_scores)
    )
    assert ensemble.gains["the best of them"][0] == pytest.approx(action(ensemble.folder) - max(member_scores))
    assert all(low <= points <= high for points, low, high in ensemble.gains.values())


def test_without_validation_there_are_no_gains_and_still_an_ensemble(runs):
    ensemble = write_ensemble(_members(runs, 0, 1), runs / "made", force=False)
    assert (ensemble.gains, ensemble.corrections, ensemble.splits) == ({}, {}, ("validation", "test"))


def test_without_being_asked_nothing_is_corrected(runs, annotations):
    ensemble = _ensemble_of_three(runs, annotations)
    assert (ensemble.correction, ensemble.corrections, ensemble.is_fitted) == (Correction(), {}, False)


@pytest.mark.parametrize(
    "corrections",
    [("temperature",), ("adjust",), ("pairs",), ("sequence",), ("temperature", "adjust", "pairs", "sequence")],
)
def test_each_correction_has_a_gain_of_its_own(runs_with_expert, annotations, corrections):
    ensemble = _ensemble_of_three(runs_with_expert, annotations, **dict.fromkeys(corrections, True))
    assert list(ensemble.corrections) == list(corrections)
    for name in corrections:
        single_correction = _ensemble_of_three(runs_with_expert, annotations, **{name: True})
        plain = write_ensemble(ensemble.members, runs_with_expert / "plain", annotations=annotations, force=True)
        results = [
            figures(score(predictions_of(variant.folder, "validation"), annotations.validation, annotations))
            for variant in (single_correction, plain)
        ]
        for figure, (points, low, high) in ensemble.corrections[name].items():
            assert points == pytest.approx(float(results[0][figure][0] - results[1][figure][0]))
            assert low <= points <= high


def test_a_temperature_mends_calibration_and_leaves_the_best_alone(runs_with_expert, annotations):
    path = runs_with_expert / "bilstm-seed0" / "val_predictions.pt"  # one that guesses, and is far too sure
    predictions = read_predictions(path)
    write_predictions(path, replace(predictions, verb=predictions.verb * 30, noun=predictions.noun * 30))
    ensemble = write_ensemble(
        _members(runs_with_expert, 0),
        runs_with_expert / "made",
        settings=EnsembleConfig(temperature=True),
        annotations=annotations,
        force=False,
    )
    assert min(ensemble.correction.temperature) > 5
    assert ensemble.corrections["temperature"]["action@1"] == (0.0, 0.0, 0.0)
    assert ensemble.corrections["temperature"]["action calibration"][2] < 0


def test_corrections_need_to_know_training(runs, synthetic, annotations):
    with pytest.raises(DataError, match="corrections need the training list"):
        _ensemble_of_three(runs, replace(annotations, train=None), pairs=True)


@pytest.mark.parametrize("settings", [{"weights": "fitted"}, {"weights": "greedy"}, {"temperature": True}])
def test_where_nothing_is_labelled_nothing_can_be_fitted(runs, settings):
    with pytest.raises(DataError, match="there is nothing to fit to"):
        _ensemble_of_three(runs, None, **settings)
    assert not (runs / "made").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "votes"}, "--mean: 'votes' is none of probabilities, logits"),
        ({"weights": "heavy"}, "--weights: 'heavy' is none of uniform, fitted, greedy"),
        ({"weights": (1.0, -1.0)}, "--weights: weights are not below 0"),
        ({"weights": (0.0, 0.0)}, "--weights: weights are not below 0"),
        ({"weights": (1.0, float("nan"))}, "--weights: weights are not below 0"),
        ({"weights": "greedy", "kind": "logits"}, "--weights: greedy chooses members"),
        ({"per_task": True}, "--per-task: is for --weights fitted or greedy"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(OptionError, match=message):
        EnsembleConfig(**settings)


def test_weights_have_to_be_as_many_as_members(runs, annotations):
    with pytest.raises(OptionError, match="--weights: 2 numbers for 3 members"):
        _ensemble_of_three(runs, annotations, weights=(1.0, 2.0))


def test_predictions_of_another_split_are_refused(runs, synthetic, annotations):
    write_predictions(runs / "test.pt", drawn_predictions(synthetic.segments("test")))
    with pytest.raises(DataError, match=r"10 segments are not in EPIC_100_validation.csv: P02_102_0"):
        write_ensemble([runs / "test.pt"], runs / "made", annotations=annotations, force=False)


# ---- what its record says


def test_the_record_says_what_all_members_were_made_of(runs):
    for seed, (sets, split) in enumerate([(["a"], "official"), (["b", "a"], "all"), (["c"], "official")]):
        path = runs / f"bilstm-seed{seed}" / "config.json"
        write_json(path, {**read_json(path), "features": sets, "split": split})
    write_ensemble(_members(runs, 0, 1, 2), runs / "made", force=False)
    config = read_json(runs / "made" / "config.json")
    assert (config["features"], config["split"]) == (["a", "b", "c"], "all")


def test_the_record_says_how_it_was_put_together(runs_with_expert, annotations):
    ensemble = _ensemble_of_three(runs_with_expert, annotations, weights="greedy", per_task=True, pairs=True)
    config = read_json(ensemble.folder / "config.json")
    assert (config["recipe"]["weights"], config["recipe"]["per_task"]) == ("greedy", True)
    assert config["correction"]["pair_power"] == ensemble.correction.pair_power


def test_tta_predictions_are_put_together_when_asked(runs):
    for seed in (0, 1):
        predictions = predictions_of(runs / f"bilstm-seed{seed}", "test")
        write_predictions(
            runs / f"bilstm-seed{seed}" / "test_tta_predictions.pt",
            replace(predictions, noun=predictions.noun[:, ::-1].copy()),
        )
    ensemble = write_ensemble(_members(runs, 0, 1), runs / "made", settings=EnsembleConfig(tta=True), force=False)
    write_ensemble(_members(runs, 0, 1), runs / "plain", force=False)
    assert ensemble.splits == ("test",)
    tta_nouns, plain_nouns = (predictions_of(runs / name, "test").noun for name in ("made", "plain"))
    np.testing.assert_allclose(tta_nouns, plain_nouns[:, ::-1], atol=1e-6)
