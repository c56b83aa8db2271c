"""Predictions files as other programs write them: the same values come back, and nothing in them runs."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forbidden import forbidden, refused_for
from hostile import MALFORMED, RUNNING, WRAPPINGS, as_pickle
from malicious import Malicious

from features.errors import DataError
from features.prediction_copies import are_same, fingerprint
from features.prediction_formats import are_probabilities, read_predictions_file
from features.predictions import Predictions, read_predictions, write_predictions

NAMES = ("P01_101_0", "P01_101_10", "P22_07_3")


def _drawn(seed: int = 0) -> dict[str, np.ndarray]:
    """Scores by key, float32, negative ones among them."""
    rng = np.random.default_rng(seed)
    return {f"{task}_output": rng.normal(0, 4, (3, num)).astype(np.float32) for task, num in SIZES.items()}


SIZES = {"verb": 97, "noun": 300}


# ---- the formats of the public code


def _list(scores: dict[str, Any], ids: Any) -> list[dict[str, Any]]:
    return [
        {"narration_id": name, **{key: value[row] for key, value in scores.items()}} for row, name in enumerate(ids)
    ]


def _dict(scores: dict[str, Any], ids: Any) -> dict[str, Any]:
    return {**scores, "narration_id": ids, "verb_gt": np.zeros(3)}


LAYOUTS = {"list": _list, "dict": _dict}
VALUES: dict[str, Callable[[np.ndarray], Any]] = {
    "tensors": lambda rows: [torch.tensor(row) for row in rows],
    "numpy arrays": list,
    "plain lists": lambda rows: rows.tolist(),
    "a leading axis of 1": lambda rows: [torch.tensor(row)[None] for row in rows],
    "arrays with a leading axis of 1": lambda rows: list(rows[:, None]),
    "one tensor": torch.tensor,
    "one array": lambda rows: rows,
    "one tensor with gradients": lambda rows: torch.tensor(rows, requires_grad=True),
    "one array of columns": np.asfortranarray,
    "numbers of numpy": lambda rows: [list(row) for row in rows],
}
IDS: dict[str, Callable[[tuple[str, ...]], Any]] = {
    "texts": list,
    "a tuple": tuple,
    "bytes": lambda names: [name.encode() for name in names],
    "an array": np.array,
    "an array of bytes": lambda names: np.array([name.encode() for name in names]),
    "an array of objects": lambda names: np.array(names, dtype=object),
    "batches of one": lambda names: [[name] for name in names],
    "arrays of one": lambda names: [np.array([name]) for name in names],
}


def _by_torch(value: object, path: Path, **options: object) -> Path:
    torch.save(value, path, **options)
    return path


def _by_pickle(protocol: int) -> Callable[[object, Path], Path]:
    def write(value: object, path: Path) -> Path:
        path.write_bytes(pickle.dumps(value, protocol=protocol))
        return path

    return write


WRITERS: dict[str, Callable[[object, Path], Path]] = {
    "torch.save": _by_torch,
    "torch.save of old": lambda value, path: _by_torch(value, path, _use_new_zipfile_serialization=False),
    "pickle, protocol 2": _by_pickle(2),
    "pickle, protocol 5": _by_pickle(5),
}


def _same(file_predictions: Predictions, scores: dict[str, np.ndarray]) -> bool:
    """Whether predictions are for the three segments and their scores are these, bit for bit."""
    return (
        file_predictions.narration_id == NAMES
        and all(type(name) is str for name in file_predictions.narration_id)
        and file_predictions.verb.tobytes() == scores["verb_output"].tobytes()
        and file_predictions.noun.tobytes() == scores["noun_output"].tobytes()
        and file_predictions.verb.dtype == file_predictions.noun.dtype == np.float32
    )


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_bit_of_each_format_is_read(layout: str, values: str, writer: str, tmp_path: Path) -> None:
    scores = _drawn()
    content = LAYOUTS[layout]({key: VALUES[values](rows) for key, rows in scores.items()}, list(NAMES))
    file = read_predictions_file(WRITERS[writer](content, tmp_path / "a.pkl"))
    assert _same(file.predictions, scores)
    assert file.kind == "logits"
    assert f"a.pkl: taken for the challenge's {layout} format with " in file.note
    assert file.note.endswith(": logits of 3 segments")


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_ids_in_every_form_are_texts(layout: str, ids: str, writer: str, tmp_path: Path) -> None:
    path = WRITERS[writer](LAYOUTS[layout](_drawn(), IDS[ids](NAMES)), tmp_path / "a.pkl")
    assert _same(read_predictions_file(path).predictions, _drawn())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_numbers_of_another_type_keep_their_value(dtype: torch.dtype, tmp_path: Path) -> None:
    rounded = {key: torch.tensor(rows).to(dtype) for key, rows in _drawn().items()}
    path = _by_torch(_dict(rounded, list(NAMES)), tmp_path / "a.pt")
    assert _same(read_predictions_file(path).predictions, {key: rows.float().numpy() for key, rows in rounded.items()})


def test_a_file_that_is_read_and_written_as_ours_is_the_same(tmp_path: Path) -> None:
    theirs = _by_pickle(2)(_dict(_drawn(), np.array(NAMES)), tmp_path / "theirs.pkl")
    write_predictions(tmp_path / "ours.pt", read_predictions_file(theirs).predictions)
    assert _same(read_predictions(tmp_path / "ours.pt"), _drawn())
    file = read_predictions_file(tmp_path / "ours.pt")
    assert _same(file.predictions, _drawn())
    assert file.note == f"{tmp_path}/ours.pt: taken for the challenge's list format with tensors: logits of 3 segments"


# ---- scores of actions


PAIRS = np.array([(3, 4), (0, 299)])


def _with_actions(layout: str, action: np.ndarray) -> Any:
    if layout == "dict":
        return {**_dict(_drawn(), list(NAMES)), "action_output": action, "action_pairs": PAIRS}
    rows = _list({**_drawn(), "action_output": action}, NAMES)
    return [{**rows[0], "action_pairs": PAIRS}, *rows[1:]]


@pytest.mark.parametrize("writer", ["torch.save", "pickle, protocol 2"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_scores_of_actions_are_read_with_their_pairs(layout: str, writer: str, tmp_path: Path) -> None:
    action = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
    path = WRITERS[writer](_with_actions(layout, action), tmp_path / "a.pkl")
    predictions = read_predictions_file(path).predictions
    assert _same(predictions, _drawn())
    np.testing.assert_array_equal(predictions.action, action)
    np.testing.assert_array_equal(predictions.pairs, PAIRS)
    write_predictions(tmp_path / "ours.pt", predictions)
    np.testing.assert_array_equal(read_predictions_file(tmp_path / "ours.pt").predictions.action, action)
    assert not are_same(tmp_path / "ours.pt", _by_torch(_list(_drawn(), NAMES), tmp_path / "without.pt"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_probabilities_of_actions_are_what_those_of_verbs_and_nouns_are(layout: str, tmp_path: Path) -> None:
    content = _with_actions(layout, np.array([(0.25, 0.75)] * 3))
    rows = content if isinstance(content, list) else [content]
    for row in rows:
        row |= {key: np.full_like(row[key], 1 / num) for key, num in (("verb_output", 97), ("noun_output", 300))}
    file = read_predictions_file(_by_pickle(2)(content, tmp_path / "a.pkl"))
    assert file.kind == "probabilities"
    np.testing.assert_allclose(np.exp(file.predictions.action), [(0.25, 0.75)] * 3, rtol=1e-6)


def test_scores_of_actions_without_pairs_are_not_ours(tmp_path: Path) -> None:
    path = _by_pickle(2)(_list({**_drawn(), "action_output": np.zeros((3, 9))}, NAMES), tmp_path / "a.pkl")
    assert read_predictions_file(path).predictions.action is None


# ---- test.json, and zip files


def _record(scores: dict[str, np.ndarray]) -> dict[str, Any]:
    rows = {
        name: {
            task: {str(index): float(score) for index, score in enumerate(scores[f"{task}_output"][row])}
            for task in SIZES
        }
        for row, name in enumerate(NAMES)
    }
    head = {"version": "0.2", "challenge": "action_recognition", "sls_pt": 2, "sls_tl": 3, "sls_td": 4}
    return {**head, "results": rows}


def _zip(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_test_json_is_read_alone_and_in_its_zip(tmp_path: Path) -> None:
    content = json.dumps(_record(_drawn())).encode()
    (tmp_path / "test.json").write_bytes(b" \n" + content)
    for path in (tmp_path / "test.json", _zip(tmp_path / "epic_submission.zip", **{"test.json": content})):
        file = read_predictions_file(path)
        assert _same(file.predictions, _drawn())
        assert file.note.startswith(f"{path}: taken for the challenge's test.json: logits of 3 segments")


@pytest.mark.parametrize("writer", WRITERS)
def test_a_list_in_a_zip_is_read(writer: str, tmp_path: Path) -> None:
    content = WRITERS[writer](_list(_drawn(), NAMES), tmp_path / "submission.pt").read_bytes()
    path = _zip(tmp_path / "ensemble_submission.zip", **{"submission.pt": content})
    assert _same(read_predictions_file(path).predictions, _drawn())
    assert not are_same(path, tmp_path / "submission.pt")  # by their bytes, which is all that is looked at


@pytest.mark.parametrize("members", [[], ["a", "b"]])
def test_a_zip_of_none_or_several_files_is_refused(members: list[str], tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", **dict.fromkeys(members, b""))
    with pytest.raises(DataError, match=r"a\.zip: holds (nothing|a, b), and not just one predictions file\.$"):
        read_predictions_file(path)


def test_a_zip_in_a_zip_is_refused(tmp_path: Path) -> None:
    inner = _zip(tmp_path / "inner.zip", **{"test.json": json.dumps(_record(_drawn())).encode()})
    path = _zip(tmp_path / "a.zip", **{"inner.zip": inner.read_bytes()})
    with pytest.raises(DataError, match=r"a\.zip/inner\.zip: holds test\.json, and not just one predictions file\.$"):
        read_predictions_file(path)


# ---- probabilities


def _probabilities(seed: int = 0) -> dict[str, np.ndarray]:
    rows = {key: torch.tensor(scores).double().softmax(dim=1).numpy() for key, scores in _drawn(seed).items()}
    rows["verb_output"][1] = np.eye(97)[5]  # sure of one class, and so with zeros
    return rows


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_logarithm_of_probabilities_is_taken_and_said(layout: str, dtype: type, tmp_path: Path) -> None:
    rows = {key: values.astype(dtype) for key, values in _probabilities().items()}
    file = read_predictions_file(_by_pickle(2)(LAYOUTS[layout](rows, NAMES), tmp_path / "a.pkl"))
    for task in SIZES:
        expected = [[np.log(max(float(p), 1e-12)) for p in row] for row in rows[f"{task}_output"]]
        np.testing.assert_array_equal(getattr(file.predictions, task), np.array(expected).astype(np.float32))
    assert file.kind == "probabilities"
    assert file.note.endswith(
        ": probabilities of 3 segments, so their logarithm is used (--scores logits uses them as they are)"
    )


def test_a_hand_decides_what_scores_are(tmp_path: Path) -> None:
    path = _by_torch(_dict(_probabilities(), list(NAMES)), tmp_path / "a.pt")
    as_they_are = read_predictions_file(path, kind="logits")
    np.testing.assert_array_equal(as_they_are.predictions.verb, _probabilities()["verb_output"].astype(np.float32))
    assert as_they_are.note.endswith(": logits of 3 segments, as --scores says")
    summed = {key: 30 * rows for key, rows in _probabilities().items()}  # over crops, as public code does
    path = _by_torch(_dict(summed, list(NAMES)), tmp_path / "summed.pt")
    file = read_predictions_file(path, kind="probabilities")
    np.testing.assert_allclose(file.predictions.noun, np.log(summed["noun_output"]), rtol=1e-6)
    told = read_predictions_file(path)
    assert told.kind == "logits"
    assert told.note.endswith("have one sum (verb 30, noun 30): --scores probabilities?")


def test_scores_below_zero_cannot_be_probabilities(tmp_path: Path) -> None:
    path = _by_torch(_dict(_drawn(), list(NAMES)), tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"a\.pt: verb scores are below 0 for P01_101_0, .* no probabilities"):
        read_predictions_file(path, kind="probabilities")


def test_one_row_or_one_task_decides_that_scores_are_logits(tmp_path: Path) -> None:
    rows = _probabilities()
    for key, width in (("verb_output", 97), ("noun_output", 300)):
        mixed = {**rows, key: _drawn()[key]}
        assert read_predictions_file(_by_torch(_dict(mixed, list(NAMES)), tmp_path / "a.pt")).kind == "logits"
        once = {**rows, key: rows[key].copy()}
        once[key][2] = 1.5 / width
        assert read_predictions_file(_by_torch(_dict(once, list(NAMES)), tmp_path / "a.pt")).kind == "logits"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.5, 0.5], True),
        ([1, 0], True),
        ([0.5, 0.5009], True),
        ([0.5, 0.4991], True),
        ([0.5, 0.5011], False),
        ([0.5, 0.4989], False),
        ([1.0005, 0.0], False),
        ([1.0001, -0.0001], False),
        ([np.nan, 1.0], False),
        ([-0.7, -0.7], False),
    ],
)
def test_probabilities_lie_within_0_and_1_and_sum_to_1(row: list[float], expected: bool) -> None:
    assert are_probabilities(np.array([[0.25, 0.75], row])) is expected


# ---- hostile and wrong files


def _refusal(path: Path) -> str:
    with pytest.raises(DataError) as error:
        read_predictions_file(path)
    message = str(error.value)
    assert message.startswith(f"{path}")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 300
    return message


@pytest.mark.parametrize("wrap", WRAPPINGS, ids=lambda wrap: wrap.__name__)
@pytest.mark.parametrize("name", RUNNING)
def test_a_hostile_file_does_nothing(name: str, wrap: Callable, tmp_path: Path) -> None:
    path = wrap(RUNNING[name](tmp_path / "ran"), tmp_path / "a.pkl")
    _refusal(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", sorted(MALFORMED.keys() - {"tuples as deep as a stack"}))  # that is large
def test_a_malformed_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    _refusal(as_pickle(MALFORMED[name], tmp_path / "a.pkl"))


def test_values_deeper_than_a_stack_are_refused_in_one_line(tmp_path: Path) -> None:
    deep = b"K\x01" + 20_000 * b"\x85"
    _refusal(as_pickle(b"\x80\x02" + deep + b".", tmp_path / "a.pkl"))
    start, end = pickle.dumps([{"narration_id": "a", **SCORES, "noun_output": 0}], protocol=2).split(b"K\x00u")
    for container in (deep, b"]" + deep + b"a", b"]K\x00aq\xc8h\xc8a"):  # the last one holds itself
        path = as_pickle(start + container + b"u" + end, tmp_path / "a.pkl")
        assert "noun_output of a is no array of numbers" in _refusal(path)


@pytest.mark.parametrize("key", ["narration_id", "verb_output", "noun_output", "another"])
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_hostile_objects_among_the_scores_do_nothing(layout: str, writer: str, key: str, tmp_path: Path) -> None:
    content = LAYOUTS[layout](_drawn(), list(NAMES))
    (content if layout == "dict" else content[1])[key] = Malicious(tmp_path / "ran")
    path = WRITERS[writer](content, tmp_path / "a.pkl")
    if key == "another":
        assert _same(read_predictions_file(path).predictions, _drawn())
    else:
        assert key in _refusal(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_hostile_file_in_a_zip_does_nothing(tmp_path: Path) -> None:
    content = RUNNING["os.system"](tmp_path / "ran")
    path = _zip(tmp_path / "a.zip", **{"submission.pt": content})
    assert _refusal(path).startswith(f"{path}/submission.pt: holds an object ")
    assert list(tmp_path.iterdir()) == [path]


SCORES = {"verb_output": np.zeros(97), "noun_output": np.zeros(300)}
WRONG: dict[str, tuple[object, str]] = {
    "a number": (3, "holds a value of type int, and neither a list"),
    "nothing": ([], "it holds no predictions"),
    "no dicts": ([1, 2], "entry 1: a value of type int is no dict of narration_id, verb_output, noun_output"),
    "a dict of something else": ({"a": 1}, "no narration_id and no verb_output and no noun_output in it"),
    "no noun": ([{"narration_id": "a", "verb_output": np.zeros(97)}], "entry 1: no noun_output in it"),
    "a number for an id": ([{"narration_id": 3, **SCORES}], "entry 1: a narration_id is a value of type int"),
    "another width": (
        [{"narration_id": "a", **SCORES, "noun_output": np.zeros((1, 305))}],
        r"noun_output of a has shape \(1, 305\), not \(300,\)",
    ),
    "rows for other segments": (
        {"narration_id": ["a"], "verb_output": np.zeros((2, 97)), "noun_output": np.zeros((2, 300))},
        r"verb_output has shape \(2, 97\), not \(1, 97\)",
    ),
    "a text for the ids": ({"narration_id": "ab", **SCORES}, "narration_id is a value of type str, not a list"),
    "texts for scores": (
        [{"narration_id": "a", **SCORES, "verb_output": ["0.5"] * 97}],
        "verb_output of a is no array",
    ),
    "uneven rows": ([{"narration_id": "a", **SCORES, "verb_output": [[1, 2], [3]]}], "verb_output of a is no array"),
    "complex numbers": ([{"narration_id": "a", **SCORES, "verb_output": np.zeros(97) * 1j}], "is no array of numbers"),
    "a segment twice": ([{"narration_id": "a", **SCORES}] * 2, "segments predicted twice: a"),
    "pairs that are none": ([{"narration_id": "a", **SCORES, "action_pairs": np.zeros(2)}], "action_pairs have shape"),
    "pairs without scores": (
        [{"narration_id": "a", **SCORES, "action_pairs": np.zeros((1, 2), int)}],
        "action_pairs in it, and no action_output of a",
    ),
    "scores of other pairs": (
        [{"narration_id": "a", **SCORES, "action_pairs": np.zeros((1, 2), int), "action_output": np.zeros(2)}],
        r"action_output of a has shape \(2,\), not \(1,\)",
    ),
    "beyond float32": (
        [{"narration_id": "a", **SCORES, "verb_output": np.full(97, 1e300)}],
        "verb logits are not finite for a",
    ),
}


@pytest.mark.parametrize("writer", ["torch.save", "pickle, protocol 2"])
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_file_is_said_in_one_line(name: str, writer: str, tmp_path: Path) -> None:
    content, message = WRONG[name]
    path = WRITERS[writer](content, tmp_path / "a.pkl")
    with pytest.raises(DataError, match=message):
        read_predictions_file(path)
    _refusal(path)


@pytest.mark.parametrize("writer", [*WRITERS, "test.json", "zip"])
def test_a_file_cut_anywhere_is_refused(writer: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    if writer in WRITERS:
        WRITERS[writer](_list({key: rows.tolist() for key, rows in _drawn().items()}, NAMES), path)
    else:
        text = json.dumps(_record(_drawn())).encode()
        path.write_bytes(_zip(path, **{"test.json": text}).read_bytes() if writer == "zip" else text)
    content = path.read_bytes()
    for length in range(0, len(content), len(content) // 12):
        path.write_bytes(content[:length])
        _refusal(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"hello", b"{", b"{}", b"[1]", b'{"results": {}}', b"\xff\xfe{"])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    _refusal(tmp_path / "a.pkl")


def test_json_of_another_challenge_is_refused(tmp_path: Path) -> None:
    record = {**_record(_drawn()), "challenge": "action_anticipation"}
    (tmp_path / "test.json").write_text(json.dumps(record))
    assert "challenge is 'action_anticipation'" in _refusal(tmp_path / "test.json")


def test_missing_and_forbidden_files_are_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _refusal(tmp_path / "a.pkl").endswith("no such file.")
    assert _refusal(tmp_path).endswith("no such file.")
    monkeypatch.chdir(tmp_path)
    path = _by_torch([], Path("b.pkl"))
    with forbidden(path), refused_for(f"{path}: cannot be read: Permission denied"):
        read_predictions_file(path)


# ---- copies


def test_copies_are_known_by_their_content_in_every_format(tmp_path: Path) -> None:
    for number, writer in enumerate(WRITERS.values()):
        first, copy, other = (
            writer(_list(_drawn(seed), NAMES), tmp_path / f"{name}{number}.pkl")
            for name, seed in (("first", 0), ("copy", 0), ("other", 1))
        )
        assert fingerprint(first) == fingerprint(copy)
        assert are_same(first, copy)
        assert not are_same(first, other)
