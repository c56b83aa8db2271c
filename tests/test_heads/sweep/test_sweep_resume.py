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
from synthetic import Synthetic, write_synthetic

from features.files import read_json
from heads.cli import main
from heads.config import make_config
from heads.runs import read_metrics
from heads.training.fit import fit

EPOCHS, RUNGS = 40, (10, 20)
GRID = ("--grid", "lr=1e-4,1e-3,1e-2", "loss=ce,focal")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Synthetic:
    return write_synthetic(tmp_path_factory.mktemp("dataset"), train=40, validation=12, test=4)


def _arguments(dataset: Synthetic, runs: Path, *more: str) -> list[str]:
    size = ("--head", "mean_pool:dropout=0.4", "--epochs", EPOCHS, "--batch-size", 8, "--device", "cpu")
    places = ("--features", dataset.features, "--annotations", dataset.annotations, "--runs", runs)
    return [str(word) for word in ("sweep", *GRID, *size, *places, *more)]


def _finish(arguments: list[str]) -> None:
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 0, ran.output


@pytest.fixture(scope="module")
def unbroken(dataset, tmp_path_factory) -> Callable[..., Path]:
    """The folder of a sweep with these options that ran in one go."""
    made = {}

    def sweep(*options: str) -> Path:
        if options not in made:
            runs = tmp_path_factory.mktemp("unbroken")
            _finish(_arguments(dataset, runs, *options))
            made[options] = runs / "sweep"
        return made[options]

    return sweep


# ---- when it is cut off


def _num_rows(folder: Path) -> list[int]:
    return [path.read_text().count("\n") - 1 for path in folder.glob("*/metrics.csv")]


def _decided(folder: Path) -> set[int]:
    path = folder / "halving.json"
    return {one["epoch"] for one in read_json(path)} if path.is_file() else set()


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
        "the first rung is decided": lambda folder: RUNGS[0] in _decided(folder),
        "within the second stretch": lambda folder: max(_num_rows(folder)) > RUNGS[0] + 3,
        "the second rung is decided": lambda folder: RUNGS[1] in _decided(folder),
        "within the last stretch": lambda folder: max(_num_rows(folder)) > RUNGS[1] + 3,
        "one run is finished": lambda folder: _num_finished(folder) > 0,
    },
}


def _trained(folder: Path, ends: dict[str, int]) -> dict[str, int]:
    """When those runs that have come as far as they ever will were last trained."""
    return {
        path.parent.name: path.with_name("last.pth").stat().st_mtime_ns
        for path in folder.glob("*/metrics.csv")
        if path.with_name("last.pth").is_file()
        and len(torch.load(path.with_name("last.pth"), weights_only=True)["history"]) == ends[path.parent.name]
    }


def _differing(folder: Path, other: Path) -> list[str]:
    """What of two sweeps is not the same to the last bit."""
    files = {str(path.relative_to(root)) for root in (folder, other) for path in root.rglob("*") if path.is_file()}
    same = {name for name in files if name.endswith((".csv", ".json")) and "config" not in name}
    different = [name for name in same if (folder / name).read_bytes() != (other / name).read_bytes()]
    for name in sorted(files):
        if name.endswith(("best_model.pth", "last.pth")):
            ours, theirs = (torch.load(root / name, weights_only=True)["model"] for root in (folder, other))
            assert ours.keys() == theirs.keys()
            different += [f"{name} {key}" for key in ours if not torch.equal(ours[key], theirs[key])]
        elif name.endswith("predictions.pt"):
            ours, theirs = (torch.load(root / name, weights_only=True) for root in (folder, other))
            for one, two in zip(ours, theirs, strict=True):
                different += [name for task in ("verb_output", "noun_output") if not torch.equal(one[task], two[task])]
    return different


# From the keyboard in full only where nothing else is special.
CUTS = [
    pytest.param(options, number, id=f"{' '.join(options) or 'plain'}-{number.name}", marks=marks)
    for options in MOMENTS
    for number, marks in ((signal.SIGKILL, ()), (signal.SIGINT, pytest.mark.slow if options else ()))
]


@pytest.mark.parametrize(("options", "number"), CUTS)
def test_a_sweep_that_is_cut_off_again_and_again_ends_as_an_unbroken_one(number, options, dataset, unbroken, tmp_path):
    folder, expected = tmp_path / "runs" / "sweep", unbroken(*options)
    arguments = _arguments(dataset, tmp_path / "runs", *options)
    ends = {path.parent.name: len(read_metrics(path)) for path in expected.glob("*/metrics.csv")}
    trained = {}
    for what, moment in MOMENTS[options].items():
        code, said = cut_off_at(arguments, number, lambda moment=moment: moment(folder), tmp_path / what)
        assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130), f"{what}: {said}"
        assert "Traceback" not in said
        assert trained.items() <= (trained := _trained(folder, ends)).items(), f"trained again before: {what}"
    _finish(arguments)
    assert trained.items() <= _trained(folder, ends).items()
    assert _differing(folder, expected) == []


@pytest.mark.parametrize("lost", ["halving.json", "val_predictions.pt"])
def test_a_sweep_whose_files_are_lost_writes_them_again(lost, dataset, unbroken, tmp_path):
    arguments, folder = _arguments(dataset, tmp_path / "runs", "--halving"), tmp_path / "runs" / "sweep"
    _finish(arguments)
    for path in folder.rglob(lost):
        path.unlink()
    _finish(arguments)
    assert _differing(folder, unbroken("--halving")) == []


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
    assert _differing(tmp_path / "a", tmp_path / "b") == []


def test_what_is_read_of_metrics_is_what_was_measured(train_data, tmp_path):
    config = make_config("mean_pool", {}, {"epochs": 3, "batch_size": 8})
    rows = []
    fit(config, train_data, tmp_path, device=torch.device("cpu"), show=lambda row: rows.append(dict(row)))
    for read, row in itertools.zip_longest(read_metrics(tmp_path / "metrics.csv"), rows):
        assert read == {name: value for name, value in row.items() if name != "seconds"}
