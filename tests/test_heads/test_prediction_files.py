"""Predictions files of others, wherever commands take predictions; and what is said about each."""

from __future__ import annotations

import json
import pickle
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from hostile import RUNNING
from synthetic import drawn_predictions, labelled_rows, write_csv

from features.annotations import Segments
from features.errors import OptionError
from features.files import read_json
from features.predictions import read_predictions, write_predictions
from heads.prediction_files import ScoreKinds, parse_scores
from heads.report.reproduce import ensemble_command
from heads.submission.files import as_log_probabilities


def _softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).double().softmax(dim=1).numpy()


def _write_dict(path: Path, names: list[str], verb: np.ndarray, noun: np.ndarray) -> Path:
    """Write a dict of the public code by pickle."""
    content = {"verb_output": verb, "noun_output": noun, "narration_id": np.array(names, dtype=object)}
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


def _probabilities(path: Path, segments: Segments, seed: int = 0) -> Path:
    """Write the probabilities of drawn predictions."""
    drawn = drawn_predictions(segments, seed=seed)
    return _write_dict(path, list(drawn.narration_id), _softmax(drawn.verb), _softmax(drawn.noun))


# ---- probabilities are ranked by their product


NUM_SEGMENTS = 400


@pytest.fixture(scope="module")
def seeded(tmp_path_factory) -> tuple[Path, Path, np.ndarray, np.ndarray, np.ndarray]:
    """A list of 400 segments, a file of their probabilities, the probabilities of verb and noun, and the labels."""
    folder = tmp_path_factory.mktemp("seeded")
    rng, index = np.random.default_rng(283), np.arange(NUM_SEGMENTS)
    labels = np.stack([rng.integers(97, size=NUM_SEGMENTS), rng.integers(300, size=NUM_SEGMENTS)], axis=1)
    verb, noun = rng.normal(size=(NUM_SEGMENTS, 97)), rng.normal(size=(NUM_SEGMENTS, 300))
    verb[index, labels[:, 0]] += 2.42
    noun[index, labels[:, 1]] += 2.42
    table = labelled_rows(("P01_02",), NUM_SEGMENTS, rng)
    table["verb_class"], table["noun_class"] = labels.T
    verb, noun = (_softmax(scores).astype(np.float32) for scores in (verb, noun))
    path = _write_dict(folder / "theirs.pkl", table.narration_id.tolist(), verb, noun)
    return write_csv(folder / "validation.csv", table), path, verb, noun, labels


def _action_top5(verb: np.ndarray, noun: np.ndarray, labels: np.ndarray, combine: np.ufunc) -> float:
    """The share of segments whose pair is among the five best of all 29,100, in percent."""
    num_right = 0
    for verb_scores, noun_scores, (verb_class, noun_class) in zip(verb, noun, labels, strict=True):
        pairs = combine.outer(verb_scores.astype(float), noun_scores.astype(float))
        num_right += (pairs > pairs[verb_class, noun_class]).sum() < 5
    return 100 * num_right / len(labels)


def test_actions_of_probabilities_are_ranked_by_their_product(heads, seeded):
    csv, path, verb, noun, labels = seeded
    expected = {(): 35.0, ("--scores", "logits"): 32.75, ("--scores", f"{path}=probabilities"): 35.0}
    assert _action_top5(verb, noun, labels, np.multiply) == 35.0
    assert _action_top5(verb, noun, labels, np.add) == 32.75  # as a softmax of probabilities ranks them, nearly
    for options, percent in expected.items():
        result = heads("evaluate", path, "--annotations", csv, "--json", *options)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)[0]["figures"]["action@5"] == pytest.approx(percent)


def test_a_command_says_what_it_took_a_file_for(heads, seeded):
    csv, path, *_ = seeded
    copy = shutil.copy(path, "mine.pkl")
    result = heads("evaluate", copy, "--annotations", csv)
    assert result.stderr == (
        f"{Path.cwd()}/mine.pkl: taken for the challenge's dict format with numpy arrays: probabilities of 400 "
        "segments, so their logarithm is used (--scores logits uses them as they are)\n"
    )


def test_a_note_is_said_once_and_not_about_runs(heads, synthetic):
    segments = synthetic.segments("validation")
    write_predictions(Path("runs/run/val_predictions.pt"), drawn_predictions(segments, seed=1))
    theirs = _probabilities(Path("theirs.pkl"), segments)
    result = heads("ensemble", "runs/run", theirs, "--temperature", "--annotations", synthetic.annotations)
    assert result.exit_code == 0, result.output
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        "taken for the challenge's dict format with numpy arrays"
    ]


# ---- where predictions are taken


def test_an_ensemble_averages_runs_with_files_of_every_kind(heads, synthetic):
    segments = synthetic.segments("validation")
    drawn = [drawn_predictions(segments, seed=seed) for seed in range(3)]
    write_predictions(Path("runs/run/val_predictions.pt"), drawn[0])
    rows = [
        {"narration_id": name.encode(), "verb_output": verb[None], "noun_output": noun.tolist()}
        for name, verb, noun in zip(drawn[1].narration_id, drawn[1].verb, drawn[1].noun, strict=True)
    ]
    torch.save(rows, "list.pt")
    # Ten times the probabilities, as a sum over crops; only a hand can say so.
    names, scores = list(drawn[2].narration_id), [10 * _softmax(drawn[2].verb), 10 * _softmax(drawn[2].noun)]
    _write_dict(Path("summed.pkl"), names, *scores)
    command = ("ensemble", "runs/run", "list.pt", "summed.pkl")
    result = heads(*command, "--scores", "summed.pkl=probabilities")
    assert result.exit_code == 0, result.output
    mean = read_predictions(Path("runs/ensemble/val_predictions.pt"))
    for task in ("verb", "noun"):
        expected = np.mean([_softmax(getattr(predictions, task)) for predictions in drawn], axis=0)
        np.testing.assert_allclose(np.exp(getattr(mean, task)), expected, rtol=1e-4, atol=1e-9)
    # The folder records what a hand decided: the same command is taken for the same, and can be repeated.
    assert heads(*command, "--scores", "summed.pkl=probabilities").exit_code == 0
    other = heads(*command)
    assert (other.exit_code, "with other settings; --force replaces it" in other.stderr) == (1, True)
    repeated = shlex.split(ensemble_command(Path("runs/ensemble")))
    assert repeated[repeated.index("--scores") + 1] == "summed.pkl=probabilities"
    assert heads(*repeated[1:]).exit_code == 0


def test_predictions_of_others_are_compared_and_reported(heads, synthetic):
    segments = synthetic.segments("validation")
    write_predictions(Path("ours.pt"), drawn_predictions(segments))
    _probabilities(Path("theirs.pkl"), segments)
    shared = ("--annotations", synthetic.annotations)
    result = heads("evaluate", "--compare", "ours.pt", "theirs.pkl", "--json", *shared)
    assert result.exit_code == 0, result.output
    differences = {row["figure"]: row["difference"] for row in json.loads(result.stdout)}
    assert {differences[f"{task}@{k}"] for task in ("verb", "noun", "action") for k in (1, 5)} == {0}
    result = heads("report", "--format", "md", "theirs.pkl", "--scores", "logits", *shared)
    assert (result.exit_code, "logits of 12 segments, as --scores says" in result.stderr) == (0, True), result.output


def test_every_file_for_the_servers_can_be_submitted_again(heads, synthetic):
    segments = synthetic.segments("test")
    shared = ("--annotations", synthetic.csv("test"))
    result = heads("submit", _probabilities(Path("theirs.pkl"), segments), "--out", "first", *shared)
    assert result.exit_code == 0, result.output
    written = read_predictions(Path("first/submission.pt"))
    expected = as_log_probabilities(drawn_predictions(segments))
    np.testing.assert_allclose(written.verb, expected.verb, atol=1e-5)
    for name in ("submission.pt", "ensemble_submission.zip", "epic_submission.zip"):
        result = heads("submit", f"first/{name}", "--out", f"again/{name}", *shared)
        assert result.exit_code == 0, result.output
        again = read_predictions(Path("again", name, "submission.pt"))
        for task in ("verb", "noun"):  # normalised a second time
            np.testing.assert_allclose(getattr(again, task), getattr(written, task), rtol=1e-6, atol=1e-6)


def test_a_check_says_that_scores_are_probabilities(heads, synthetic):
    drawn = drawn_predictions(synthetic.segments("test"))
    rows = [
        {"narration_id": name, "verb_output": torch.tensor(verb), "noun_output": torch.tensor(noun)}
        for name, verb, noun in zip(drawn.narration_id, _softmax(drawn.verb), _softmax(drawn.noun), strict=True)
    ]
    torch.save(rows, "submission.pt")
    write_predictions(Path("logits.pt"), drawn)
    said = {path: "probabilities" in heads("submit", "--check", path).stdout for path in ("submission.pt", "logits.pt")}
    assert said == {"submission.pt": True, "logits.pt": False}


def test_a_teacher_may_be_of_any_kind(heads, synthetic):
    segments = synthetic.segments("train")
    _probabilities(Path("theirs.pkl"), segments)
    write_predictions(Path("ours.pt"), drawn_predictions(segments))
    quick = ("--epochs", 1, "--device", "cpu", "--teacher-weight", 1, *synthetic.options)

    def losses(name: str, *options: object) -> tuple[Result, float]:
        result = heads("train", "--head", "mean_pool", "--name", name, *quick, *options)
        assert result.exit_code == 0, result.output
        return result, float(Path(f"runs/{name}-seed0/metrics.csv").read_text().split("\n")[1].split(",")[2])

    result, loss = losses("theirs", "--teacher", "theirs.pkl")
    assert "theirs.pkl: taken for the challenge's dict format with numpy arrays: probabilities of 24" in result.stderr
    assert read_json(Path("runs/theirs-seed0/config.json"))["teacher_scores"] == "probabilities"
    assert loss == pytest.approx(losses("ours", "--teacher", "ours.pt")[1], rel=1e-5)
    assert "teacher_scores" not in read_json(Path("runs/ours-seed0/config.json"))
    assert loss != pytest.approx(losses("wrong", "--teacher", "theirs.pkl", "--scores", "logits")[1], rel=1e-2)
    # A run of a version that took all files for logits does not continue.
    config = Path("runs/theirs-seed0/config.json")
    config.write_text(
        json.dumps({name: value for name, value in read_json(config).items() if name != "teacher_scores"})
    )
    result = heads("train", "--head", "mean_pool", "--name", "theirs", *quick, "--teacher", "theirs.pkl")
    assert (result.exit_code, "holds another run (teacher_scores None there" in result.stderr) == (1, True)


@pytest.mark.parametrize("command", ["evaluate", "ensemble", "submit", "train"])
def test_a_hostile_file_runs_nothing_in_any_command(command, heads, synthetic, tmp_path):
    Path("a.pkl").write_bytes(RUNNING["os.system"](tmp_path / "ran"))
    line = {
        "train": ("--head", "mean_pool", "--epochs", 1, "--teacher", "a.pkl", *synthetic.options),
        "submit": ("a.pkl", "--annotations", synthetic.csv("test")),
    }
    result = heads(command, *line.get(command, ("a.pkl", "--annotations", synthetic.annotations)))
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert [line.startswith("Error: ") for line in lines] == [False] * (len(lines) - 1) + [True]
    assert "a.pkl: holds an object 'os.system', and neither a list of {narration_id, " in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.pkl"]


# ---- --scores


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["log"], "'log' is neither [FILE=]logits nor [FILE=]probabilities."),
        (["a.pt=log"], "'a.pt=log' is neither"),
        (["b.pt=logits"], "b.pt is none of the predictions files that are given."),
        (["runs=logits"], "runs is none of the predictions files that are given."),
        (["logits", "probabilities"], "both kinds for all files."),
        (["a.pt=logits", "./a.pt=probabilities"], "both kinds for ./a.pt."),
    ],
)
def test_an_impossible_text_is_refused(texts, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    with pytest.raises(OptionError) as error:
        parse_scores(texts, [Path("a.pt"), Path("runs")])
    assert str(error.value).startswith(f"--scores: {message}")


def test_runs_have_no_kind_to_choose(tmp_path):
    with pytest.raises(OptionError, match="is about predictions files, and none is given; those of runs are logits"):
        parse_scores(["logits"], [tmp_path])


def test_a_file_has_its_own_kind_or_that_of_all(tmp_path):
    paths = [tmp_path / "a=b.pt", tmp_path / "c.pt"]
    kinds = parse_scores(["probabilities", f"{paths[0]}=logits"], paths)
    assert [kinds.of(path) for path in paths] == ["logits", "probabilities"]
    assert ScoreKinds().of(paths[0]) is None


@pytest.mark.parametrize("command", ["evaluate", "ensemble", "submit", "report"])
def test_a_wrong_kind_is_a_wrong_option(command, heads, synthetic):
    write_predictions(Path("a.pt"), drawn_predictions(synthetic.segments("validation")))
    assert heads(command, "a.pt", "--annotations", synthetic.csv("validation"), "--scores", "log").exit_code == 2


def test_a_kind_without_a_teacher_is_a_wrong_option(heads, synthetic):
    result = heads("train", "--head", "mean_pool", "--scores", "logits", *synthetic.options)
    assert (result.exit_code, "--scores: is about the file of a --teacher." in result.stderr) == (2, True)
