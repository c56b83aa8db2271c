"""Run folders: where they are, which of them are seeds of one run, their records and predictions. Knows no model."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from features.annotations import SplitFiles
from features.errors import DataError, first_few
from features.files import read_json, unreadable, write_json, write_text
from features.predictions import Predictions, read_predictions
from heads.config import with_current_names
from heads.prediction_files import read_named

CONFIG, METRICS = "config.json", "metrics.csv"
PREDICTIONS = {"validation": "val_predictions.pt", "test": "test_predictions.pt", "train": "train_predictions.pt"}
# Written by `heads predict --tta`: means over views, and over windows that are moved in time.
TTA_PREDICTIONS = {
    "validation": "val_tta_predictions.pt",
    "test": "test_tta_predictions.pt",
    "train": "train_tta_predictions.pt",
}
_SEED = re.compile(r"-seed\d+$")

# Settings that older runs were trained with without a record of them.
_UNRECORDED = {
    "bias": "zero",
    "select": "action",
    **{"action_head": False, "actions": "train", "action_head_weight": 1.0},
}
# What older runs do not record of their inputs, so that it cannot be compared.
_RECORDED_LATER = ("times_digest", "teacher_sha256", "featureset_views")
_NO_FILES = SplitFiles(None, None, None)


@dataclass(frozen=True)
class RunRecord:
    """The config.json of a run or an ensemble.

    Attributes:
        values: the whole file, with the settings by their current names; empty where there is no file.
        head: name of the head; None for an ensemble.
        files: the annotation files that the run was trained with.
        split: how they were split into training and validation, such as "official" or "fold:0/5".
        features, digests: the feature sets, and the digest of each.
        labels_digest: digest of the labels that it was trained and validated on.
        epochs, patience: as planned; None where they are not recorded.
        select: how the epoch is chosen whose weights are kept.
        members, ensemble: of an ensemble, its members and the settings that it was made with.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    head: str | None = None
    files: SplitFiles = _NO_FILES
    split: str = "official"
    features: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    labels_digest: str | None = None
    epochs: int | None = None
    patience: int | None = None
    select: str = "action"
    members: tuple[str, ...] | None = None
    ensemble: Mapping[str, Any] | None = None

    @property
    def is_ensemble(self) -> bool:
        """Whether `heads ensemble` wrote it."""
        return self.members is not None


def read_record(folder: Path) -> RunRecord:
    """Read the config.json of a run folder; an empty record where there is none, as beside a predictions file.

    Raises:
        DataError: it is damaged.
    """
    path = Path(folder) / CONFIG
    values = read_json(path) if path.is_file() else {}
    remedy = "; delete its folder."
    if not isinstance(values, dict):
        raise DataError(f"{path}: not the configuration of a run{remedy}")
    values = with_current_names(values)
    if "head" in values:
        values = {**_UNRECORDED, **values}

    def texts(key: str) -> tuple[str, ...]:
        listed = values.get(key) or []
        if not isinstance(listed, list):
            raise DataError(f"{path}: {key} is {listed!r}, not a list{remedy}")
        return tuple(str(text) for text in listed)

    csv_files = {split: values.get(f"{split}_csv") for split in ("train", "validation", "test")}
    return RunRecord(
        values=values,
        head=values.get("head"),
        files=SplitFiles(**{split: Path(file) if file else None for split, file in csv_files.items()}),
        split=values.get("split", "official"),
        features=texts("features"),
        digests=texts("featureset_digests"),
        labels_digest=values.get("labels_digest"),
        epochs=values.get("epochs"),
        patience=values.get("patience"),
        select=values.get("select", "action"),
        members=texts("members") if "members" in values else None,
        ensemble=values.get("recipe"),  # the key was chosen when the settings were called so
    )


def run_folder(runs: Path, name: str, seed: int) -> Path:
    """Return the folder of one seed of a run."""
    return Path(runs) / f"{name}-seed{seed}"


def group_of(folder: Path) -> str:
    """Return the name that the seeds of a run share.

    >>> group_of(Path("runs/bilstm-seed3"))
    'bilstm'
    """
    return _SEED.sub("", Path(folder).name)


def is_ensemble(folder: Path) -> bool:
    """Whether a folder was written by `heads ensemble`."""
    return read_record(folder).is_ensemble


def find_runs(runs: Path) -> list[Path]:
    """Return the finished runs in a folder, sorted, without ensembles.

    Raises:
        DataError: there is none.
    """
    return [folder for folder in _need_some(runs, _with_any(runs, PREDICTIONS.values())) if not is_ensemble(folder)]


def find_predicted(runs: Path) -> list[Path]:
    """Return the folders in a folder that hold predictions for validation: runs, then ensembles.

    Raises:
        DataError: there is none.
    """
    return sorted(_need_some(runs, _with_any(runs, [PREDICTIONS["validation"]])), key=is_ensemble)


def find_reported(runs: Path) -> list[Path]:
    """Return all runs and ensembles in a folder, and in folders of runs in it, such as a sweep's.

    That is what `find_predicted` finds, and runs that are not finished but have rows in metrics.csv.

    Raises:
        DataError: there is none.
    """
    folders = [Path(runs), *sorted(path for path in Path(runs).glob("*") if _is_folder_of_runs(path))]
    names = (PREDICTIONS["validation"], METRICS)
    return _need_some(runs, [run for folder in folders for run in sorted(_with_any(folder, names), key=is_ensemble)])


def _need_some(runs: Path, folders: list[Path]) -> list[Path]:
    if not folders:
        raise DataError(f"{runs}: no finished runs in it; train some first (heads train --head ...).")
    return folders


def _with_any(runs: Path, names: Iterable[str]) -> list[Path]:
    return sorted({path.parent for name in names for path in Path(runs).glob(f"*/{name}")})


def runs_of(sources: Sequence[Path], find: Callable[[Path], list[Path]]) -> list[Path]:
    """Return the sources, with each folder of runs replaced by the runs that `find` returns for it.

    Raises:
        DataError: a source is missing, or is a folder without finished runs.
    """
    need_existing(sources)
    return [run for source in sources for run in (find(source) if _is_folder_of_runs(source) else [source])]


def need_existing(sources: Sequence[Path]) -> None:
    """Raise DataError, with the names, if runs or files are missing."""
    absent = [str(source) for source in sources if not source.exists()]
    if absent:
        raise DataError(f"{first_few(absent)}: no such run or file.")


def _is_folder_of_runs(source: Path) -> bool:
    return source.is_dir() and not any((source / name).is_file() for name in (CONFIG, *PREDICTIONS.values()))


def find_last_ensemble(runs: Path) -> Path:
    """Return the ensemble in a folder that was written last.

    Raises:
        DataError: there is none.
    """
    configs = [path for path in Path(runs).glob(f"*/{CONFIG}") if is_ensemble(path.parent)]
    if not configs:
        raise DataError(f"{runs}: no ensemble in it; make one (heads ensemble), or name a run.")
    return max(configs, key=lambda path: (path.stat().st_mtime, path.parent.name)).parent


def has_predictions(source: Path, split: str, *, tta: bool = False) -> bool:
    """Whether `predictions_of` finds predictions; a predictions file is taken for one of validation."""
    names = TTA_PREDICTIONS if tta else PREDICTIONS
    return (source / names[split]).is_file() if source.is_dir() else split == "validation"


def predictions_of(source: Path, split: str, *, tta: bool = False, kind: str | None = None) -> Predictions:
    """Read the predictions of a run folder for a split ("validation" or "test"), or those of a predictions file.

    Args:
        tta: of a run, its predictions with test-time augmentation.
        kind: of a file, what its scores are, "logits" or "probabilities"; None where they tell themselves.

    Raises:
        DataError: the run has none for this split, or the file does not hold predictions.
    """
    source = Path(source)
    if not source.is_dir():
        return read_named(source, kind).predictions
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
    """Write config.json into a new run folder, or check that the one in it describes the same run.

    Args:
        record: what identifies the run.
        origin: where its data are stored; that may change.

    Raises:
        DataError: the folder holds another run.
    """
    path = folder / CONFIG
    if not path.is_file():
        write_json(path, {**record, **origin})
        return
    stored = read_record(folder).values
    unknown = {name: record[name] for name in _RECORDED_LATER if name in record and name not in stored}
    differing = [name for name in record if name not in unknown and stored.get(name) != record[name]]
    if differing:
        changes = "; ".join(f"{name} {stored.get(name)!r} there, {record[name]!r} now" for name in differing)
        raise DataError(f"{folder}: holds another run ({changes}); give this one a --name, or delete the folder.")
    # The same annotations and features in another folder, or a new test list; or a run of an older version.
    current = {**stored, **unknown, **origin}
    if current != stored:
        write_json(path, current)


def selected_epoch(history: Sequence[Mapping[str, float]], select: str) -> int:
    """Return the epoch (from 1) whose weights a run keeps.

    Args:
        history: the rows of metrics.csv.
        select: "action", the highest action accuracy on validation, the first of equals; "loss", the lowest loss on
            validation; "last", and without validation, the last epoch.
    """
    if select == "last" or "val_action_top1" not in history[-1]:
        return len(history)
    column, sign = ("val_loss", 1) if select == "loss" else ("val_action_top1", -1)
    return 1 + min(range(len(history)), key=lambda index: sign * history[index][column])


def kept_epoch(folder: Path) -> int | None:
    """Return the epoch (from 1) whose weights a run keeps; None for an ensemble or a file."""
    path = Path(folder) / METRICS
    return selected_epoch(read_metrics(path), read_record(folder).select) if path.is_file() else None


def write_metrics(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write metrics.csv, a row per epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read metrics.csv, a row per epoch; the numbers are those that were written, to the last bit.

    Raises:
        DataError: it cannot be read, or is not a table of numbers with an epoch and a loss.
    """
    # Not by pandas: its newest version is about to drop float_precision="round_trip", and all of them cut a long first
    # row short with no more than a warning.
    remedy = "; delete its folder to train the run again."
    try:
        header, *rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines())) or [[]]
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, csv.Error) as error:
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
