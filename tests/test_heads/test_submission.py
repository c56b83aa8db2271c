"""The files for the servers, read back; and why their scores are row-wise log-probabilities."""

from __future__ import annotations

import json
import os
import socket
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import drawn_predictions, labelled_rows, write_csv

from features.annotations import Segments, read_segments
from features.errors import DataError, OptionError
from features.predictions import Predictions, write_predictions
from heads.submission import SupervisionLevels, as_log_probabilities, write_submission

LEVELS = SupervisionLevels()


@pytest.fixture(scope="module")
def segments(synthetic) -> Segments:
    return synthetic.segments("test")


@pytest.fixture(scope="module")
def predictions(segments) -> Predictions:
    """Predictions for the list, in another order than the list's."""
    drawn = drawn_predictions(segments, scale=12)
    return drawn.aligned(drawn.narration_id[::-1])


@pytest.fixture(scope="module")
def submitted(predictions, segments, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("submission")
    write_submission(predictions, segments, out, levels=SupervisionLevels(1, 4, 5), force=False)
    return out


@pytest.fixture(scope="module")
def test_json(submitted) -> dict:
    with zipfile.ZipFile(submitted / "epic_submission.zip") as archive:
        return json.loads(archive.read("test.json"))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).double().log_softmax(dim=1).numpy()


# ---- epic_submission.zip


def test_the_archive_holds_one_flat_file(submitted):
    with zipfile.ZipFile(submitted / "epic_submission.zip") as archive:
        assert archive.namelist() == ["test.json"]


def test_the_archive_is_sound(submitted):
    with zipfile.ZipFile(submitted / "epic_submission.zip") as archive:
        assert archive.testzip() is None


def test_the_head_of_the_file_is_what_the_challenge_asks_for(test_json):
    head = {key: value for key, value in test_json.items() if key != "results"}
    assert head == {"version": "0.2", "challenge": "action_recognition", "sls_pt": 1, "sls_tl": 4, "sls_td": 5}


def test_segments_are_exactly_those_of_the_list(test_json, segments):
    assert list(test_json["results"]) == segments.narration_id.tolist()


def test_every_segment_has_verb_and_noun_and_nothing_else(test_json):
    assert {tuple(scores) for scores in test_json["results"].values()} == {("verb", "noun")}


@pytest.mark.parametrize(("task", "width"), [("verb", 97), ("noun", 300)])
def test_every_class_has_a_score(test_json, task, width):
    expected = tuple(str(index) for index in range(width))
    assert {tuple(scores[task]) for scores in test_json["results"].values()} == {expected}


@pytest.mark.parametrize("task", ["verb", "noun"])
def test_scores_are_row_wise_log_probabilities(test_json, predictions, task):
    expected = _log_softmax(getattr(predictions, task))
    found = [list(test_json["results"][name][task].values()) for name in predictions.narration_id]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_digits_suffice_for_float32(test_json, submitted):
    rows = torch.load(submitted / "submission.pt", weights_only=True)
    found = np.array([list(test_json["results"][row["narration_id"]]["noun"].values()) for row in rows])
    np.testing.assert_array_equal(found.astype(np.float32), torch.stack([row["noun_output"] for row in rows]))


def test_extreme_scores_are_json_numbers(segments, tmp_path):
    drawn = drawn_predictions(segments)
    drawn.verb[0, :2] = 1e4, -1e4
    write_submission(drawn, segments, tmp_path, levels=LEVELS, force=False)
    with zipfile.ZipFile(tmp_path / "epic_submission.zip") as archive:
        scores = json.loads(archive.read("test.json"))["results"][drawn.narration_id[0]]["verb"]
    assert (scores["0"], scores["1"]) == (0.0, -2e4)


# ---- submission.pt and ensemble_submission.zip


def test_the_list_loads_without_running_code(submitted, segments):
    rows = torch.load(submitted / "submission.pt", weights_only=True)
    assert [row["narration_id"] for row in rows] == segments.narration_id.tolist()


def test_rows_of_the_list_hold_a_vector_a_task(submitted):
    rows = torch.load(submitted / "submission.pt", weights_only=True)
    shapes = {(tuple(row), row["verb_output"].shape, row["noun_output"].shape) for row in rows}
    assert shapes == {(("narration_id", "verb_output", "noun_output"), (97,), (300,))}


def test_the_list_is_in_float32(submitted):
    rows = torch.load(submitted / "submission.pt", weights_only=True)
    assert {row[f"{task}_output"].dtype for row in rows for task in ("verb", "noun")} == {torch.float32}


def test_the_list_holds_row_wise_log_probabilities(submitted, predictions, segments):
    rows = torch.load(submitted / "submission.pt", weights_only=True)
    expected = _log_softmax(predictions.aligned(segments.narration_id).verb)
    np.testing.assert_allclose(torch.stack([row["verb_output"] for row in rows]), expected, rtol=1e-6, atol=1e-7)


def test_the_zipped_list_is_that_file_and_nothing_else(submitted):
    with zipfile.ZipFile(submitted / "ensemble_submission.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "submission.pt": (submitted / "submission.pt").read_bytes()
        }


def test_the_list_says_nothing_of_the_machine_and_process_that_wrote_it(submitted):
    with zipfile.ZipFile(submitted / "submission.pt") as archive:  # what torch saves is a zip
        assert not [name for name in archive.namelist() if f"{socket.gethostname()}.{os.getpid()}" in name]


def test_the_same_predictions_give_the_same_bytes(predictions, segments, submitted, tmp_path):
    paths = write_submission(predictions, segments, tmp_path, levels=SupervisionLevels(1, 4, 5), force=False)
    assert [path.name for path in paths if path.read_bytes() != (submitted / path.name).read_bytes()] == []


def test_another_process_writes_the_same_bytes(predictions, synthetic, submitted, command, tmp_path):
    write_predictions(tmp_path / "drawn.pt", predictions)
    levels = ("--sls-pt", 1, "--sls-tl", 4, "--sls-td", 5)
    ran = command("heads", "submit", "drawn.pt", "--annotations", synthetic.csv("test"), "--out", "out", *levels)
    assert ran.returncode == 0, ran.stderr
    names = ("submission.pt", "ensemble_submission.zip", "epic_submission.zip")
    assert [name for name in names if (tmp_path / "out" / name).read_bytes() != (submitted / name).read_bytes()] == []


# ---- what is refused


def test_missing_segments_are_counted_and_named(predictions, segments, tmp_path):
    some = predictions.aligned(sorted(predictions.narration_id)[2:])
    named = r"does not cover the 10 segments of EPIC_100_test_timestamps.csv exactly \(2 not predicted: P02_102_0, P02"
    with pytest.raises(DataError, match=named):
        write_submission(some, segments, tmp_path, levels=LEVELS, force=False)


def test_extra_segments_are_counted_and_named(predictions, segments, tmp_path):
    some = segments.where(segments.table.video_id == "P02_102")
    with pytest.raises(DataError, match=r"5 not in the list: P05_101_0, P05_101_1"):
        write_submission(predictions, some, tmp_path, levels=LEVELS, force=False)


def test_nothing_is_written_for_a_list_that_is_not_covered(predictions, segments, tmp_path):
    with pytest.raises(DataError, match="not predicted"):
        write_submission(
            predictions.aligned(predictions.narration_id[1:]), segments, tmp_path / "out", levels=LEVELS, force=False
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["submission.pt", "ensemble_submission.zip", "epic_submission.zip"])
def test_files_that_are_there_are_kept(predictions, segments, tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(DataError, match=rf"{name} there already; --force replaces"):
        write_submission(predictions, segments, tmp_path, levels=LEVELS, force=False)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "precious"}


def test_force_replaces_files_that_are_there(predictions, segments, submitted, tmp_path):
    (tmp_path / "epic_submission.zip").write_text("old")
    write_submission(predictions, segments, tmp_path, levels=SupervisionLevels(1, 4, 5), force=True)
    assert zipfile.is_zipfile(tmp_path / "epic_submission.zip")


@pytest.mark.parametrize(("levels", "option"), [((6, 3, 3), "--sls-pt: 6"), ((2, -1, 3), "--sls-tl: -1")])
def test_a_level_that_does_not_exist_is_refused(levels, option):
    with pytest.raises(OptionError, match=f"^{option} is not a level from 0 to 5"):
        SupervisionLevels(*levels)


def test_two_thousand_segments_are_written(tmp_path):
    rows = labelled_rows(("P02_102", "P05_101"), 2000, np.random.default_rng(0))
    many = read_segments(write_csv(tmp_path / "test.csv", rows, labels=False))
    write_submission(drawn_predictions(many), many, tmp_path, levels=LEVELS, force=False)
    with zipfile.ZipFile(tmp_path / "epic_submission.zip") as archive:
        assert len(json.loads(archive.read("test.json"))["results"]) == 2000


# ---- why log-probabilities


def _scored_by_the_public_code(verb: np.ndarray, noun: np.ndarray) -> np.ndarray:
    """Give every pair's probability (N, 97, 300) as the public scoring code has it: one softmax over all rows."""

    def softmax(x: np.ndarray) -> np.ndarray:
        weights = np.exp(x - x.max())
        return weights / weights.sum()

    verb, noun = softmax(verb.astype(np.float32)), softmax(noun.astype(np.float32))
    return verb[:, :, None] * noun[:, None, :]


def _best_pairs(scores: np.ndarray, num: int) -> list[list[int]]:
    """The best pairs of each row that has `num` pairs above all others; elsewhere nothing."""
    flat = scores.reshape(len(scores), -1)
    best = np.argsort(-flat, axis=1, kind="stable")[:, : num + 1]
    values = np.take_along_axis(flat, best, axis=1)
    return [row[:num].tolist() if (np.diff(gaps) < 0).all() else [] for row, gaps in zip(best, values, strict=True)]


@pytest.fixture(scope="module")
def with_an_outlier() -> Predictions:
    """Raw logits of which the first row's lie far above all others."""
    rng = np.random.default_rng(0)
    verb, noun = (rng.normal(0, 2, (8, width)).astype(np.float32) for width in (97, 300))
    verb[0] += 80
    noun[0] += 80
    return Predictions(tuple(f"P01_01_{index}" for index in range(8)), verb, noun, "with an outlier")


@pytest.fixture(scope="module")
def true_order(with_an_outlier) -> list[list[int]]:
    """The five best pairs of each row by the exact product of its probabilities."""
    verb, noun = _log_softmax(with_an_outlier.verb), _log_softmax(with_an_outlier.noun)
    return _best_pairs(verb[:, :, None] + noun[:, None, :], 5)


def test_the_public_code_loses_the_order_of_raw_logits(with_an_outlier, true_order):
    found = _best_pairs(_scored_by_the_public_code(with_an_outlier.verb, with_an_outlier.noun), 5)
    assert [row == exact for row, exact in zip(found, true_order, strict=True)] == [True] + [False] * 7


def test_the_public_code_keeps_the_order_of_log_probabilities(with_an_outlier, true_order):
    ours = as_log_probabilities(with_an_outlier)
    assert _best_pairs(_scored_by_the_public_code(ours.verb, ours.noun), 5) == true_order
