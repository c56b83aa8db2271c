"""Run folders: where they are, what belongs together, what they predict. Knows no model."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from features.errors import DataError, first_few
from features.files import read_json, write_json, write_text
from features.predictions import Predictions, read_predictions
from heads.config import with_current_names

CONFIG, METRICS = "config.json", "metrics.csv"
PREDICTIONS = {"validation": "val_predictions.pt", "test": "test_predictions.pt", "train": "train_predictions.pt"}
# What heads predict --tta writes beside these: means over views and over windows that are moved.
TTA_PREDICTIONS = {
    "validation": "val_tta_predictions.pt",
    "test": "test_tta_predictions.pt",
    "train": "train_tta_predictions.pt",
}
_SEED = re.compile(r"-seed\d+$")


def run_folder(runs: Path, name: str, seed: int) -> Path:
    """Give the folder of one seed of a run."""
    return Path(runs) / f"{name}-seed{seed}"


def group_of(folder: Path) -> str:
    """Give what the seeds of a run share: its name without the seed.

    >>> group_of(Path("runs/bilstm-seed3"))
    'bilstm'
    """
    return _SEED.sub("", Path(folder).name)


def is_ensemble(folder: Path) -> bool:
    """Whether a folder was written by `heads ensemble`."""
    path = Path(folder) / CONFIG
    return path.is_file() and "members" in read_config(folder)


def read_config(folder: Path) -> dict[str, Any]:
    """Read a run's config.json; an empty record where there is none.

    Raises:
        DataError: it is damaged.
    """
    path = Path(folder) / CONFIG
    config = read_json(path) if path.is_file() else {}
    if not isinstance(config, dict):
        raise DataError(f"{path}: not the configuration of a run; delete its folder.")
    return with_current_names(config)


def find_runs(runs: Path) -> list[Path]:
    """Give the finished runs below a folder that are no ensembles, sorted.

    Raises:
        DataError: there is none.
    """
    return [folder for folder in _finished(runs, PREDICTIONS.values()) if not is_ensemble(folder)]


def find_predicted(runs: Path) -> list[Path]:
    """Give everything below a folder that predicts validation: runs, then ensembles.

    Raises:
        DataError: there is nothing.
    """
    return sorted(_finished(runs, [PREDICTIONS["validation"]]), key=is_ensemble)


def find_reported(runs: Path) -> list[Path]:
    """Give everything below a folder, and below folders of runs in it (a sweep's), that has been trained or predicts.

    That is what `find_predicted` finds, and runs that are not finished but have rows in metrics.csv.

    Raises:
        DataError: there is nothing.
    """
    folders = [runs, *sorted(path for path in Path(runs).glob("*") if _is_folder_of_runs(path))]
    names = (PREDICTIONS["validation"], METRICS)
    return _need(runs, [one for folder in folders for one in sorted(_with_any(folder, names), key=is_ensemble)])


def _finished(runs: Path, names: Iterable[str]) -> list[Path]:
    return _need(runs, _with_any(runs, names))


def _need(runs: Path, found: list[Path]) -> list[Path]:
    if not found:
        raise DataError(f"{runs}: no finished runs in it; train some first (heads train --head ...).")
    return found


def _with_any(runs: Path, names: Iterable[str]) -> list[Path]:
    return sorted({path.parent for name in names for path in Path(runs).glob(f"*/{name}")})


def runs_of(sources: Sequence[Path], find: Callable[[Path], list[Path]]) -> list[Path]:
    """Give sources, with a folder of runs among them replaced by what `find` finds in it.

    Raises:
        DataError: one is not there, or is a folder without finished runs.
    """
    absent = [str(source) for source in sources if not source.exists()]
    if absent:
        raise DataError(f"{first_few(absent)}: no such run or file.")
    return [one for source in sources for one in (find(source) if _is_folder_of_runs(source) else [source])]


def _is_folder_of_runs(source: Path) -> bool:
    return source.is_dir() and not any((source / name).is_file() for name in (CONFIG, *PREDICTIONS.values()))


def find_last_ensemble(runs: Path) -> Path:
    """Give the ensemble that was written last below a folder.

    Raises:
        DataError: there is none.
    """
    configs = [path for path in Path(runs).glob(f"*/{CONFIG}") if is_ensemble(path.parent)]
    if not configs:
        raise DataError(f"{runs}: no ensemble in it; make one (heads ensemble), or name a run.")
    return max(configs, key=lambda path: (path.stat().st_mtime, path.parent.name)).parent


def predictions_of(source: Path, split: str, *, tta: bool = False) -> Predictions:
    """Read the predictions of a run folder for a split ("validation" or "test"), or of a predictions file.

    Args:
        tta: of a run, those that are averaged over views.

    Raises:
        DataError: the run has none for this split, or the file is not one of predictions.
    """
    source = Path(source)
    if not source.is_dir():
        return read_predictions(source)
    path = source / (TTA_PREDICTIONS if tta else PREDICTIONS)[split]
    if path.is_file():
        return read_predictions(path)
    remedy = (
        f"heads predict {source} --tta writes them."
        if tta
        else "Extract the features of that list and run the same heads train again: it trains nothing twice, and "
        "predicts what is new."
    )
    raise DataError(f"{source}: no predictions for {split} in it ({path.name}). {remedy}")


def claim(folder: Path, record: Mapping[str, Any], origin: Mapping[str, Any]) -> None:
    """Write config.json into a new run folder, or check that the one there says the same.

    Args:
        record: what makes the run this one.
        origin: where its data lies; that may change.

    Raises:
        DataError: the folder holds another run.
    """
    path = folder / CONFIG
    if not path.is_file():
        write_json(path, {**record, **origin})
        return
    there = read_config(folder)
    differing = [name for name in record if there.get(name) != record[name]]
    if differing:
        changes = "; ".join(f"{name} {there.get(name)!r} there, {record[name]!r} now" for name in differing)
        raise DataError(f"{folder}: holds another run ({changes}); give this one a --name, or delete the folder.")
    if {**there, **origin} != there:  # the same annotations and features, elsewhere, or a new test list
        write_json(path, {**there, **origin})


def write_metrics(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write metrics.csv, a row an epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read metrics.csv, a row an epoch; the figures are those that were written, to the last bit.

    Raises:
        DataError: it cannot be read, or is not a table of numbers with an epoch and a loss.
    """
    remedy = "; delete its folder to train the run again."
    try:
        header, *rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines())) or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}){remedy}") from error
    missing = [name for name in ("epoch", "train_loss") if name not in header]
    if missing or not rows:
        raise DataError(f"{path}: {f'no column {missing[0]}' if missing else 'no epoch'} in it{remedy}")
    history = []
    for line, row in enumerate(rows, start=2):
        try:
            history.append({name: float(text) for name, text in zip(header, row, strict=True)})
        except ValueError as error:
            raise DataError(f"{path}, row {line}: not {len(header)} numbers{remedy}") from error
    return history
