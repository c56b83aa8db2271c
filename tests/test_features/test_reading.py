"""A feature set from Python: arrays per video, and segments as a torch Dataset that works in DataLoader's workers."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from feature_files import COLUMNS, DENSE, REGIONS, row, video, with_regions, write_rows, write_set
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

import features
from features.errors import DataError, OptionError
from features.failures import Failure, FailureKind, write_failures

VIEWS = ("centre", "flip")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A set by segment: two videos of three segments of four steps each, in two views."""
    videos = [video(name, lengths=(4, 4, 4), views=2, seed=seed) for seed, name in enumerate(("P01_01", "P02_01"))]
    write_set(tmp_path / "set", *videos, views=VIEWS)
    return tmp_path / "set"


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Five segments of both videos, not in the order of the files, with labels."""
    rows = [
        row(2),
        row(1, video_id="P02_01"),
        row(0, verb_class="3", noun_class="7"),
        row(1),
        row(2, video_id="P02_01"),
    ]
    return write_rows(tmp_path / "segments.csv", rows)


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """A dense set: twelve steps of 0.2 s, which cover segment 0 (0 to 1 s), but not segment 2 (4 to 5 s)."""
    write_set(tmp_path / "dense", video(lengths=()), sampling=DENSE)
    return tmp_path / "dense"


# ---- videos


def test_a_set_says_what_it_is_and_which_videos_it_has(root: Path) -> None:
    feature_set = features.open(root)
    assert (feature_set.featureset.backbone, feature_set.views) == ("drawn", VIEWS)
    assert (feature_set.video_ids, list(feature_set), len(feature_set)) == (
        ["P01_01", "P02_01"],
        ["P01_01", "P02_01"],
        2,
    )
    assert ("P01_01" in feature_set, "P09_01" in feature_set, 1 in feature_set) == (True, False, False)
    assert repr(feature_set) == f"OpenFeatureSet({root}, drawn, 2 videos, 2 views x 8)"


def test_a_video_is_its_arrays(root: Path) -> None:
    expected, result = video("P02_01", lengths=(4, 4, 4), views=2, seed=1), features.open(str(root))["P02_01"]
    np.testing.assert_array_equal(result.features, expected.features)
    np.testing.assert_array_equal(result.seconds, expected.seconds)
    assert (result.segments.narration_id, result.offset.tolist()) == (expected.narration_id, [0, 4, 8, 12])
    assert result.segments.start_s.tolist() == [0, 2, 4]


@pytest.mark.parametrize(("view", "column"), [("centre", 0), ("flip", 1)])
def test_one_view_is_chosen_by_its_name(root: Path, view: str, column: int) -> None:
    array = features.open(root, view=view)["P01_01"].features
    np.testing.assert_array_equal(array, features.open(root)["P01_01"].features[:, [column]])


def test_what_cannot_be_opened_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a feature set"):
        features.open(tmp_path)
    with pytest.raises(OptionError, match="did you mean 'flip'"):
        features.open(root, view="flop")
    with pytest.raises(DataError, match=r"P09_01\.h5: no such file"):
        features.open(root)["P09_01"]


# ---- segments


def test_items_are_the_segments_in_the_order_of_their_file(root: Path, annotations: Path) -> None:
    dataset = features.open(root, view="flip").dataset(annotations)
    assert isinstance(dataset, Dataset)
    names = ["P01_01_2", "P02_01_1", "P01_01_0", "P01_01_1", "P02_01_2"]
    assert ([item["narration_id"] for item in dataset], len(dataset)) == (names, 5)
    item, arrays = dataset[2], features.open(root)["P01_01"]
    assert (item["verb_class"], item["noun_class"]) == (3, 7)
    assert (item["features"].dtype, item["seconds"].dtype) == (torch.float32, torch.float64)
    np.testing.assert_array_equal(item["features"].numpy(), arrays.features[:4, 1].astype(np.float32))
    np.testing.assert_array_equal(item["seconds"].numpy(), arrays.seconds[:4])
    np.testing.assert_array_equal(dataset[0]["features"].numpy(), arrays.features[8:, 1].astype(np.float32))


@pytest.mark.parametrize("lengths", [(4, 4, 4), ()], ids=["segment", "dense"])
def test_items_say_which_regions_their_steps_have(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    stored = with_regions(video(lengths=lengths))
    sampling = {} if lengths else {"sampling": DENSE}
    write_set(tmp_path / "set", stored, **REGIONS, **sampling)
    opened = features.open(tmp_path / "set")
    np.testing.assert_array_equal(opened["P01_01"].has_region, stored.has_region)
    [item] = opened.dataset(write_rows(tmp_path / "segments.csv", [row(0)]))
    own = stored.seconds <= 1
    assert torch.equal(item["has_region"], torch.from_numpy(stored.has_region[own]))
    write_set(tmp_path / "plain", video())
    assert features.open(tmp_path / "plain")["P01_01"].has_region is None
    assert "has_region" not in features.open(tmp_path / "plain").dataset(tmp_path / "segments.csv")[0]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_loader_read_what_this_process_reads(root: Path, annotations: Path, context: str) -> None:
    dataset = features.open(root).dataset(annotations)
    expected = torch.stack([dataset[index]["features"] for index in range(5)])
    batches = list(DataLoader(dataset, batch_size=3, num_workers=2, multiprocessing_context=context))
    assert torch.equal(torch.cat([batch["features"] for batch in batches]), expected)
    assert torch.cat([batch["verb_class"] for batch in batches]).tolist() == [0, 0, 3, 0, 0]
    assert batches[1]["narration_id"] == ["P01_01_1", "P02_01_2"]


def test_a_dataset_can_be_pickled_after_it_was_read(root: Path, annotations: Path) -> None:
    dataset = features.open(root).dataset(annotations)
    copy = pickle.loads(pickle.dumps((dataset[0], dataset)))[1]
    assert torch.equal(copy[4]["features"], dataset[4]["features"])


def test_segments_without_labels_have_none_and_still_make_batches(root: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "test.csv", [row(0), row(1)], columns=COLUMNS)
    (batch,) = DataLoader(features.open(root).dataset(path), batch_size=2)
    assert sorted(batch) == ["features", "narration_id", "seconds"]


def test_segments_of_a_dense_set_are_the_steps_within_them(dense: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "segments.csv", [row(0), row(0, narration_id="half", stop_timestamp="00:00:00.50")])
    dataset = features.open(dense).dataset(path)
    assert [item["seconds"].tolist() for item in dataset] == [
        pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        pytest.approx([0, 0.2, 0.4]),
    ]
    array = features.open(dense)["P01_01"].features
    np.testing.assert_array_equal(dataset[1]["features"].numpy(), array[:3, 0].astype(np.float32))

    def pad(items: list) -> torch.Tensor:
        return pad_sequence([item["features"] for item in items], batch_first=True)

    (batch,) = DataLoader(dataset, batch_size=2, collate_fn=pad)
    assert batch.shape == (2, 6, 8)


def test_segments_without_features_are_refused_or_left_out(dense: Path, tmp_path: Path) -> None:
    rows = [row(2), row(0), row(0, narration_id="failed"), row(0, video_id="P03_01")]
    path = write_rows(tmp_path / "segments.csv", rows)
    write_failures(dense, "P01_01", [Failure("failed", FailureKind.UNDECODABLE, "frame 7")])
    feature_set = features.open(dense)
    with pytest.raises(DataError, match=r"no features for 3 of 4 segments of segments\.csv .*allow_missing=True"):
        feature_set.dataset(path)
    dataset = feature_set.dataset(path, allow_missing=True)
    assert ([item["narration_id"] for item in dataset], dataset.num_missing) == (["P01_01_0"], 3)
    with pytest.raises(DataError, match=r"no features for 1 of 1 segments .*; extract them\."):
        feature_set.dataset(write_rows(tmp_path / "other.csv", rows[:1]), allow_missing=True)


def test_segments_whose_interval_has_changed_are_refused(root: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "segments.csv", [row(0, stop_timestamp="00:00:01.50")])
    with pytest.raises(DataError, match=r"P01_01_0 was extracted from 0\.00 to 1\.00 s"):
        features.open(root).dataset(path)


# ---- the docs


def test_the_python_of_the_docs_runs(root: Path, annotations: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "features.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        code = block.replace("data/features/resnet50-seg16", str(root)).replace("P01_101", "P01_01")
        names: dict = {}
        exec(code.replace("data/annotations/EPIC_100_validation.csv", str(annotations)), names)
        if "first" in names:
            np.testing.assert_array_equal(names["first"], features.open(root)["P01_01"].features[:4, 0])


# ---- the package


def test_every_public_name_is_loaded_and_listed() -> None:
    assert [name for name in features.__all__ if not hasattr(features, name)] == []
    assert set(features.__all__) <= set(dir(features))
    with pytest.raises(AttributeError, match="no attribute 'close'"):
        _ = features.close
