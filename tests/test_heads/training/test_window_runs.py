"""Runs of a head that reads windows: what is trained and predicted through the loop that all heads share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from run_files import metrics_of
from synthetic import Synthetic, write_synthetic, write_synthetic_dense

from features.annotations import Segments
from features.files import read_json
from features.predictions import read_predictions
from heads.data.batches import batches
from heads.data.chunks import Split
from heads.data.layout import open_sources
from heads.data.load import load_split
from heads.models.model import Model
from heads.models.saved import BEST, load_model
from heads.predict.predicting import predict_logits

CPU = torch.device("cpu")
WINDOWS = ("--window", 6, "--window-hop", 1.5)
SMALL = "context:width=16:hidden=16:attention_heads=2:layers=2"
QUICK = ("--device", "cpu", "--epochs", 2, "--batch-size", 8, *WINDOWS)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Synthetic:
    """The synthetic dataset with a dense set."""
    dataset = write_synthetic(tmp_path_factory.mktemp("shared-windows"))
    write_synthetic_dense(dataset)
    return dataset


def _train(heads, dataset: Synthetic, *options: object, sets: tuple[Path, ...]):
    data_options = [word for root in sets for word in ("--features", root)]
    return heads("train", "--head", SMALL, "--annotations", dataset.annotations, *QUICK, *data_options, *options)


def _trained(heads, dataset: Synthetic, folder: Path) -> Model:
    result = _train(heads, dataset, "--lr", 1e-2, sets=(dataset.dense, dataset.featureset))
    assert result.exit_code == 0, result.output
    return load_model(folder / "runs" / "context-seed0" / BEST, device=CPU)[0]


def _split(dataset: Synthetic, model: Model, segments: Segments, **options: float) -> Split:
    sources = open_sources([dataset.dense, dataset.featureset], model.settings)
    return load_split(sources, segments, model.settings, allow_missing=False, device=CPU, **options)


def test_logits_are_means_over_windows_and_do_not_depend_on_what_else_is_asked_for(heads, dataset, tmp_path):
    model, segments = _trained(heads, dataset, tmp_path), dataset.segments("validation")
    split = _split(dataset, model, segments)
    logits = predict_logits(model, split, device=CPU)
    ((chunk, order),) = split.chunks()
    by_segment: dict[int, list[np.ndarray]] = {}
    with torch.inference_mode():
        for batch in batches(chunk, order, 1, inputs=model.settings, device=CPU):
            for index, verb in zip(batch.index.tolist(), model(batch.streams, batch.queries)["verb"], strict=True):
                by_segment.setdefault(index, []).append(verb.numpy())
    lengths = segments.table.stop_s - segments.table.start_s
    assert all(len(by_segment[index]) >= (6 - length) // 1.5 for index, length in enumerate(lengths))
    np.testing.assert_allclose(
        logits["verb"], [np.mean(by_segment[index], axis=0) for index in range(len(segments))], atol=1e-5
    )
    saved = read_predictions(tmp_path / "runs" / "context-seed0" / "val_predictions.pt")
    np.testing.assert_allclose(logits["noun"], saved.noun, atol=1e-5)
    # A chunk of videos at a time, as sets larger than memory.
    streamed = _split(dataset, model, segments, memory_bytes=1)
    assert not streamed.is_resident
    np.testing.assert_allclose(predict_logits(model, streamed, device=CPU)["noun"], logits["noun"], atol=1e-5)
    # Of the dense set, a window has the same steps whichever segments there are.
    dense = (tmp_path / "only-dense", dataset.dense)
    result = _train(heads, dataset, "--runs", dense[0], sets=dense[1:])
    assert result.exit_code == 0, result.output
    model, _ = load_model(dense[0] / "context-seed0" / BEST, device=CPU)
    sources = open_sources(dense[1:], model.settings)
    few = np.arange(len(segments)) % 3 == 1
    all_logits, few_logits = (
        predict_logits(model, load_split(sources, rows, model.settings, allow_missing=False, device=CPU), device=CPU)
        for rows in (segments, segments.where(few))
    )
    np.testing.assert_allclose(few_logits["verb"], all_logits["verb"][few], atol=1e-5)


def test_options_work_together(heads, dataset, tmp_path):
    regularisation = ("--step-dropout", 0.3, "--noise", 0.1, "--jitter", 0.2, "--stream-dropout", 0.4, "--ema", 0.9)
    losses = ("--separate", "--adjust", 0.5, "--action-head", "--action-weight", 0.5, "--loss", "focal:gamma=1")
    sets = (dataset.dense, dataset.featureset)
    result = _train(heads, dataset, *regularisation, *losses, "--project", 8, "--keep-epochs", 1, sets=sets)
    assert result.exit_code == 0, result.output
    assert "at most 256 steps per set in a window of 6 s" in result.stderr
    run = tmp_path / "runs" / "context-seed0"
    assert (run / "epoch1" / "val_predictions.pt").is_file()
    assert read_json(run / "config.json")["window_hop"] == 1.5
    assert all(np.isfinite(row["train_loss"]) for row in metrics_of(run))
    assert heads("predict", run, "--tta", "--split", "validation").exit_code == 0
    assert heads("ensemble", run, run / "epoch1", "--annotations", dataset.annotations).exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--context", 2), "--context: is not for context: a window is the context; --window makes it longer."),
        (("--fusion", "late"), "--fusion: is not for context: the steps of all feature sets are in one window."),
        (("--mixup", 0.2), "--mixup: is not for context: segments share their steps."),
        (("--cutmix", 0.2), "--cutmix: is not for context"),
        (("--speed", 0.2), "--speed: is not for context"),
        (("--window-hop", 7), "--window-hop: 7 s is longer than the window of 6 s."),
        (("--window", 0), "--window: 0.0 is below 0.1."),
        (("--head", "mlp"), "--window: is about windows, and mlp reads none."),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_windows_cannot_have_is_refused_before_a_run_is_begun(options, message, heads, dataset, tmp_path):
    result = _train(heads, dataset, *options, sets=(dataset.dense,))
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("option", "value"), [("--neighbours", 1), ("--draw-steps", 1)])
def test_what_sets_by_segment_have_instead_is_refused(option, value, heads, dataset):
    result = _train(heads, dataset, option, value, sets=(dataset.featureset,))
    assert result.exit_code == 2
    assert f"{option}: is not for context" in result.stderr
