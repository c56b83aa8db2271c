"""Test-time augmentation: which glances there are, that their mean is the mean, and that one alone changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from probabilities import softmax
from synthetic import Synthetic, labelled_rows, write_csv, write_dense, write_features, write_synthetic_dense

from features.annotations import read_segments
from features.predictions import read_predictions
from heads.config import InputSettings
from heads.data.batches import TtaView, batches
from heads.data.layout import open_sources
from heads.data.load import load_split
from heads.models.saved import BEST, load_model
from heads.predict.predicting import predict_logits
from heads.predict.tta import tta_views, with_all_views
from heads.runs import PREDICTIONS, TTA_PREDICTIONS

CPU = torch.device("cpu")
PLAIN = InputSettings()
VIEWS = ("centre", "left", "flip")
QUICK = ("--epochs", 2, "--device", "cpu", "--set", "hidden=8")


@pytest.fixture(scope="module")
def views_set(synthetic, tmp_path_factory) -> Path:
    """A set by segment of three views that have nothing to do with each other, for all three lists."""
    root = tmp_path_factory.mktemp("views") / "views-seg5"
    rng = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        segments = synthetic.segments(split)
        steps = {name: rng.normal(size=(int(rng.integers(1, 6)), 3, 12)) for name in segments.narration_id}
        write_features(root, segments, steps, views=VIEWS)
    return root


@pytest.fixture(scope="module")
def dense(tmp_path_factory, synthetic) -> Path:
    dataset = Synthetic(synthetic.annotations, tmp_path_factory.mktemp("dense") / "features")
    write_synthetic_dense(dataset)
    return dataset.dense


def _train(heads, synthetic, *sets: Path, options: tuple[object, ...] = ()) -> Path:
    paths = [word for root in sets for word in ("--features", root)]
    result = heads("train", "--head", "bilstm", *QUICK, "--annotations", synthetic.annotations, *paths, *options)
    assert result.exit_code == 0, result.output
    return Path("runs", "bilstm-seed0")


def _predict(heads, run: Path, *arguments: object) -> None:
    result = heads("predict", run, "--device", "cpu", *arguments)
    assert result.exit_code == 0, result.output


# ---- which glances


def _glances(*roots: Path, inputs: InputSettings = PLAIN) -> list[tuple[tuple[str, ...], int]]:
    """Glances with the names of their views."""
    sources = with_all_views(open_sources(roots, inputs), inputs.view)
    return [
        (tuple(source.views[view] for source, view in zip(sources, glance.views, strict=True)), glance.shift)
        for glance in tta_views(sources, inputs)
    ]


def test_a_set_by_segment_is_looked_at_from_all_views(views_set):
    assert _glances(views_set) == [(("centre",), 0), (("left",), 0), (("flip",), 0)]


def test_the_view_of_plain_predictions_is_the_first_glance(views_set):
    assert _glances(views_set, inputs=InputSettings(view=("flip", "left"))) == [
        (("flip",), 0),
        (("centre",), 0),
        (("left",), 0),
    ]


def test_windows_of_a_dense_set_are_moved(dense):
    assert _glances(dense) == [(("centre",), 0), (("centre",), -1), (("centre",), 1)]


def test_where_sets_are_fused_early_the_first_one_moves(synthetic, dense):
    early, late = InputSettings(fusion="early"), InputSettings(fusion="late")
    assert len(_glances(synthetic.featureset, dense, inputs=early)) == 1
    assert len(_glances(dense, synthetic.featureset, inputs=early)) == 3
    assert len(_glances(synthetic.featureset, dense, inputs=late)) == 3


def test_a_set_of_one_view_and_one_sampling_has_one_glance(synthetic):
    assert _glances(synthetic.featureset) == [(("centre",), 0)]


def test_views_of_several_sets_go_together_by_name(views_set, synthetic, tmp_path):
    rng = np.random.default_rng(1)
    steps = {name: rng.normal(size=(2, 2, 12)) for name in synthetic.segments("train").narration_id}
    write_features(tmp_path / "other", synthetic.segments("train"), steps, views=("centre", "flip"))
    assert _glances(views_set, tmp_path / "other") == [
        (("centre", "centre"), 0),
        (("left", "centre"), 0),
        (("flip", "flip"), 0),
    ]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ((), ["centre", "flip"]),
        (("centre", "augment2"), ["centre", "flip", "augment2"]),
        (("augment1",), ["augment1", "centre", "flip"]),
    ],
)
def test_random_augmentations_are_test_views_only_if_they_were_chosen(synthetic, tmp_path, chosen, expected):
    names = ("centre", "flip", "augment1", "augment2")
    steps = {name: np.zeros((2, 4, 12)) for name in synthetic.segments("train").narration_id}
    write_features(tmp_path / "set", synthetic.segments("train"), steps, views=names)
    assert _glances(tmp_path / "set", inputs=InputSettings(view=chosen)) == [((name,), 0) for name in expected]


# ---- what a glance sees


def _steps(split, tta_view: TtaView | None) -> list[list[float]]:
    """The steps of each segment, which carry their own number as their first feature."""
    step_numbers = []
    for chunk, order in split.chunks():
        for batch in batches(chunk, order, 64, inputs=PLAIN, device=CPU, tta_view=tta_view):
            (steps,) = batch.streams
            step_numbers += [row[mask][:, 0].tolist() for row, mask in zip(steps.features, steps.mask, strict=True)]
    return step_numbers


@pytest.fixture
def numbered_split(tmp_path):
    """A dense split of two segments, 2.0 to 2.4 s and 4.0 to 12.0 s, whose steps of 0.2 s carry their number."""
    rows = labelled_rows(("P01_01",), 2, np.random.default_rng(0))
    rows["start_timestamp"], rows["stop_timestamp"] = ["00:00:02.00", "00:00:04.00"], ["00:00:02.40", "00:00:12.00"]
    rows["start_frame"], rows["stop_frame"] = [120, 240], [144, 720]
    segments = read_segments(write_csv(tmp_path / "two.csv", rows))
    write_dense(tmp_path / "dense", {"P01_01": np.arange(80)[:, None] * np.ones((80, 4))})
    sources = with_all_views(open_sources([tmp_path / "dense"], PLAIN))
    return load_split(sources, segments, PLAIN, allow_missing=False, device=CPU)


@pytest.mark.parametrize(("shift", "short", "long"), [(0, 0, 0), (-1, -1, -2), (1, 1, 2)])
def test_windows_move_by_a_twentieth_and_a_step_at_the_least(numbered_split, shift, short, long):
    assert _steps(numbered_split, TtaView((0,), shift)) == [
        [float(step + short) for step in (10, 11)],
        [float(step + long) for step in range(20, 60)],
    ]


def test_windows_stay_within_the_video(synthetic, dense):
    sources = with_all_views(open_sources([dense], PLAIN))
    split = load_split(sources, synthetic.segments("train"), PLAIN, allow_missing=False, device=CPU)
    for shift in (-1, 1):
        assert min(len(steps) for steps in _steps(split, TtaView((0,), shift))) >= 1


def test_the_first_glance_is_what_plain_predictions_see(numbered_split):
    assert _steps(numbered_split, TtaView((0,), 0)) == _steps(numbered_split, None)


# ---- what is written


def test_one_view_without_offsets_gives_the_plain_predictions(heads, synthetic):
    run = _train(heads, synthetic, synthetic.featureset)
    _predict(heads, run, "--tta")
    for split in ("validation", "test"):
        plain, tta_predictions = (read_predictions(run / names[split]) for names in (PREDICTIONS, TTA_PREDICTIONS))
        assert tta_predictions.narration_id == plain.narration_id
        np.testing.assert_array_equal(tta_predictions.verb, plain.verb)
        np.testing.assert_array_equal(tta_predictions.noun, plain.noun)


def test_three_views_give_the_mean_of_their_probabilities(heads, synthetic, views_set):
    run = _train(heads, synthetic, views_set, options=("--view", "centre"))
    _predict(heads, run, "--tta", "--split", "validation")
    tta_predictions = read_predictions(run / TTA_PREDICTIONS["validation"])
    by_view = []
    for view in VIEWS:  # a set of that view alone, with the record of the whole, is what the model sees of it
        sources = open_sources([views_set], InputSettings(view=(view,)))
        split = load_split(sources, synthetic.segments("validation"), PLAIN, allow_missing=False, device=CPU)
        by_view.append(_logits(run, split))
    for task in ("verb", "noun"):
        expected = np.mean([softmax(logits[task]) for logits in by_view], axis=0)
        np.testing.assert_allclose(np.exp(getattr(tta_predictions, task).astype(np.float64)), expected, rtol=1e-5)
    assert np.abs(tta_predictions.verb - read_predictions(run / PREDICTIONS["validation"]).verb).max() > 1e-3


def _logits(run: Path, split) -> dict[str, np.ndarray]:
    model, _ = load_model(run / BEST, device=CPU)
    return predict_logits(model, split, device=CPU)


def test_plain_predictions_are_left_as_they_are(heads, synthetic, dense):
    run = _train(heads, synthetic, dense)
    files_before = {name: (run / name).read_bytes() for name in PREDICTIONS.values() if (run / name).is_file()}
    _predict(heads, run, "--tta")
    assert {name: (run / name).read_bytes() for name in files_before} == files_before
    assert {path.name for path in run.glob("*_tta_*")} == {"val_tta_predictions.pt", "test_tta_predictions.pt"}


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_dense_sets_and_sets_by_segment_are_averaged_together(heads, synthetic, dense, views_set, fusion):
    run = _train(heads, synthetic, views_set, dense, options=("--fusion", fusion))
    _predict(heads, run, "--tta")
    tta_predictions = read_predictions(run / TTA_PREDICTIONS["validation"])
    np.testing.assert_allclose(np.exp(tta_predictions.noun.astype(np.float64)).sum(axis=1), 1, rtol=1e-5)


def test_features_that_do_not_fit_into_memory_give_the_same(heads, synthetic, dense, monkeypatch):
    run = _train(heads, synthetic, dense)
    _predict(heads, run, "--tta", "--split", "test")
    expected = read_predictions(run / TTA_PREDICTIONS["test"])
    (run / TTA_PREDICTIONS["test"]).unlink()
    monkeypatch.setattr("heads.data.load.free_bytes", lambda device: 4000.0)
    _predict(heads, run, "--tta", "--split", "test")
    np.testing.assert_allclose(read_predictions(run / TTA_PREDICTIONS["test"]).noun, expected.noun, atol=1e-5)


def test_another_list_is_averaged_into_the_file_that_is_named(heads, synthetic, dense, tmp_path):
    run = _train(heads, synthetic, dense)
    _predict(heads, run, "--tta")
    _predict(heads, run, "--tta", "--annotations", synthetic.csv("test"), "--out", tmp_path / "mine.pt")
    predictions = read_predictions(tmp_path / "mine.pt")
    np.testing.assert_array_equal(predictions.verb, read_predictions(run / TTA_PREDICTIONS["test"]).verb)


def test_the_table_shows_it_and_an_ensemble_takes_it(heads, synthetic, dense):
    run = _train(heads, synthetic, dense)
    _predict(heads, run, "--tta")
    names = [line.split("  ")[0] for line in heads("evaluate").stdout.splitlines()]
    assert names[1:3] == ["bilstm", "bilstm +tta"]
    result = heads("ensemble", "--tta", "--name", "averaged")
    assert result.exit_code == 0, result.output
    predictions = read_predictions(Path("runs", "averaged", "test_predictions.pt"))
    expected = read_predictions(run / TTA_PREDICTIONS["test"])
    np.testing.assert_allclose(predictions.noun, np.log(softmax(expected.noun)), atol=1e-5)


def test_runs_without_it_cannot_be_put_together_by_it(heads, synthetic):
    _train(heads, synthetic, synthetic.featureset)
    result = heads("ensemble", "--tta")
    assert result.exit_code == 1
    assert "no predictions that all 1 members have; heads predict RUN --tta writes them" in result.stderr
