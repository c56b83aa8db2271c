"""Every idea is one option of `heads train`, works with the others, and says clearly what it cannot do."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import Result
from run_files import metrics_of, weights_of
from synthetic import Synthetic, drawn_predictions, write_features, write_synthetic_dense

from features.files import read_json
from features.predictions import Predictions, read_predictions, write_predictions

QUICK = ("--epochs", 2, "--device", "cpu", "--batch-size", 8)


@pytest.fixture(scope="module")
def dense_dataset(synthetic) -> Synthetic:
    write_synthetic_dense(synthetic)
    return synthetic


def _train(heads, dataset: Synthetic, *options: object, head: str = "mean_pool", sets: tuple[Path, ...] = ()):
    paths = [word for root in sets or (dataset.featureset,) for word in ("--features", root)]
    return heads("train", "--head", head, *QUICK, "--annotations", dataset.annotations, *paths, *options)


def _losses(folder: Path) -> list[float]:
    return [row["train_loss"] for row in metrics_of(folder)]


# ---- each option changes what is trained, and stands in the config

OPTIONS = [
    ("--loss", "focal:gamma=1"),
    ("--verb-loss", "cb"),
    ("--noun-loss", "ldam:defer=0.5"),
    ("--verb-weight", 0.5),
    ("--noun-weight", 2),
    ("--action-weight", 0.5),
    ("--mixup", 0),
    ("--cutmix", 1),
    ("--step-dropout", 0.5),
    ("--draw-steps", 1),
    ("--noise", 0.5),
    ("--project", 4),
    ("--max-steps", 2),
    ("--neighbours", 1),
    ("--clip-grad", 0.01),
    ("--lr-scale", "classifier=0"),
    ("--weight-decay", 0.5),
    ("--warmup-epochs", 1),
    ("--bias", "zero"),
    ("--precision", "bfloat16"),
]


@pytest.fixture(scope="module")
def plain_losses(synthetic, tmp_path_factory) -> list[float]:
    """The losses of a run without any option."""
    from click.testing import CliRunner

    from heads.cli import main

    runs = tmp_path_factory.mktemp("plain")
    paths = ("--annotations", synthetic.annotations, "--features", synthetic.featureset, "--runs", runs)
    result = CliRunner().invoke(main, list(map(str, ("train", "--head", "mean_pool", *QUICK, *paths))))
    assert result.exit_code == 0, result.output
    return _losses(runs / "mean_pool-seed0")


@pytest.mark.parametrize(("option", "value"), OPTIONS, ids=[option.removeprefix("--") for option, _ in OPTIONS])
def test_an_option_changes_the_training_and_is_recorded(option, value, heads, synthetic, plain_losses, tmp_path):
    result = _train(heads, synthetic, option, value)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "runs" / "mean_pool-seed0"
    assert _losses(folder) != plain_losses
    setting = read_json(folder / "config.json")[option.removeprefix("--").replace("-", "_")]
    assert setting == ([value] if isinstance(setting, list) else value)


@pytest.mark.parametrize(("option", "value"), [("--context", 1), ("--jitter", 0.3), ("--speed", 0.3)])
def test_an_option_for_dense_sets_changes_the_training(option, value, heads, dense_dataset, tmp_path):
    for name, options in (("without", ()), ("with", (option, value))):
        result = _train(heads, dense_dataset, *options, "--name", name, sets=(dense_dataset.dense,))
        assert result.exit_code == 0, result.output
    assert _losses(tmp_path / "runs" / "with-seed0") != _losses(tmp_path / "runs" / "without-seed0")


def test_all_options_work_together(heads, dense_dataset):
    options = [word for pair in OPTIONS if pair[0] not in ("--neighbours", "--lr-scale") for word in pair]
    more_options = ("--context", 1, "--jitter", 0.2, "--speed", 0.2, "--ema", 0.9, "--separate", "--adjust", 0.5)
    sets = (dense_dataset.dense, dense_dataset.featureset)
    fusion_options = ("--fusion", "late", "--stream-dropout", 0.3)
    result = _train(heads, dense_dataset, *options, *more_options, *fusion_options, head="transformer", sets=sets)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("pair", list(itertools.combinations(["mixup", "cutmix", "step-dropout", "noise"], 2)), ids=str)
def test_regularisations_combine(pair, heads, synthetic):
    result = _train(heads, synthetic, *[word for name in pair for word in (f"--{name}", 0.5)], head="attentive")
    assert result.exit_code == 0, result.output


def test_clip_still_works_with_a_note(heads, synthetic, tmp_path):
    arguments = ("train", "--head", "mean_pool", *QUICK, "--annotations", synthetic.annotations)
    result = heads(*arguments, "--features", synthetic.featureset, "--clip", 0.01)
    assert (result.exit_code, result.stderr.count("--clip is called --clip-grad now")) == (0, 1)
    assert read_json(tmp_path / "runs" / "mean_pool-seed0" / "config.json")["clip_grad"] == 0.01
    assert "--clip " not in heads("train", "--help").stdout


def test_a_run_that_gets_no_better_ends_early(heads, synthetic, tmp_path):
    result = _train(heads, synthetic, "--epochs", 50, "--patience", 2, "--lr", 1e-9)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "runs" / "mean_pool-seed0"
    assert len(_losses(folder)) == 3  # the first is the best, two are no better
    assert read_json(folder / "config.json")["select"] == "action"


def test_a_run_that_ended_early_is_finished(heads, synthetic):
    line = ("--epochs", 50, "--patience", 2, "--lr", 1e-9)
    _train(heads, synthetic, *line)
    assert "was finished" in _train(heads, synthetic, *line).stdout


def test_the_average_of_the_weights_is_what_is_kept(heads, synthetic, tmp_path):
    _train(heads, synthetic, "--ema", 0.5)
    folder = tmp_path / "runs" / "mean_pool-seed0"
    best = weights_of(folder / "best_model.pth")
    last = torch.load(folder / "last.pth", weights_only=True)
    averages = {name.removeprefix("module."): value for name, value in last["average"].items()}
    matches = [torch.equal(best[name], averages[name]) for name in best]
    assert all(matches) or read_json(folder / "config.json")["epochs"] == 2  # of the last epoch, or of an earlier one
    assert not all(torch.equal(best[name], last["model"][name]) for name in best)


def test_features_that_do_not_fit_are_read_in_chunks_with_the_same_result_on_each_run(heads, synthetic, tmp_path):
    for name in ("one", "again"):
        result = _train(heads, synthetic, "--memory", 1e-7, "--name", name)
        assert result.exit_code == 0, result.output
        assert "read a chunk of videos at a time" in result.stderr
    assert _losses(tmp_path / "runs" / "one-seed0") == _losses(tmp_path / "runs" / "again-seed0")


# ---- several feature sets


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_two_feature_sets_are_fused(fusion, heads, dense_dataset, tmp_path):
    result = _train(heads, dense_dataset, "--fusion", fusion, sets=(dense_dataset.featureset, dense_dataset.dense))
    assert result.exit_code == 0, result.output
    assert len(read_json(tmp_path / "runs" / "mean_pool-seed0" / "config.json")["features"]) == 2


def test_the_same_feature_set_twice_is_refused(heads, synthetic):
    result = _train(heads, synthetic, sets=(synthetic.featureset, synthetic.featureset))
    assert (result.exit_code, "given twice" in result.stderr) == (2, True)


# ---- what is trained on


def test_both_lists_train_a_final_model(heads, synthetic, tmp_path):
    result = _train(heads, synthetic, "--split-train-val", "all")
    assert result.exit_code == 0, result.output
    config = read_json(tmp_path / "runs" / "mean_pool-seed0" / "config.json")
    assert (config["train_segments"], config["validation_segments"]) == (36, 0)


def test_folds_hold_out_participants_and_are_scored_on_them(heads, synthetic, tmp_path):
    for fold in range(3):
        result = _train(heads, synthetic, "--split-train-val", f"fold:{fold}/3", "--name", f"fold{fold}")
        assert result.exit_code == 0, result.output
    predicted_ids = [read_predictions(path).narration_id for path in sorted(tmp_path.glob("runs/*/val_predictions.pt"))]
    participants = [{name.split("_")[0] for name in names} for names in predicted_ids]
    assert sum(map(len, predicted_ids)) == 24
    assert sum(map(len, participants)) == len(set.union(*participants)) == 3
    assert heads("evaluate").exit_code == 0


def test_no_epochs_score_the_run_that_is_there(heads, synthetic):
    first_output = _train(heads, synthetic).stdout
    result = _train(heads, synthetic, "--epochs", 0)
    assert result.exit_code == 0, result.output
    assert result.stdout == first_output.replace("done", "was finished")


def test_no_epochs_without_a_run_say_so(heads, synthetic):
    result = _train(heads, synthetic, "--epochs", 0)
    assert (result.exit_code, "no such file" in result.stderr) == (1, True)


def test_the_plan_says_what_training_never_shows(heads, synthetic):
    result = _train(heads, synthetic, "--train", synthetic.csv("validation"), "--validation", synthetic.csv("train"))
    assert result.exit_code == 0, result.output
    assert "of 97 verbs" in result.stderr
    assert "12 segments of EPIC_100_validation.csv; their features take " in result.stderr


# ---- what a run depends on


def test_a_run_does_not_go_on_with_segments_at_other_times(heads, dense_dataset, tmp_path):
    """Windows in dense sets follow them; sets by segment are refused where they were extracted at others."""
    lines = dense_dataset.csv("validation").read_text().splitlines()
    moment = lines[1].split(",")[lines[0].split(",").index("stop_timestamp")]
    csv = tmp_path / "validation.csv"
    csv.write_text("\n".join(lines))

    def train() -> Result:
        return _train(heads, dense_dataset, "--validation", csv, sets=(dense_dataset.dense,))

    assert train().exit_code == 0
    assert "was finished" in train().stdout
    csv.write_text("\n".join(lines).replace(moment, moment[:-1] + str((int(moment[-1]) + 1) % 10), 1))
    result = train()
    assert (result.exit_code, "mean_pool-seed0: holds another run (times_digest" in result.stderr) == (1, True)


# ---- a teacher


def test_a_student_learns_from_the_predictions_of_a_run(heads, synthetic, tmp_path):
    _train(heads, synthetic, "--name", "teacher")
    assert heads("predict", "runs/teacher-seed0", "--split", "train", "--device", "cpu").exit_code == 0
    result = _train(heads, synthetic, "--name", "student", "--teacher", "runs/teacher-seed0/train_predictions.pt")
    assert result.exit_code == 0, result.output
    assert _losses(tmp_path / "runs" / "student-seed0") != _losses(tmp_path / "runs" / "teacher-seed0")


def test_a_teacher_of_other_segments_is_refused_with_their_names(heads, synthetic):
    _train(heads, synthetic, "--name", "teacher")
    result = _train(heads, synthetic, "--name", "student", "--teacher", "runs/teacher-seed0/val_predictions.pt")
    assert result.exit_code == 1
    assert "val_predictions.pt: no prediction for 24 segments: P0" in result.stderr
    assert not Path("runs/student-seed0").exists()


def test_a_run_does_not_go_on_with_another_teacher_of_the_same_name(heads, synthetic, tmp_path):
    teacher, config = tmp_path / "teacher.pt", tmp_path / "runs" / "student-seed0" / "config.json"

    def train() -> Result:
        return _train(heads, synthetic, "--name", "student", "--teacher", "teacher.pt")

    write_predictions(teacher, drawn_predictions(synthetic.segments("train"), seed=0))
    assert train().exit_code == 0
    record = json.loads(config.read_text())
    assert record["teacher_sha256"] == hashlib.sha256(teacher.read_bytes()).hexdigest()
    assert "was finished" in train().stdout
    write_predictions(teacher, drawn_predictions(synthetic.segments("train"), seed=1))
    result = train()
    assert (result.exit_code, "student-seed0: holds another run (teacher_sha256" in result.stderr) == (1, True)
    # A run of a version that did not record it.
    config.write_text(json.dumps({name: value for name, value in record.items() if name != "teacher_sha256"}))
    assert "was finished" in train().stdout


def test_a_teacher_who_is_sure_of_the_labels_gives_their_gradient(heads, synthetic, tmp_path):
    segments = synthetic.segments("train")
    certain_logits = [np.full((len(segments), num), -50, dtype=np.float32) for num in (97, 300)]
    for logits, labels in zip(certain_logits, (segments.verb_class, segments.noun_class), strict=True):
        logits[np.arange(len(segments)), labels] = 50
    write_predictions(tmp_path / "sure.pt", Predictions(tuple(segments.narration_id), *certain_logits, "sure"))
    options = ("--teacher", "sure.pt", "--teacher-weight", 1, "--temperature", 1)
    assert _train(heads, synthetic, "--name", "taught", *options).exit_code == 0
    assert _train(heads, synthetic, "--name", "labelled").exit_code == 0
    taught_losses, labelled_losses = (_losses(tmp_path / "runs" / f"{name}-seed0") for name in ("taught", "labelled"))
    np.testing.assert_allclose(taught_losses, labelled_losses, rtol=1e-5)


# ---- predictions


def test_any_list_can_be_predicted(heads, synthetic, tmp_path):
    _train(heads, synthetic)
    result = heads(
        *("predict", "runs/mean_pool-seed0", "--annotations", synthetic.csv("test"), "--out", "mine.pt"),
        *("--device", "cpu"),
    )
    assert result.exit_code == 0, result.output
    predictions = read_predictions(tmp_path / "mine.pt")
    expected = read_predictions(tmp_path / "runs" / "mean_pool-seed0" / "test_predictions.pt")
    np.testing.assert_array_equal(predictions.verb, expected.verb)


def test_an_adjustment_afterwards_is_that_of_the_log_prior(heads, synthetic, tmp_path):
    for name, tau in (("plain", 0), ("adjusted", 0.7)):
        result = _train(heads, synthetic, "--name", name, "--adjust", tau, "--epochs", 1)
        assert result.exit_code == 0, result.output
    plain, adjusted = (
        read_predictions(tmp_path / "runs" / f"{name}-seed0" / "val_predictions.pt") for name in ("plain", "adjusted")
    )
    counts = np.bincount(synthetic.segments("train").verb_class, minlength=97).clip(min=1)
    prior = np.log(counts / counts.sum())
    np.testing.assert_allclose(plain.verb - adjusted.verb, np.tile(0.7 * prior, (12, 1)), atol=1e-5)


# ---- what cannot be


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--loss", "focl"), 2, "--loss: no loss 'focl'; did you mean 'focal'?"),
        (("--noun-loss", "focal:gama=1"), 2, "--noun-loss: no option of focal 'gama'; did you mean 'gamma'?"),
        (("--context", 5), 2, "--context: needs a dense feature set"),
        (("--view", "flop"), 2, "--view: no view 'flop'. Known: centre."),
        (("--fusion", "middle"), 2, "--fusion: 'middle' is neither early nor late."),
        (("--jitter", 2), 2, "--jitter: 2.0 is not at most 1."),
        (("--mixup", -1), 2, "--mixup: -1.0 is below 0."),
        (("--lr-scale", "nothing=2"), 2, "--lr-scale: no parameter's name has nothing in it"),
        (("--lr-scale", "classifier"), 2, "--lr-scale: 'classifier' is not NAME=FACTOR"),
        (("--memory", "nan"), 2, "--memory: nan is no number of gigabytes."),
        (("--memory", -1), 2, "--memory: -1.0 is no number of gigabytes."),
        (("--precision", "float8"), 2, "--precision: 'float8' is none of"),
        (("--split-train-val", "half"), 2, "--split-train-val: 'half' is none of official, all, fold:I/K"),
        (("--split-train-val", "fold:5/3"), 2, "--split-train-val: fold:5/3"),
        (("--teacher", "nowhere.pt"), 1, "nowhere.pt: no such file."),
        (("--verb-weight", 0, "--noun-weight", 0), 2, "are all 0"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_said_before_a_run_is_begun(options, code, message, heads, synthetic, tmp_path):
    result = _train(heads, synthetic, *options)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert not (tmp_path / "runs").exists()


def test_arithmetic_that_a_cpu_has_not_is_refused(command, synthetic, monkeypatch, tmp_path):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")  # what does it is as if the CPU had no more
    paths = ("--annotations", synthetic.annotations, "--features", synthetic.featureset, "--device", "cpu")
    result = command("heads", "train", "--head", "bilstm", *paths, "--precision", "bfloat16")
    assert (result.returncode, result.stdout) == (2, "")
    assert (
        "--precision: this CPU cannot run LSTMs in bfloat16, which bilstm needs; leave the option out." in result.stderr
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("option", ["--jitter", "--speed"])
def test_changes_of_time_need_a_dense_set(option, heads, synthetic):
    result = _train(heads, synthetic, option, 0.1)
    assert (result.exit_code, f"{option}: needs a dense feature set" in result.stderr) == (2, True)


def test_drawn_steps_need_a_set_by_segment(heads, dense_dataset):
    result = _train(heads, dense_dataset, "--draw-steps", 1, sets=(dense_dataset.dense,))
    assert (result.exit_code, "--draw-steps: needs a feature set by segment" in result.stderr) == (2, True)


def test_features_that_are_not_finite_name_their_segment(heads, synthetic, tmp_path):
    import shutil

    root = shutil.copytree(synthetic.featureset, tmp_path / "spoilt")
    with h5py.File(root / "P01_01.h5", "r+") as file:
        features = file["features"][:]
        features[0, 0, 3] = np.nan
        file["features"][:] = features
        name = file["segments/narration_id"].asstr()[0]
    result = _train(heads, synthetic, sets=(root,))
    assert result.exit_code == 1
    assert f"P01_01.h5: features of segment {name} are not finite" in result.stderr


@pytest.fixture
def augmented(synthetic, tmp_path) -> Path:
    """A set whose training segments have an augmented view, and whose other segments only the centre."""
    root = tmp_path / "augmented-seg5"
    rng = np.random.default_rng(0)
    for split, num_views in (("train", 2), ("validation", 1)):
        segments = synthetic.segments(split)
        steps = {name: rng.normal(size=(3, num_views, 12)) for name in segments.narration_id}
        write_features(root, segments, steps, views=("centre", "augment1"))
    return root


def test_all_views_are_trained_on_where_there_are_random_augmentations(heads, synthetic, augmented, tmp_path):
    result = _train(heads, synthetic, sets=(augmented,))
    assert result.exit_code == 0, result.output
    plan = " ".join(result.output.split())
    assert "views one of centre, augment1 at random in training; validation and test with centre" in plan
    config = json.loads((tmp_path / "runs/mean_pool-seed0/config.json").read_text())
    assert config["featureset_views"] == [["centre", "augment1"]]


def test_a_run_goes_on_only_with_the_views_that_it_began_with(heads, synthetic, augmented):
    assert "at random in training" not in _train(heads, synthetic, "--view", "centre", sets=(augmented,)).output
    record = json.loads((augmented / "featureset.json").read_text())
    assert _train(heads, synthetic, "--name", "all", sets=(augmented,)).exit_code == 0
    (augmented / "featureset.json").write_text(json.dumps({**record, "views": ["centre", "flip", "augment1"]}))
    result = _train(heads, synthetic, "--name", "all", sets=(augmented,))
    assert result.exit_code == 1
    assert "holds another run (featureset_views [['centre', 'augment1']] there" in result.stderr
