"""Features in memory, their statistics, and batches of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import labelled_rows, write_csv, write_features

from features.annotations import Segments, read_segments
from features.errors import DataError
from heads.batches import Split, batches, load_split, statistics

CPU = torch.device("cpu")


def _split(lengths: list[int], *, dim: int = 3, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    return Split(
        segments=Segments(pd.DataFrame({"narration_id": [f"s{index}" for index in range(len(lengths))]}), "drawn"),
        features=torch.from_numpy(rng.normal(size=(sum(lengths), dim)).astype(np.float16)),
        offset=torch.from_numpy(np.cumsum([0, *lengths])),
        num_missing=0,
    )


# ---- batches

ragged = st.lists(st.integers(1, 9), min_size=1, max_size=20)


@given(lengths=ragged, batch_size=st.integers(1, 25), seed=st.integers(0, 99))
@settings(deadline=None)
def test_valid_steps_of_a_row_are_those_of_its_segment(lengths, batch_size, seed):
    split = _split(lengths)
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed))
    for batch in batches(split, order, batch_size):
        for row, segment in enumerate(batch.index.tolist()):
            first = sum(lengths[:segment])
            expected = [split.features[first + step].tolist() for step in range(lengths[segment])]
            assert batch.features[row][batch.mask[row]].tolist() == expected


@given(lengths=ragged, batch_size=st.integers(1, 25))
@settings(deadline=None)
def test_the_mask_is_true_for_as_many_first_steps_as_a_segment_has(lengths, batch_size):
    split = _split(lengths)
    for batch in batches(split, torch.arange(len(lengths)), batch_size):
        of_batch = [lengths[segment] for segment in batch.index.tolist()]
        assert batch.mask.tolist() == [[step < length for step in range(max(of_batch))] for length in of_batch]


@given(lengths=ragged, batch_size=st.integers(1, 25), seed=st.integers(0, 99))
@settings(deadline=None)
def test_batches_hold_every_segment_once_in_the_order_given(lengths, batch_size, seed):
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed))
    seen = [index for batch in batches(_split(lengths), order, batch_size) for index in batch.index.tolist()]
    assert seen == order.tolist()


def test_only_the_last_batch_is_smaller():
    assert [len(batch.index) for batch in batches(_split([1] * 10), torch.arange(10), 4)] == [4, 4, 2]


def test_batches_are_float32():
    assert next(batches(_split([2, 3]), torch.arange(2), 2)).features.dtype == torch.float32


# ---- statistics


def test_statistics_are_those_of_numpy_in_float64():
    split = _split([4, 2, 9], dim=5)
    values = split.features.numpy().astype(np.float64)
    mean, std = statistics(split)
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(std, values.std(axis=0), rtol=1e-6)


def test_statistics_of_many_steps_far_from_zero_keep_their_digits():
    rng = np.random.default_rng(0)
    values = rng.normal(1000, 2, (150_000, 2)).astype(np.float16)
    split = Split(_split([1]).segments, torch.from_numpy(values), torch.tensor([0, len(values)]), 0)
    mean, std = statistics(split)
    np.testing.assert_allclose(mean, values.astype(np.float64).mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(std, values.astype(np.float64).std(axis=0), rtol=1e-6)


def test_a_dimension_that_never_changes_has_deviation_one():
    split = _split([4, 2])
    split.features[:, 1] = 7.0
    mean, std = statistics(split)
    assert (mean[1], std[1]) == (7.0, 1.0)


# ---- loading a split


@pytest.fixture
def annotated(tmp_path):
    """A dozen segments in two videos, without features yet."""
    rows = labelled_rows(("P01_01", "P02_101"), 12, np.random.default_rng(0))
    return read_segments(write_csv(tmp_path / "train.csv", rows))


def _drawn_steps(segments: Segments) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(rng.integers(1, 6), 4)) for name in segments.narration_id}


def test_features_are_loaded_in_the_order_of_the_annotations(annotated, tmp_path):
    steps = _drawn_steps(annotated)
    write_features(tmp_path / "set", annotated, steps)
    shuffled = Segments(annotated.table.sample(frac=1, random_state=0).reset_index(drop=True), "shuffled")
    split = load_split(tmp_path / "set", shuffled, allow_missing=False, device=CPU)
    expected = np.concatenate([steps[name] for name in shuffled.narration_id]).astype(np.float16)
    np.testing.assert_array_equal(split.features, expected)


def test_offsets_cut_the_steps_into_segments(annotated, tmp_path):
    steps = _drawn_steps(annotated)
    write_features(tmp_path / "set", annotated, steps)
    split = load_split(tmp_path / "set", annotated, allow_missing=False, device=CPU)
    assert split.offset.diff().tolist() == [len(steps[name]) for name in annotated.narration_id]


@pytest.fixture
def lacking(annotated, tmp_path):
    """A feature set without the features of seven segments: all of P02_101, and the first of P01_01."""
    steps = _drawn_steps(annotated)
    for name in list(steps):
        if name.startswith("P02_101") or name == "P01_01_0":
            del steps[name]
    write_features(tmp_path / "set", annotated, steps)
    return tmp_path / "set"


def test_missing_features_are_counted_and_named(annotated, lacking):
    named = r"7 of 12 segments of train.csv \(P01_01_0, P02_101_0, .* and 2 more\); .*--allow-missing"
    with pytest.raises(DataError, match=named):
        load_split(lacking, annotated, allow_missing=False, device=CPU)


def test_missing_segments_are_left_out_when_allowed(annotated, lacking):
    split = load_split(lacking, annotated, allow_missing=True, device=CPU)
    assert split.segments.narration_id.tolist() == [f"P01_01_{index}" for index in range(1, 6)]


def test_segments_left_out_are_counted(annotated, lacking):
    assert load_split(lacking, annotated, allow_missing=True, device=CPU).num_missing == 7


def test_steps_of_segments_that_are_not_left_out_stay_theirs(annotated, lacking):
    steps = _drawn_steps(annotated)
    split = load_split(lacking, annotated, allow_missing=True, device=CPU)
    first, stop = split.offset[2:4].tolist()
    np.testing.assert_array_equal(split.features[first:stop], steps["P01_01_3"].astype(np.float16))


def test_a_split_without_any_features_is_refused_even_when_missing_are_allowed(annotated, lacking, tmp_path):
    table = annotated.table[annotated.table.video_id == "P02_101"].reset_index(drop=True)
    with pytest.raises(DataError, match="no features for 6 of 6 segments"):
        load_split(lacking, Segments(table, "train.csv"), allow_missing=True, device=CPU)


def test_features_of_another_interval_are_refused(annotated, tmp_path):
    write_features(tmp_path / "set", annotated, _drawn_steps(annotated))
    table = annotated.table.copy()
    table.loc[3, "stop_s"] += 0.5
    named = rf"P01_01\.h5: segment {table.narration_id[3]} was extracted from .* the annotations now say"
    with pytest.raises(DataError, match=named):
        load_split(tmp_path / "set", Segments(table, "train.csv"), allow_missing=True, device=CPU)
