"""Sweeps that are cut off, by a kill or from the keyboard, wherever they are: they end as one that was not."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from forked import cut_off_at
from synthetic import Synthetic

from features.files import read_json
from heads.cli import main
from heads.config import make_config
from heads.runs import read_metrics
from heads.training.fit import fit

EPOCHS, RUNGS = 40, (10, 20)
GRID = ("--grid", "lr=1e-4,1e-3,1e-2", "loss=ce,focal")


def _arguments(dataset: Synthetic, runs: Path, *options: str) -> list[str]:
    size = ("--head", "mean_pool:dropout=0.4", "--epochs", EPOCHS, "--batch-size", 8, "--device", "cpu")
    paths = (*dataset.options, "--runs", runs)
    return [str(word) for word in ("sweep", *GRID, *size, *paths, *options)]


def _finish(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def unbroken_sweep(larger_synthetic, tmp_path_factory) -> Callable[..., Path]:
    """The folder of a sweep with these options that ran in one go."""
    folders = {}

    def sweep(*options: str) -> Path:
        if options not in folders:
            runs = tmp_path_factory.mktemp("unbroken")
            _finish(_arguments(larger_synthetic, runs, *options))
            folders[options] = runs / "sweep"
        return folders[options]

    return sweep


# ---- when it is cut off


def _num_rows(folder: Path) -> list[int]:
    return [path.read_text().count("\n") - 1 for path in folder.glob("*/metrics.csv")]


def _decided_epochs(folder: Path) -> set[int]:
    path = folder / "halving.json"
    return {decision["epoch"] for decision in read_json(path)} if path.is_file() else set()


def _num_finished(folder: Path) -> int:
    return len(list(folder.glob("*/val_predictions.pt")))


# In the order in which they come, so that one sweep can be cut off at all of them.
MOMENTS = {
    (): {
        "a few epochs": lambda folder: sum(_num_rows(folder)) > 3,
        "one run is finished": lambda folder: _num_finished(folder) > 0 and len(_num_rows(folder)) > 1,
        "some more are": lambda folder: _num_finished(folder) > 3,
    },
    ("--together", "3"): {
        "a few epochs": lambda folder: sum(_num_rows(folder)) > 6,
        "half of the runs are finished": lambda folder: _num_finished(folder) >= 3 and len(_num_rows(folder)) > 3,
    },
    ("--halving",): {
        "a few epochs": lambda folder: sum(_num_rows(folder)) > 3,
        "some variants are at the first rung": lambda folder: _num_rows(folder).count(RUNGS[0]) > 3,
        "the first rung is decided": lambda folder: RUNGS[0] in _decided_epochs(folder),
        "within the second stretch": lambda folder: max(_num_rows(folder)) > RUNGS[0] + 3,
        "the second rung is decided": lambda folder: RUNGS[1] in _decided_epochs(folder),
        "within the last stretch": lambda folder: max(_num_rows(folder)) > RUNGS[1] + 3,
        "one run is finished": lambda folder: _num_finished(folder) > 0,
    },
}


def _end_times(folder: Path, ends: dict[str, int]) -> dict[str, int]:
    """When those runs that have come as far as they ever will were last trained."""
    return {
        path.parent.name: path.with_name("last.pth").stat().st_mtime_ns
        for path in folder.glob("*/metrics.csv")
        if path.with_name("last.pth").is_file()
        and len(torch.load(path.with_name("last.pth"), weights_only=True)["history"]) == ends[path.parent.name]
    }


def _differences(folder: Path, other: Path) -> list[str]:
    """What of two sweeps is not the same to the last bit."""
    files = {str(path.relative_to(root)) for root in (folder, other) for path in root.rglob("*") if path.is_file()}
    text_files = {name for name in files if name.endswith((".csv", ".json")) and "config" not in name}
    differences = [name for name in text_files if (folder / name).read_bytes() != (other / name).read_bytes()]
    for name in sorted(files):
        if name.endswith(("best_model.pth", "last.pth")):
            ours, theirs = (torch.load(root / name, weights_only=True)["model"] for root in (folder, other))
            assert ours.keys() == theirs.keys()
            differences += [f"{name} {key}" for key in ours if not torch.equal(ours[key], theirs[key])]
        elif name.endswith("predictions.pt"):
            ours, theirs = (torch.load(root / name, weights_only=True) for root in (folder, other))
            for our_row, their_row in zip(ours, theirs, strict=True):
                differences += [
                    name for task in ("verb_output", "noun_output") if not torch.equal(our_row[task], their_row[task])
                ]
    return differences


# With special options in the slow tier only; a plain sweep makes the same promise.
CUTS = [
    pytest.param(options, number, id=f"{' '.join(options) or 'plain'}-{number.name}", marks=marks)
    for options in MOMENTS
    for number, marks in ((number, pytest.mark.slow if options else ()) for number in (signal.SIGKILL, signal.SIGINT))
]


@pytest.mark.parametrize(("options", "number"), CUTS)
def test_a_sweep_that_is_cut_off_again_and_again_ends_as_an_unbroken_one(
    number, options, larger_synthetic, unbroken_sweep, tmp_path
):
    folder, expected = tmp_path / "runs" / "sweep", unbroken_sweep(*options)
    arguments = _arguments(larger_synthetic, tmp_path / "runs", *options)
    ends = {path.parent.name: len(read_metrics(path)) for path in expected.glob("*/metrics.csv")}
    end_times = {}
    for description, moment in MOMENTS[options].items():
        code, log = cut_off_at(arguments, number, lambda moment=moment: moment(folder), tmp_path / description)
        assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130), f"{description}: {log}"
        assert "Traceback" not in log
        assert end_times.items() <= (end_times := _end_times(folder, ends)).items(), (
            f"trained again before: {description}"
        )
    _finish(arguments)
    assert end_times.items() <= _end_times(folder, ends).items()
    assert _differences(folder, expected) == []


@pytest.mark.parametrize("file_name", ["halving.json", "val_predictions.pt"])
def test_a_sweep_whose_files_are_lost_writes_them_again(file_name, larger_synthetic, unbroken_sweep, tmp_path):
    arguments, folder = _arguments(larger_synthetic, tmp_path / "runs", "--halving"), tmp_path / "runs" / "sweep"
    _finish(arguments)
    for path in folder.rglob(file_name):
        path.unlink()
    _finish(arguments)
    assert _differences(folder, unbroken_sweep("--halving")) == []


# ---- a run that stops on its way, as those of such a sweep do


@pytest.mark.parametrize("stops", [(1,), (3, 5), (2, 4, 7)], ids=str)
def test_a_run_that_stops_on_its_way_and_goes_on_ends_as_one_that_does_not(stops, train_data, tmp_path):
    config = make_config("mean_pool", {"dropout": 0.5}, {"epochs": 7, "batch_size": 8, "ema": 0.9, "mixup": 0.2})
    for until in stops:
        outcome = fit(config, train_data, tmp_path / "a", device=torch.device("cpu"), until=until)
        assert len(read_metrics(tmp_path / "a" / "metrics.csv")) == until
        assert outcome.best_epoch <= until
        assert (tmp_path / "a" / "val_predictions.pt").is_file() == (until == 7)
    # Asked for less than is there, it does nothing.
    fit(config, train_data, tmp_path / "a", device=torch.device("cpu"), until=1)
    assert len(read_metrics(tmp_path / "a" / "metrics.csv")) == stops[-1]
    fit(config, train_data, tmp_path / "a", device=torch.device("cpu"))
    fit(config, train_data, tmp_path / "b", device=torch.device("cpu"))
    assert _differences(tmp_path / "a", tmp_path / "b") == []


def test_what_is_read_of_metrics_is_what_was_measured(train_data, tmp_path):
    config = make_config("mean_pool", {}, {"epochs": 3, "batch_size": 8})
    rows = []
    fit(config, train_data, tmp_path, device=torch.device("cpu"), show=lambda row: rows.append(dict(row)))
    for stored_row, row in itertools.zip_longest(read_metrics(tmp_path / "metrics.csv"), rows):
        assert stored_row == {name: value for name, value in row.items() if name != "seconds"}
