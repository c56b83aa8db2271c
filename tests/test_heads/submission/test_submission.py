"""The files for the servers, read back; and why their scores are row-wise log-probabilities."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shell import SUPPORT
from synthetic import drawn_predictions

from features.annotations import Segments
from features.errors import DataError, OptionError
from features.predictions import Predictions, read_predictions, write_predictions
from heads.submission.check import check_file
from heads.submission.files import SupervisionLevels, as_log_probabilities, challenge_json, write_submission

LEVELS = SupervisionLevels()


@pytest.fixture(scope="module")
def segments(synthetic) -> Segments:
    return synthetic.segments("test")


@pytest.fixture(scope="module")
def predictions(segments) -> Predictions:
    """Predictions for the list, in another order than the list's."""
    random_predictions = drawn_predictions(segments, scale=12)
    return random_predictions.aligned(random_predictions.narration_id[::-1])


@pytest.fixture(scope="module")
def submission_folder(predictions, segments, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("submission")
    write_submission(predictions, segments, out, levels=SupervisionLevels(1, 4, 5), force=False)
    return out


@pytest.fixture(scope="module")
def test_json(submission_folder) -> dict:
    with zipfile.ZipFile(submission_folder / "epic_submission.zip") as archive:
        return json.loads(archive.read("test.json"))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).double().log_softmax(dim=1).numpy()


# ---- epic_submission.zip


def test_the_archive_holds_one_flat_file(submission_folder):
    with zipfile.ZipFile(submission_folder / "epic_submission.zip") as archive:
        assert archive.namelist() == ["test.json"]


def test_the_archive_is_sound(submission_folder):
    with zipfile.ZipFile(submission_folder / "epic_submission.zip") as archive:
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
    scores = [list(test_json["results"][name][task].values()) for name in predictions.narration_id]
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-7)


def test_digits_suffice_for_float32(test_json, submission_folder):
    rows = torch.load(submission_folder / "submission.pt", weights_only=True)
    scores = np.array([list(test_json["results"][row["narration_id"]]["noun"].values()) for row in rows])
    np.testing.assert_array_equal(scores.astype(np.float32), torch.stack([row["noun_output"] for row in rows]))


def test_extreme_scores_are_json_numbers(segments, tmp_path):
    predictions = drawn_predictions(segments)
    predictions.verb[0, :2] = 1e4, -1e4
    write_submission(predictions, segments, tmp_path, levels=LEVELS, force=False)
    with zipfile.ZipFile(tmp_path / "epic_submission.zip") as archive:
        scores = json.loads(archive.read("test.json"))["results"][predictions.narration_id[0]]["verb"]
    assert (scores["0"], scores["1"]) == (0.0, -2e4)


# ---- submission.pt and ensemble_submission.zip


def test_the_list_loads_without_running_code(submission_folder, segments):
    rows = torch.load(submission_folder / "submission.pt", weights_only=True)
    assert [row["narration_id"] for row in rows] == segments.narration_id.tolist()


def test_rows_of_the_list_hold_a_vector_a_task(submission_folder):
    rows = torch.load(submission_folder / "submission.pt", weights_only=True)
    shapes = {(tuple(row), row["verb_output"].shape, row["noun_output"].shape) for row in rows}
    assert shapes == {(("narration_id", "verb_output", "noun_output"), (97,), (300,))}


def test_the_list_is_in_float32(submission_folder):
    rows = torch.load(submission_folder / "submission.pt", weights_only=True)
    assert {row[f"{task}_output"].dtype for row in rows for task in ("verb", "noun")} == {torch.float32}


def test_the_list_holds_row_wise_log_probabilities(submission_folder, predictions, segments):
    rows = torch.load(submission_folder / "submission.pt", weights_only=True)
    expected = _log_softmax(predictions.aligned(segments.narration_id).verb)
    np.testing.assert_allclose(torch.stack([row["verb_output"] for row in rows]), expected, rtol=1e-6, atol=1e-7)


def test_the_zipped_list_is_that_file_and_nothing_else(submission_folder):
    with zipfile.ZipFile(submission_folder / "ensemble_submission.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "submission.pt": (submission_folder / "submission.pt").read_bytes()
        }


def test_the_list_says_nothing_of_the_machine_and_process_that_wrote_it(submission_folder):
    with zipfile.ZipFile(submission_folder / "submission.pt") as archive:  # what torch saves is a zip
        assert not [name for name in archive.namelist() if f"{socket.gethostname()}.{os.getpid()}" in name]


def test_the_same_predictions_give_the_same_bytes(predictions, segments, submission_folder, tmp_path):
    paths = write_submission(predictions, segments, tmp_path, levels=SupervisionLevels(1, 4, 5), force=False).paths
    assert [path.name for path in paths if path.read_bytes() != (submission_folder / path.name).read_bytes()] == []


def test_another_process_writes_the_same_bytes(predictions, synthetic, submission_folder, command, tmp_path):
    write_predictions(tmp_path / "drawn.pt", predictions)
    levels = ("--sls-pt", 1, "--sls-tl", 4, "--sls-td", 5)
    result = command("heads", "submit", "drawn.pt", "--annotations", synthetic.csv("test"), "--out", "out", *levels)
    assert result.returncode == 0, result.stderr
    names = ("submission.pt", "ensemble_submission.zip", "epic_submission.zip")
    assert [
        name for name in names if (tmp_path / "out" / name).read_bytes() != (submission_folder / name).read_bytes()
    ] == []


# ---- what is refused


def test_missing_segments_are_counted_and_named(predictions, segments, tmp_path):
    subset = predictions.aligned(sorted(predictions.narration_id)[2:])
    message = (
        r"does not cover the 10 segments of EPIC_100_test_timestamps.csv exactly \(2 not predicted: P02_102_0, P02"
    )
    with pytest.raises(DataError, match=message):
        write_submission(subset, segments, tmp_path, levels=LEVELS, force=False)


def test_extra_segments_are_counted_and_named(predictions, segments, tmp_path):
    subset = segments.where(segments.table.video_id == "P02_102")
    with pytest.raises(DataError, match=r"5 not in the list: P05_101_0, P05_101_1"):
        write_submission(predictions, subset, tmp_path, levels=LEVELS, force=False)


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


def test_force_replaces_files_that_are_there(predictions, segments, submission_folder, tmp_path):
    (tmp_path / "epic_submission.zip").write_text("old")
    write_submission(predictions, segments, tmp_path, levels=SupervisionLevels(1, 4, 5), force=True)
    assert zipfile.is_zipfile(tmp_path / "epic_submission.zip")


@pytest.mark.parametrize(("levels", "option"), [((6, 3, 3), "--sls-pt: 6"), ((2, -1, 3), "--sls-tl: -1")])
def test_a_level_that_does_not_exist_is_refused(levels, option):
    with pytest.raises(OptionError, match=f"^{option} is not a level from 0 to 5"):
        SupervisionLevels(*levels)


@pytest.mark.parametrize("task", ["verb", "noun"])
@pytest.mark.parametrize("sameness", ["all segments", "all classes"])
def test_scores_that_are_the_same_throughout_are_refused(predictions, segments, tmp_path, task, sameness):
    scores = getattr(predictions, task)
    constant = np.tile(scores[:1], (10, 1)) if sameness == "all segments" else np.zeros_like(scores)
    with pytest.raises(DataError, match=f"{task} scores are the same throughout; nothing was predicted"):
        write_submission(replace(predictions, **{task: constant}), segments, tmp_path, levels=LEVELS, force=False)
    assert list(tmp_path.iterdir()) == []


def test_another_number_of_segments_than_expected_is_refused(predictions, segments, tmp_path):
    with pytest.raises(DataError, match="10 segments, and 9449 are expected"):
        write_submission(predictions, segments, tmp_path, levels=LEVELS, expect=9449, force=False)


def test_the_number_that_is_expected_is_accepted(predictions, segments, tmp_path):
    assert write_submission(predictions, segments, tmp_path, levels=LEVELS, expect=10, force=False).num_segments == 10


def test_one_segment_can_be_submitted(predictions, segments, tmp_path):
    first = segments.where(np.arange(10) < 1)
    write_submission(predictions.aligned(first.narration_id), first, tmp_path, levels=LEVELS, force=False)
    assert "for 1 segments" in check_file(tmp_path / "epic_submission.zip", first)


def test_the_whole_test_list_is_written_quickly_and_in_little_memory(tmp_path):
    """13,092 segments: 9,449 or any other number are fewer."""
    result = subprocess.run(
        [sys.executable, "-c", WHOLE_LIST, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        cwd=SUPPORT,
    )
    seconds, memory_growth = map(float, result.stdout.split())
    assert seconds < 10
    assert memory_growth < 1e9


WHOLE_LIST = """
import resource, sys, time
from pathlib import Path
sys.path.insert(0, str(Path.cwd()))
import numpy as np, pandas as pd
from features.annotations import Segments
from heads.submission.files import SupervisionLevels, write_submission
from synthetic import drawn_predictions

names = [f"P01_{index // 200:02}_{index}" for index in range(13_092)]
segments = Segments(pd.DataFrame({"narration_id": names}), "test.csv")
predictions = drawn_predictions(segments)
memory = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
start_s, start_bytes = time.process_time(), memory()
write_submission(predictions, segments, Path(sys.argv[1]), levels=SupervisionLevels(), force=False)
print(time.process_time() - start_s, memory() - start_bytes)
"""


# ---- segments without a prediction


@pytest.fixture
def partial_predictions(predictions) -> Predictions:
    """Predictions for all but two segments of the list."""
    return predictions.aligned(sorted(predictions.narration_id)[2:])


def test_missing_segments_may_be_left_out(partial_predictions, segments, tmp_path):
    submission = write_submission(partial_predictions, segments, tmp_path, levels=LEVELS, missing="omit", force=False)
    assert read_predictions(tmp_path / "submission.pt").narration_id == tuple(segments.narration_id[2:])
    assert submission.note == (
        "2 of 10 segments of EPIC_100_test_timestamps.csv have no prediction and are left out: P02_102_0, P02_102_1."
    )


def test_missing_segments_may_be_answered_as_training_is_distributed(
    partial_predictions, segments, synthetic, tmp_path
):
    train = synthetic.segments("train")
    submission = write_submission(
        partial_predictions, segments, tmp_path, levels=LEVELS, missing="prior", train=train, force=False
    )
    predictions = read_predictions(tmp_path / "submission.pt")
    assert predictions.narration_id == tuple(segments.narration_id)
    shares = np.exp(predictions.noun[0].astype(np.float64))
    counts = np.bincount(train.noun_class, minlength=300)
    is_shown = counts > 0
    np.testing.assert_allclose(shares[is_shown] / shares[is_shown].sum(), counts[is_shown] / counts.sum(), rtol=1e-5)
    assert shares.sum() == pytest.approx(1, rel=1e-5)
    assert "are answered by the frequencies of EPIC_100_train.csv: P02_102_0, P02_102_1" in submission.note


@pytest.mark.parametrize("missing", ["omit", "prior"])
def test_what_was_done_stands_in_a_note_beside_the_files(
    partial_predictions, predictions, segments, synthetic, tmp_path, missing
):
    options = {"levels": LEVELS, "train": synthetic.segments("train")}
    submission = write_submission(partial_predictions, segments, tmp_path, missing=missing, force=False, **options)
    assert (tmp_path / "note.txt").read_text() == submission.note + "\n"
    write_submission(predictions, segments, tmp_path, missing=missing, force=True, **options)
    assert not (tmp_path / "note.txt").exists()  # nothing is missing any more


@pytest.mark.parametrize("missing", ["omit", "prior"])
def test_segments_that_the_list_has_not_are_never_let_through(predictions, segments, synthetic, tmp_path, missing):
    subset = segments.where(np.arange(10) < 4)
    with pytest.raises(DataError, match="6 predictions are not in"):
        write_submission(
            predictions,
            subset,
            tmp_path,
            levels=LEVELS,
            missing=missing,
            train=synthetic.segments("train"),
            force=False,
        )


# ---- files that are there, checked


@pytest.mark.parametrize("name", ["submission.pt", "ensemble_submission.zip", "epic_submission.zip"])
def test_what_was_written_is_sound(submission_folder, segments, name):
    summary = check_file(submission_folder / name, segments, expect=10)
    assert summary.endswith("for 10 segments, those of EPIC_100_test_timestamps.csv: sound.")


def test_a_check_says_where_the_best_class_is_not_the_only_one(predictions, tmp_path):
    verb = predictions.verb.copy()
    verb[2, [4, 9]] = verb.max() + 1
    write_predictions(tmp_path / "tied.pt", replace(predictions, verb=verb))
    assert "In 1 segments several classes share the best score" in check_file(tmp_path / "tied.pt", None)


@given(seed=st.integers(0, 999), scale=st.sampled_from([0.1, 3.0, 1e4]))
@settings(deadline=None, max_examples=15)
def test_the_archive_is_read_back_as_the_scores_to_the_last_digit_of_float32(seed, scale):
    names = tuple(f"P01_01_{index}" for index in range(3))
    predictions = drawn_predictions(Segments(pd.DataFrame({"narration_id": names}), "by hand"), seed=seed, scale=scale)
    expected = as_log_probabilities(predictions)
    results = json.loads(b"".join(challenge_json(expected, LEVELS)))["results"]
    for task in ("verb", "noun"):
        scores = np.array([list(results[name][task].values()) for name in names])
        np.testing.assert_array_equal(scores.astype(np.float32), getattr(expected, task))


@pytest.mark.parametrize("name", ["submission.pt", "ensemble_submission.zip", "epic_submission.zip"])
def test_a_file_for_another_list_is_refused(submission_folder, segments, name):
    with pytest.raises(DataError, match="5 not in the list: P05_101_0"):
        check_file(submission_folder / name, segments.where(segments.table.video_id == "P02_102"))
    with pytest.raises(DataError, match="10 segments, and 9449 are expected"):
        check_file(submission_folder / name, None, expect=9449)


def _zip_of(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("names", [["submission.json"], ["test.json", "submission.pt"], ["in/test.json"], []])
def test_a_zip_with_other_names_is_refused(tmp_path, names):
    with pytest.raises(DataError, match=r"not just submission.pt or just test.json"):
        check_file(_zip_of(tmp_path / "bad.zip", **dict.fromkeys(names, b"{}")), None)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut off", b"not a zip"])
def test_what_is_no_archive_is_refused(tmp_path, damage):
    (tmp_path / "bad.zip").write_bytes(damage)
    with pytest.raises(DataError, match=r"bad\.zip"):
        check_file(tmp_path / "bad.zip", None)


def test_an_archive_that_was_cut_off_is_refused(submission_folder, tmp_path):
    content = (submission_folder / "epic_submission.zip").read_bytes()
    damaged_content = content[:2000] + bytes(100) + content[2100:]
    (tmp_path / "bad.zip").write_bytes(damaged_content)
    with pytest.raises(DataError, match=r"bad\.zip"):
        check_file(tmp_path / "bad.zip", None)


def test_a_list_that_would_run_code_is_refused(tmp_path):
    torch.save([{"narration_id": Path("P01_01_0")}], tmp_path / "submission.pt")
    with pytest.raises(DataError, match="cannot be loaded safely"):
        check_file(tmp_path / "submission.pt", None)
    content = (tmp_path / "submission.pt").read_bytes()
    with pytest.raises(DataError, match=r"bad\.zip/submission\.pt: cannot be loaded safely"):
        check_file(_zip_of(tmp_path / "bad.zip", **{"submission.pt": content}), None)


def _one_score_changed(record: dict, value: object) -> None:
    next(iter(record["results"].values()))["verb"]["5"] = value


DAMAGES = {
    "a number beyond all": (lambda r: _one_score_changed(r, 10**400), "verb scores are beyond what a number can be"),
    "another version": (lambda r: r.update(version="0.1"), "version is '0.1', not '0.2'"),
    "another challenge": (lambda r: r.update(challenge="anticipation"), "challenge is 'anticipation'"),
    "no level": (lambda r: r.pop("sls_pt"), r"levels of supervision are \[None, 4, 5\]"),
    "a level too high": (lambda r: r.update(sls_td=6), "not whole numbers from 0 to 5"),
    "a level in words": (lambda r: r.update(sls_tl="3"), "not whole numbers from 0 to 5"),
    "no results": (lambda r: r.update(results={}), "no results in it"),
    "no noun": (lambda r: next(iter(r["results"].values())).pop("noun"), "noun has not just the classes 0 to 299"),
    "a class missing": (lambda r: next(iter(r["results"].values()))["verb"].pop("96"), "verb has not just the classes"),
    "a class too many": (lambda r: next(iter(r["results"].values()))["noun"].update({"300": 0}), "noun has not just"),
    "a word for a score": (lambda r: _one_score_changed(r, "high"), "verb scores are not all numbers"),
    "NaN": (lambda r: _one_score_changed(r, float("nan")), "verb logits are not finite"),
    "beyond float32": (lambda r: _one_score_changed(r, 1e300), "verb logits are not finite"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_record_that_the_server_would_refuse_is_refused(test_json, tmp_path, name):
    change, message = DAMAGES[name]
    record = json.loads(json.dumps(test_json))
    change(record)
    path = _zip_of(tmp_path / "bad.zip", **{"test.json": json.dumps(record).encode()})
    with pytest.raises(DataError, match=message):
        check_file(path, None)


def test_a_segment_that_stands_twice_in_a_record_is_refused(test_json, tmp_path):
    text = json.dumps(test_json).replace("P02_102_1", "P02_102_0", 1)
    with pytest.raises(DataError, match="twice in it: P02_102_0"):
        check_file(_zip_of(tmp_path / "bad.zip", **{"test.json": text.encode()}), None)


# ---- why log-probabilities


def _public_scores(verb: np.ndarray, noun: np.ndarray) -> np.ndarray:
    """Return every pair's probability, (N, 97, 300), as the public scoring code does: one softmax over all rows."""

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
def predictions_with_outlier() -> Predictions:
    """Raw logits of which the first row's lie far above all others."""
    rng = np.random.default_rng(0)
    verb, noun = (rng.normal(0, 2, (8, width)).astype(np.float32) for width in (97, 300))
    verb[0] += 80
    noun[0] += 80
    return Predictions(tuple(f"P01_01_{index}" for index in range(8)), verb, noun, "with an outlier")


@pytest.fixture(scope="module")
def true_order(predictions_with_outlier) -> list[list[int]]:
    """The five best pairs of each row by the exact product of its probabilities."""
    verb, noun = _log_softmax(predictions_with_outlier.verb), _log_softmax(predictions_with_outlier.noun)
    return _best_pairs(verb[:, :, None] + noun[:, None, :], 5)


def test_the_public_code_loses_the_order_of_raw_logits(predictions_with_outlier, true_order):
    best_pairs = _best_pairs(_public_scores(predictions_with_outlier.verb, predictions_with_outlier.noun), 5)
    assert [row == exact for row, exact in zip(best_pairs, true_order, strict=True)] == [True] + [False] * 7


def test_the_public_code_keeps_the_order_of_log_probabilities(predictions_with_outlier, true_order):
    log_probabilities = as_log_probabilities(predictions_with_outlier)
    assert _best_pairs(_public_scores(log_probabilities.verb, log_probabilities.noun), 5) == true_order
