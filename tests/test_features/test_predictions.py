"""Predictions: the challenge's list format, there and back, and nothing but tensors out of a file."""

from __future__ import annotations

import math
import pickle
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import official
import pytest
import torch
from feature_files import finished, python
from hypothesis import given, settings
from hypothesis import strategies as st
from malicious import Malicious

from features.errors import DataError
from features.predictions import Predictions, concatenate, read_predictions, write_predictions

WRITE = """
import sys
from pathlib import Path
import numpy as np
from features.errors import DataError
from features.predictions import Predictions, write_predictions

names = tuple(map(str, range(500)))
try:
    write_predictions(
        Path(sys.argv[1]), Predictions(names, np.zeros((500, 97), np.float32), np.zeros((500, 300), np.float32), "new")
    )
except DataError as error:
    sys.exit(f"DataError {error}")
"""


def make_predictions(*narration_id: str, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    verb, noun = (rng.normal(size=(len(narration_id), width)).astype(np.float32) for width in (97, 300))
    return Predictions(narration_id, verb, noun, "drawn")


def bits(num: int, seed: int) -> np.ndarray:
    """Return finite float32 numbers with random bits: tiny, huge, and negative zeros among them."""
    numbers = np.random.default_rng(seed).integers(0, 2**32, num, dtype=np.uint32).view(np.float32)
    return np.where(np.isfinite(numbers), numbers, np.float32(0))


ids = st.lists(st.text(min_size=1, max_size=20).filter(str.isprintable), min_size=1, max_size=6, unique=True)


@settings(max_examples=25, deadline=None)
@given(ids, st.integers(0, 2**32 - 1))
def test_every_bit_comes_back(tmp_path_factory, narration_id: list[str], seed: int) -> None:
    path = tmp_path_factory.mktemp("predictions") / "p.pt"
    num = len(narration_id)
    predictions = Predictions(
        tuple(narration_id), bits(num * 97, seed).reshape(num, 97), bits(num * 300, seed + 1).reshape(num, 300), "bits"
    )
    write_predictions(path, predictions)
    result = read_predictions(path)
    assert result.narration_id == predictions.narration_id
    assert (result.verb.tobytes(), result.noun.tobytes()) == (predictions.verb.tobytes(), predictions.noun.tobytes())


def with_actions(predictions: Predictions, pairs: list[tuple[int, int]], seed: int = 0) -> Predictions:
    action = np.random.default_rng(seed).normal(0, 3, (len(predictions), len(pairs))).astype(np.float32)
    return replace(predictions, action=action, pairs=np.array(pairs))


def same(a: Predictions, b: Predictions) -> bool:
    """Whether two predictions are the same, bit for bit."""
    return a.narration_id == b.narration_id and all(
        getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in ("verb", "noun", "action", "pairs")
    )


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_scores_of_actions_come_back_with_their_pairs(tmp_path: Path, names: tuple[str, ...]) -> None:
    predictions = with_actions(make_predictions(*names), [(3, 4), (0, 299), (96, 1)])
    write_predictions(tmp_path / "p.pt", predictions)
    assert same(read_predictions(tmp_path / "p.pt"), predictions)


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_the_challenge_reads_a_file_with_scores_of_actions(tmp_path: Path, names: tuple[str, ...]) -> None:
    predictions = with_actions(make_predictions(*names), [(3, 4), (0, 299)])
    write_predictions(tmp_path / "p.pt", predictions)
    columns = official.collated(torch.load(tmp_path / "p.pt", weights_only=True))
    assert columns["narration_id"].tolist() == list(names)
    np.testing.assert_array_equal(columns["verb_output"], predictions.verb)
    np.testing.assert_array_equal(columns["noun_output"], predictions.noun)


def test_scores_of_actions_go_with_their_segments() -> None:
    predictions = with_actions(make_predictions("a", "b", "c", "d"), [(3, 4), (0, 299)])
    np.testing.assert_array_equal(predictions.aligned(["d", "a"]).action, predictions.action[[3, 0]])
    np.testing.assert_array_equal(predictions.rows(np.array([0, 1, 0, 1], bool)).action, predictions.action[[1, 3]])
    assert predictions.without_actions().action is None


def test_parts_with_the_same_pairs_are_put_one_after_the_other() -> None:
    parts = [with_actions(make_predictions(name), [(3, 4), (0, 299)], seed) for seed, name in enumerate("ab")]
    whole = concatenate(parts, "both")
    assert whole.action.tobytes() == b"".join(part.action.tobytes() for part in parts)
    np.testing.assert_array_equal(whole.pairs, parts[0].pairs)


def test_parts_with_different_pairs_have_the_pairs_of_all() -> None:
    first, second = with_actions(make_predictions("a"), [(3, 4), (0, 9)]), with_actions(make_predictions("b"), [(3, 4)])
    whole = concatenate([first, second], "both")
    assert whole.pairs.tolist() == [[0, 9], [3, 4]]
    p = np.exp(first.action[0]) / np.exp(first.action[0]).sum()
    np.testing.assert_allclose(np.exp(whole.action), [[p[1], p[0]], [1e-12, 1]], rtol=1e-5)


def test_without_scores_of_actions_in_one_part_the_whole_has_none() -> None:
    assert concatenate([with_actions(make_predictions("a"), [(3, 4)]), make_predictions("b")], "both").action is None


@pytest.mark.parametrize(
    ("action", "pairs", "message"),
    [
        (np.zeros((2, 3), np.float32), [(0, 1), (0, 2)], r"action logits have shape \(2, 3\), not \(2, 2\)"),
        (np.full((2, 1), np.nan, np.float32), [(0, 1)], "action logits are not finite for a, b"),
        (np.zeros((2, 2), np.float32), [(0, 1), (0, 1)], "the pairs of its actions are not all different"),
        (np.zeros((2, 2), np.float32), None, "action logits and their pairs go together"),
    ],
)
def test_wrong_scores_of_actions_are_refused(action: np.ndarray, pairs: list | None, message: str) -> None:
    listed = None if pairs is None else np.array(pairs)
    with pytest.raises(DataError, match=message):
        replace(make_predictions("a", "b"), action=action, pairs=listed)


def test_file_is_the_list_of_the_challenge(tmp_path: Path) -> None:
    predictions = make_predictions("P01_01_0", "P01_01_1")
    write_predictions(tmp_path / "p.pt", predictions)
    rows = torch.load(tmp_path / "p.pt", weights_only=True)
    assert [row["narration_id"] for row in rows] == ["P01_01_0", "P01_01_1"]
    assert [set(row) for row in rows] == 2 * [{"narration_id", "verb_output", "noun_output"}]
    for index, row in enumerate(rows):
        assert (row["verb_output"].dtype, row["noun_output"].dtype) == (torch.float32, torch.float32)
        np.testing.assert_array_equal(row["verb_output"].numpy(), predictions.verb[index])
        np.testing.assert_array_equal(row["noun_output"].numpy(), predictions.noun[index])


def test_file_holds_every_number_once(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.pt", make_predictions(*map(str, range(1000))))
    numbers = 1000 * (97 + 300) * 4
    # The rest is a thousand rows' names and places, not a thousand copies of everything.
    assert numbers < (tmp_path / "p.pt").stat().st_size < 1.5 * numbers


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_file_of_another_float_type_is_read_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    row = {"narration_id": "a", "verb_output": torch.ones(97, dtype=dtype), "noun_output": torch.ones(300, dtype=dtype)}
    torch.save([row], tmp_path / "p.pt")
    predictions = read_predictions(tmp_path / "p.pt")
    assert (predictions.verb.dtype, predictions.noun.dtype) == (np.float32, np.float32)


def test_file_saved_with_gradients_is_read(tmp_path: Path) -> None:
    """As a script writes it that forgot `torch.no_grad()`."""
    verb, noun = (torch.zeros(width, requires_grad=True) for width in (97, 300))
    torch.save([{"narration_id": "a", "verb_output": verb, "noun_output": noun}], tmp_path / "p.pt")
    assert read_predictions(tmp_path / "p.pt").narration_id == ("a",)


def test_alignment_gives_the_rows_in_the_order_asked_for() -> None:
    predictions = make_predictions("a", "b", "c", "d")
    aligned = predictions.aligned(["d", "a"])
    assert aligned.narration_id == ("d", "a")
    np.testing.assert_array_equal(aligned.verb, [predictions.verb[3], predictions.verb[0]])
    np.testing.assert_array_equal(aligned.noun, [predictions.noun[3], predictions.noun[0]])


def test_alignment_names_segments_without_a_prediction() -> None:
    with pytest.raises(DataError, match=r"drawn: no prediction for 7 segments: 1, 2, 3, 4, 5 and 2 more"):
        make_predictions("0").aligned([str(index) for index in range(8)])


@pytest.mark.parametrize(
    ("verb", "noun", "message"),
    [
        ((2, 96), (2, 300), r"verb logits have shape \(2, 96\), not \(2, 97\)"),
        ((2, 97), (2, 305), r"noun logits have shape \(2, 305\), not \(2, 300\)"),
        ((3, 97), (2, 300), r"verb logits have shape \(3, 97\), not \(2, 97\)"),
    ],
)
def test_wrong_shape_is_refused(verb: tuple, noun: tuple, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Predictions(("a", "b"), np.zeros(verb, np.float32), np.zeros(noun, np.float32), "made up")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["verb", "noun"])
def test_logits_that_are_not_finite_are_refused_by_segment(name: str, value: float) -> None:
    logits = {"verb": np.zeros((3, 97), np.float32), "noun": np.zeros((3, 300), np.float32)}
    logits[name][1, 5] = value
    with pytest.raises(DataError, match=rf"made up: {name} logits are not finite for b\."):
        Predictions(("a", "b", "c"), **logits, source="made up")


def test_segment_that_stands_twice_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"drawn: segments predicted twice: b\."):
        make_predictions("a", "b", "c", "b")


def test_no_predictions_at_all_are_refused() -> None:
    with pytest.raises(DataError, match="drawn: it holds no predictions"):
        make_predictions()


def test_no_code_in_a_file_is_run(tmp_path: Path) -> None:
    torch.save([Malicious(tmp_path / "it ran")], tmp_path / "p.pt")
    with pytest.raises(DataError, match="cannot be loaded safely"):
        read_predictions(tmp_path / "p.pt")
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize(
    "value",
    [
        1,
        None,
        [],
        {},
        [1],
        ["a"],
        [{"narration_id": "a"}],
        [{"narration_id": "a", "verb_output": torch.zeros(97), "noun_output": 3}],
        [{"narration_id": "a", "verb_output": torch.zeros(97), "noun_output": torch.zeros(1, 300)}],
        {"a": torch.zeros(97)},
    ],
)
def test_file_of_something_else_is_refused_by_name(tmp_path: Path, value: object) -> None:
    path = tmp_path / "p.pt"
    torch.save(value, path)
    with pytest.raises(DataError) as error:
        read_predictions(path)
    assert str(error.value).startswith(f"{path}: ")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"p\.pt: no such file"):
        read_predictions(tmp_path / "p.pt")


def test_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.pt"
    write_predictions(path, make_predictions("a"))
    content = path.read_bytes()
    for length in range(0, len(content), len(content) // 40):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"p\.pt"):
            read_predictions(path)


@pytest.mark.filterwarnings("ignore")  # of torch, about pickles of other makers
@pytest.mark.parametrize(
    "content",
    [
        b"narration_id,verb,noun\n",
        b"hello",
        b"[1, 2]",
        b"Up to now there is nothing here",
        b"\x89HDF\r\n\x1a\n",
        b"\x93NUMPY\x01\x00",
        b"(",
        b"0",
        b"M\x01",
        pickle.dumps([{"narration_id": "a"}], protocol=0),
        pickle.dumps([{"narration_id": "a"}], protocol=4),
        pickle.dumps([{"narration_id": "a"}], protocol=2)[:-9],
    ],
)
def test_file_that_is_no_torch_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.pt"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_predictions(path)
    assert str(error.value).startswith(f"{path}: ")


def test_full_disk_leaves_the_old_file_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "p.pt"
    write_predictions(path, make_predictions("old"))
    limit = (100_000, 100_000)
    code, _, err = finished(python(WRITE, path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)))
    assert (code, err.startswith(f"DataError {path}: cannot be written")) == (1, True), (code, err)
    assert read_predictions(path).narration_id == ("old",)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written") as error:
        write_predictions(tmp_path / "file" / "p.pt", make_predictions("a"))
    assert str(error.value).startswith(str(tmp_path / "file" / "p.pt"))
