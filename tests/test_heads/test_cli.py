"""`heads ...` as a user types it: from a feature set to the files for the servers, and what is said of a mistake."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from synthetic import Synthetic, drawn_predictions

from features.files import read_json, write_json
from features.predictions import read_predictions, write_predictions
from heads.losses import catalogue as losses
from heads.models.catalogue import names

COMMANDS = ("train", "sweep", "predict", "list", "evaluate", "ensemble", "submit")
QUICK = ("--epochs", 2, "--device", "cpu")


@pytest.fixture
def environment(synthetic, heads, monkeypatch):
    """Where things are, said by environment variables alone."""
    monkeypatch.setenv("EPIC_ANNOTATIONS", str(synthetic.annotations))
    monkeypatch.setenv("EPIC_FEATURES", str(synthetic.features))
    monkeypatch.setenv("EPIC_RUNS", "here")


@pytest.fixture(scope="module")
def project(synthetic, tmp_path_factory) -> Path:
    """A folder in which everything lies where it is looked for: two runs, an ensemble, its submission."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(synthetic.annotations, folder / "data" / "annotations")
    shutil.copytree(synthetic.features, folder / "data" / "features")
    for line in (
        ("train", "--head", "bilstm", "--set", "hidden=8", "--seeds", "0-1", *QUICK),
        ("ensemble",),
        ("submit",),
    ):
        result = _run_heads(folder, *line)
        (folder / f"{line[0]}.txt").write_text(result.stdout)
        assert (result.returncode, "Traceback" in result.stderr) == (0, False), result.stderr
    return folder


def _run_heads(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("heads")
    return subprocess.run([program, *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False)


# ---- the whole path, with defaults


def test_each_seed_has_a_run_folder(project):
    runs = sorted(path.parent.name for path in (project / "runs").glob("*/val_predictions.pt"))
    assert runs == ["bilstm-seed0", "bilstm-seed1", "ensemble"]


def test_a_bare_ensemble_is_of_all_runs(project):
    config = read_json(project / "runs" / "ensemble" / "config.json")
    assert config["members"] == ["runs/bilstm-seed0", "runs/bilstm-seed1"]


def test_the_ensemble_says_what_it_gains(project):
    output = (project / "ensemble.txt").read_text()
    form = r"^action@1: [+-]\d+\.\d \(95 % interval: [+-]\d+\.\d to [+-]\d+\.\d\) points over (.*)$"
    assert re.findall(form, output, flags=re.MULTILINE) == ["the mean of its members", "the best of them"]


def test_the_ensemble_says_how_much_its_members_differ_and_who_they_are(project):
    output = (project / "ensemble.txt").read_text().splitlines()
    assert re.fullmatch(
        r"two members predict different classes for this share of the segments: verb .* %, noun .* %, action .* %",
        output[-2],
    )
    assert output[-1] == (
        "runs/ensemble: predictions for validation and test of 2 members: runs/bilstm-seed0, runs/bilstm-seed1"
    )


def test_the_ensemble_stands_below_its_members_in_the_table(project):
    output = (project / "ensemble.txt").read_text().splitlines()
    assert [line.split()[0] for line in output[1:4]] == ["bilstm-seed0", "bilstm-seed1", "ensemble"]


def test_a_bare_submission_is_of_the_ensemble(project, synthetic):
    predictions = read_predictions(project / "runs" / "ensemble" / "submission" / "submission.pt")
    assert predictions.narration_id == tuple(synthetic.segments("test").narration_id)


def test_a_submission_names_its_files_and_sizes(project):
    output = (project / "submit.txt").read_text().splitlines()
    assert output[0] == "runs/ensemble: 10 segments of EPIC_100_test_timestamps.csv"
    assert [line.split()[0].split("/")[-1] for line in output[1:]] == [
        "submission.pt",
        "ensemble_submission.zip",
        "epic_submission.zip",
    ]


def test_a_second_submission_is_kept_from_replacing_the_first(project, heads, monkeypatch):
    monkeypatch.chdir(project)
    result = heads("submit")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "there already; --force replaces" in result.stderr


# ---- where things are


@pytest.mark.usefixtures("environment")
def test_environment_variables_say_where_things_are(heads, tmp_path):
    for line in (("train", "--head", "mean_pool", *QUICK), ("ensemble",), ("submit",), ("evaluate",)):
        result = heads(*line)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "here" / "ensemble" / "submission" / "epic_submission.zip").is_file()


@pytest.mark.usefixtures("environment")
def test_an_option_counts_more_than_an_environment_variable(heads, tmp_path):
    heads("train", "--head", "mean_pool", *QUICK, "--runs", "there")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.usefixtures("environment")
def test_a_run_has_the_name_it_is_given(heads, tmp_path):
    heads("train", "--head", "mean_pool", *QUICK, "--name", "baseline", "--seeds", "3")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["baseline-seed3"]


@pytest.mark.usefixtures("environment")
def test_results_go_to_stdout_and_progress_to_stderr(heads):
    result = heads("train", "--head", "mean_pool", *QUICK)
    assert result.stdout.startswith("here/mean_pool-seed0: done, keeps epoch ")
    assert len(result.stdout.splitlines()) == 1
    lines = result.stderr.splitlines()
    header = next(index for index, line in enumerate(lines) if line.startswith("epoch "))
    assert re.fullmatch(r" +1( +\d+\.\d+){8}", lines[header + 1])
    assert len(lines[header]) == len(lines[header + 1]) == 79, "a terminal of 80 columns"


@pytest.mark.usefixtures("environment")
def test_a_run_that_was_finished_is_said_to_be(heads):
    heads("train", "--head", "mean_pool", *QUICK)
    assert heads("train", "--head", "mean_pool", *QUICK).stdout.startswith("here/mean_pool-seed0: was finished, keeps")


@pytest.mark.usefixtures("environment")
def test_a_folder_of_runs_stands_for_the_finished_runs_in_it(heads):
    heads("train", "--head", "mean_pool", *QUICK, "--seeds", "0-2", "--runs", "here/sweep")
    Path("here", "sweep", "unfinished-seed0").mkdir()
    result = heads("ensemble", "--greedy", "here/sweep")
    assert result.exit_code == 0, result.output
    members = [f"here/sweep/mean_pool-seed{seed}" for seed in range(3)]
    assert read_json(Path("here", "ensemble", "config.json"))["members"] == members
    assert [line.split()[0] for line in result.stdout.splitlines()[1:5]] == [
        *(Path(member).name for member in members),
        "ensemble",
    ]


@pytest.mark.usefixtures("environment")
def test_a_greedy_ensemble_says_whom_it_trusts_and_what_each_correction_does(heads):
    heads("train", "--head", "mean_pool", *QUICK, "--seeds", "0-1")
    output = heads("ensemble", "--greedy", "--per-task", "--temperature", "--adjust", "--pairs").stdout
    expected = ("weights of verbs: ", "weights of nouns: ", "Validation is cross-fitted: ")
    assert [text for text in expected if text not in output] == []
    corrections = re.findall(r"^(\w+) alone \(.* in the ensemble\): action@1 [+-]", output, flags=re.MULTILINE)
    assert corrections == ["temperature", "adjust", "pairs"]


@pytest.mark.usefixtures("environment")
def test_segments_that_a_run_does_not_predict_are_omitted_or_answered_when_asked(heads, synthetic):
    heads("train", "--head", "mean_pool", *QUICK)
    path = Path("here", "mean_pool-seed0", "test_predictions.pt")
    predictions = read_predictions(path)
    write_predictions(path, predictions.aligned(predictions.narration_id[1:]))
    assert "1 not predicted: P02_102_0" in heads("submit", "here/mean_pool-seed0").stderr
    for missing, num in (("omit", 9), ("prior", 10)):
        result = heads("submit", "here/mean_pool-seed0", "--missing", missing, "--out", missing)
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith(f"here/mean_pool-seed0: {num} segments of EPIC_100_test_timestamps.csv")
        assert "1 of 10 segments of EPIC_100_test_timestamps.csv have no prediction" in result.stderr
        assert Path(missing, "note.txt").read_text() == result.stderr
        assert len(read_predictions(Path(missing, "submission.pt"))) == num


def test_a_file_is_answered_by_the_training_list_beside_the_one_that_is_given(heads, synthetic, tmp_path):
    predictions = drawn_predictions(synthetic.segments("test"))
    write_predictions(tmp_path / "drawn.pt", predictions.aligned(predictions.narration_id[1:]))
    result = heads("submit", "drawn.pt", "--annotations", synthetic.csv("test"), "--missing", "prior")
    assert result.exit_code == 0, result.output
    assert "answered by the frequencies of EPIC_100_train.csv" in result.stderr


@pytest.mark.usefixtures("environment")
def test_a_number_that_is_expected_is_checked(heads):
    heads("train", "--head", "mean_pool", *QUICK)
    result = heads("submit", "here/mean_pool-seed0", "--expect", 9449)
    assert result.exit_code == DATA
    assert "10 segments, and 9449 are expected" in result.stderr
    assert heads("submit", "here/mean_pool-seed0", "--expect", 10).exit_code == 0


@pytest.mark.parametrize("name", ["submission.pt", "ensemble_submission.zip", "epic_submission.zip"])
def test_files_of_each_kind_can_be_checked(project, heads, synthetic, name):
    path = project / "runs" / "ensemble" / "submission" / name
    result = heads("submit", "--check", path, "--annotations", synthetic.csv("test"), "--expect", 10)
    assert (result.exit_code, result.stdout.endswith("sound.\n")) == (0, True), result.output
    assert heads("submit", "--check", path, "--annotations", synthetic.csv("validation")).exit_code == DATA


def _levels(folder: Path) -> list[int]:
    with zipfile.ZipFile(folder / "submission" / "epic_submission.zip") as archive:
        record = json.loads(archive.read("test.json"))
    return [record[name] for name in ("sls_pt", "sls_tl", "sls_td")]


@pytest.mark.parametrize(("supervision", "level"), [(None, 2), (0, 0), (3, 3), (5, 5)])
def test_the_level_of_pretraining_is_that_of_the_feature_set(heads, synthetic, tmp_path, supervision, level):
    shutil.copytree(synthetic.featureset, tmp_path / "set")
    record = read_json(tmp_path / "set" / "featureset.json")
    write_json(tmp_path / "set" / "featureset.json", {**record, "supervision": supervision})
    heads(*_train(*QUICK, "--annotations", synthetic.annotations, "--features", "set"))
    result = heads("submit", "runs/mean_pool-seed0")
    assert result.exit_code == 0, result.output
    assert _levels(Path("runs", "mean_pool-seed0")) == [level, 3, 3]


@pytest.mark.usefixtures("environment")
def test_levels_say_that_validation_was_trained_on(heads):
    heads(*_train(*QUICK, "--split-train-val", "all"))
    heads(*_train(*QUICK, "--name", "other"))
    heads("submit", "here/mean_pool-seed0")
    heads("ensemble")
    heads("submit", "--sls-tl", 5)
    assert _levels(Path("here", "mean_pool-seed0")) == [2, 3, 4]
    assert _levels(Path("here", "ensemble")) == [2, 5, 4]


@pytest.mark.usefixtures("environment")
def test_all_lists_that_a_run_has_are_predicted_by_default(heads):
    heads(*_train(*QUICK, "--split-train-val", "all"))
    result = heads("predict", "here/mean_pool-seed0", "--device", "cpu")
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        f"here/mean_pool-seed0/{split}_predictions.pt" for split in ("train", "test")
    ]


@pytest.mark.usefixtures("environment")
def test_a_run_given_twice_to_an_ensemble_is_refused(heads):
    heads("train", "--head", "mean_pool", *QUICK)
    result = heads("ensemble", "here/mean_pool-seed0", "here/mean_pool-seed0")
    assert result.exit_code == USAGE
    assert "here/mean_pool-seed0: given twice" in result.stderr


@pytest.mark.usefixtures("environment")
def test_a_run_may_be_submitted_for_validation(heads, synthetic, tmp_path):
    heads("train", "--head", "mean_pool", *QUICK)
    csv = synthetic.csv("validation")
    result = heads("submit", "here/mean_pool-seed0", "--annotations", csv, "--out", "out")
    assert result.exit_code == 0, result.output
    assert read_predictions(tmp_path / "out" / "submission.pt").narration_id == tuple(
        synthetic.segments("validation").narration_id
    )


def test_a_predictions_file_is_submitted_beside_itself(heads, synthetic, tmp_path):
    write_predictions(tmp_path / "mine" / "drawn.pt", drawn_predictions(synthetic.segments("test")))
    heads("submit", "mine/drawn.pt", "--annotations", synthetic.csv("test"))
    assert (tmp_path / "mine" / "submission" / "epic_submission.zip").is_file()


# ---- segments without features


@pytest.fixture
def incomplete_dataset(synthetic, tmp_path) -> Synthetic:
    """The dataset without the features of one training video."""
    shutil.copytree(synthetic.features, tmp_path / "features")
    (tmp_path / "features" / synthetic.featureset.name / "P03_01.h5").unlink()
    return Synthetic(synthetic.annotations, tmp_path / "features")


def test_segments_without_features_stop_the_training(heads, incomplete_dataset):
    result = heads("train", "--head", "mean_pool", *QUICK, *incomplete_dataset.options)
    assert result.exit_code == 1
    assert "no features for 8 of 24 segments of EPIC_100_train.csv (P03_01_0, " in result.stderr


def test_segments_without_features_are_left_out_when_allowed(heads, incomplete_dataset, tmp_path):
    result = heads("train", "--head", "mean_pool", *QUICK, *incomplete_dataset.options, "--allow-missing")
    assert result.exit_code == 0
    assert "training    16 segments of 24 (8 have no features and are left out) of EPIC_100_train.csv" in result.stderr
    assert read_json(tmp_path / "runs" / "mean_pool-seed0" / "config.json")["train_missing"] == 8


# ---- mistakes: one clear message and the right exit code

USAGE, DATA = 2, 1


def _train(*arguments: object) -> tuple[object, ...]:
    return ("train", "--head", "mean_pool", *arguments)


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (("train",), USAGE, "Missing option '--head'"),
        (("train", "--head", "bilstn"), USAGE, "--head: no head 'bilstn'; did you mean 'bilstm'? Known: "),
        (_train("--seeds", "0-"), USAGE, "--seeds: '0-' is not a list of seeds such as 0-4 or 0,2,5."),
        (_train("--seeds", "1,1"), USAGE, "--seeds: '1,1' names no seed, or one twice."),
        (_train("--set", "dropout"), USAGE, "--set: 'dropout' is not KEY=VALUE, such as hidden=256."),
        (_train("--set", "hidden=8"), USAGE, "--set: no option of mean_pool 'hidden'. Known: dropout."),
        (_train("--set", "dropout=1.5"), USAGE, "--set: dropout is 1.5, not in [0, 1)."),
        (_train("--epochs", -1), USAGE, "--epochs: -1 is below 0."),
        (_train("--epochs", "many"), USAGE, "Invalid value for '--epochs'"),
        (_train("--lr", -1), USAGE, "--lr: -1.0 is below 1e-30."),
        (_train("--device", "abacus"), USAGE, "--device: no abacus on this machine; available: "),
        (_train("--features", "nowhere"), DATA, "nowhere: no feature set in it; extract one first"),
        (_train("--annotations", "nowhere"), DATA, "no training annotations: give --annotations"),
        (_train("--train", "nowhere.csv"), DATA, "nowhere.csv: no such file."),
        (("ensemble",), DATA, "here: no finished runs in it; train some first (heads train --head ...)."),
        (("ensemble", "nowhere"), DATA, "nowhere: no such run or file."),
        (("ensemble", "."), DATA, ".: no finished runs in it; train some first (heads train --head ...)."),
        (("ensemble", "--weights", "1,x"), USAGE, "--weights: '1,x' is none of uniform, fitted, greedy, nor numbers."),
        (("ensemble", "--greedy", "--weights", "2,1"), USAGE, "--greedy and --weights exclude each other."),
        (("ensemble", "--per-task"), USAGE, "--per-task: is for --weights fitted or greedy."),
        (("evaluate", "nowhere"), DATA, "nowhere: no such run or file."),
        (("evaluate", "--compare", "nowhere", "there"), DATA, "nowhere, there: no such run or file."),
        (("submit", "nowhere"), DATA, "nowhere: no such run or file."),
        (("submit", "--check", "nowhere.zip"), DATA, "nowhere.zip: no such file."),
        (("submit", "--missing", "guess"), USAGE, "Invalid value for '--missing': 'guess' is not one of"),
        (("predict", "nowhere", "--tta"), DATA, "nowhere"),
        (("evaluate",), DATA, "here: no finished runs in it; train some first (heads train --head ...)."),
        (("submit",), DATA, "here: no ensemble in it; make one (heads ensemble), or name a run."),
        (("submit", "--sls-pt", 7), USAGE, "Invalid value for '--sls-pt': 7 is not in the range 0<=x<=5."),
        (("submt",), USAGE, "No such command 'submt'"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("environment")
def test_a_mistake_is_said_in_one_line_with_its_exit_code(heads, line, code, message):
    result = heads(*line)
    assert (result.exit_code, result.stdout) == (code, "")
    errors = [text for text in result.stderr.splitlines() if text.startswith("Error: ")]
    assert len(errors) == 1
    assert message in errors[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.usefixtures("environment")
def test_a_device_that_is_not_there_is_a_wrong_option(heads):
    result = heads(*_train("--device", "cuda"))
    assert result.exit_code == USAGE
    assert "--device: no cuda on this machine; available: " in result.stderr


@pytest.mark.usefixtures("environment")
def test_a_mistake_leaves_no_folder(heads, tmp_path):
    for line in (_train("--epochs", -1), _train("--features", "nowhere"), ("ensemble",), ("submit",)):
        heads(*line)
    assert list(tmp_path.iterdir()) == []


def test_of_two_feature_sets_one_must_be_named(heads, synthetic, tmp_path):
    for name in ("one", "other"):
        shutil.copytree(synthetic.featureset, tmp_path / "sets" / name)
    result = heads(*_train("--annotations", synthetic.annotations, "--features", "sets"))
    assert result.exit_code == USAGE
    assert "--features: sets holds several feature sets (one, other); name those to train on." in result.stderr


@pytest.mark.usefixtures("environment")
def test_a_run_with_other_settings_is_kept(heads):
    heads(*_train(*QUICK))
    result = heads(*_train(*QUICK, "--lr", 0.1))
    assert result.exit_code == DATA
    assert "holds another run (lr 0.003 there, 0.1 now); give this one a --name" in result.stderr


@pytest.mark.usefixtures("environment")
def test_an_absurd_learning_rate_ends_in_one_line(heads):
    result = heads(*_train("--device", "cpu", "--lr", 1e30, "--warmup-epochs", 0, "--batch-size", 4))
    assert result.exit_code == DATA
    assert "try a lower --lr" in result.stderr


def test_a_mistake_in_a_process_of_its_own_shows_no_traceback(command):
    result = command("heads", "evaluate")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "Error: runs: no finished runs in it; train some first (heads train --head ...).\n"


# ---- help


@pytest.mark.parametrize("line", [("--help",), *[(name, "--help") for name in COMMANDS]], ids=" ".join)
def test_help_needs_no_torch(line):
    program = Path(sys.executable).with_name("heads")
    result = subprocess.run(
        [sys.executable, "-X", "importtime", program, *line], capture_output=True, text=True, check=True
    )
    modules = {text.rsplit("|", 1)[-1].strip().split(".")[0] for text in result.stderr.splitlines()}
    assert "click" in modules
    assert modules & {"torch", "pandas", "numpy", "h5py", "av", "torchvision"} == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(heads, name):
    assert re.search(rf"Examples?:\s+heads {name}", heads(name, "--help").stdout)


def test_the_list_names_every_head_and_loss_with_its_options(heads):
    listing = json.loads(heads("list", "--json").stdout)
    assert [entry["name"] for entry in listing["heads"]] == names()
    assert [entry["name"] for entry in listing["losses"]] == losses.names()
    assert {entry["name"]: entry["options"] for entry in listing["heads"]}["mean_pool"] == {"dropout": 0.0}
    output = heads("list").stdout
    assert [name for name in (*names(), *losses.names()) if name not in output] == []


@pytest.mark.usefixtures("environment")
def test_a_head_too_large_for_any_machine_ends_in_one_line(heads):
    result = heads("train", "--head", "bilstm", "--set", "hidden=999999999", "--device", "cpu")
    assert result.exit_code == DATA
    assert "Error: out of memory; make the batch, the head or the set of segments smaller" in result.stderr
    assert not Path("here", "bilstm-seed0").exists()  # so that a smaller one may have the name
