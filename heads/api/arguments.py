"""Plain values, as a notebook has them, in the types that the rest of heads/ works with."""

from __future__ import annotations

import dataclasses
import numbers
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from features.annotations import SplitFiles, find_splits
from features.device import choose_device
from features.errors import OptionError, unknown_name
from heads.config import GROUPS, TrainConfig, kind_of, parse_seeds, with_current_names
from heads.data.load import TrainData, find_featuresets, load_train_data
from heads.runs import runs_of

AnyPath = str | os.PathLike[str]


def optional_path(given: AnyPath | None) -> Path | None:
    """Return a path, or None where none is given."""
    return None if given is None else Path(given)


def paths_of(given: AnyPath | Sequence[AnyPath]) -> list[Path]:
    """Return one or several paths as a list."""
    return [Path(given)] if isinstance(given, str | os.PathLike) else [Path(path) for path in given]


def sources_of(given: Sequence[AnyPath], runs: AnyPath, find: Callable[[Path], list[Path]]) -> list[Path]:
    """Return the runs that are meant: those given, with folders of runs replaced by the runs in them, or all."""
    return runs_of(paths_of(given), find) if given else find(Path(runs))


def texts_of(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return one or several texts as a tuple."""
    return (given,) if isinstance(given, str) else tuple(given)


def split_files(annotations: AnyPath, **given: AnyPath | None) -> SplitFiles:
    """Return the CSV file of each split: those given, and for the others the published ones in `annotations`."""
    return find_splits(Path(annotations), **{split: optional_path(csv) for split, csv in given.items()})


def data_loader(
    features: AnyPath | Sequence[AnyPath], files: SplitFiles, *, allow_missing: bool, memory: float | None, device: str
) -> Callable[[TrainConfig], TrainData]:
    """Return the function that loads the data of a configuration. `memory` is in gigabytes.

    Raises:
        OptionError: `memory` is negative, or the device is unknown or missing.
        DataError: a feature set is missing.
    """
    if memory is not None and not memory >= 0:  # NaN as well
        raise OptionError("--memory", f"{memory} is no number of gigabytes.")
    return partial(
        load_train_data,
        find_featuresets(paths_of(features)),
        files,
        allow_missing=allow_missing,
        device=choose_device(device),
        memory_bytes=None if memory is None else memory * 1e9,
    )


def seeds_of(given: str | int | Iterable[int]) -> list[int]:
    """Return the seeds that are meant by a text, a number or a sequence of numbers.

    >>> seeds_of("0-2"), seeds_of(3), seeds_of(range(2))
    ([0, 1, 2], [3], [0, 1])

    Raises:
        OptionError: a seed is not a whole number, or stands twice.
    """
    if isinstance(given, str | int):
        return parse_seeds(str(given))
    return parse_seeds(",".join(str(seed) for seed in given))


def settings_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by name as heads/config.py takes them: a single text as a list of texts, an integer as a float.

    Raises:
        OptionError: a setting is unknown, or its value is of another type.
    """
    known = {setting.name: setting for record in GROUPS.values() for setting in dataclasses.fields(record)}
    settings = {}
    for name, value in with_current_names(given).items():
        if name not in known:
            raise unknown_name(None, "setting", name, known)
        settings[name] = _value_of(known[name], value)
    return settings


def _value_of(setting: dataclasses.Field[Any], value: Any) -> Any:
    """Return a setting's value in its type; None only where that is its default."""
    kind = kind_of(setting)
    if value is None and setting.default is None:
        return None
    if kind is tuple:
        return (value,) if isinstance(value, str) else tuple(value)
    if kind is str or (kind is bool and isinstance(value, bool)):
        return kind(value)
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if is_number and kind is not bool and (kind is float or float(value).is_integer()):
        return kind(value)
    expected = {int: "a whole number", bool: "True or False"}.get(kind, "a number")
    raise OptionError(f"--{setting.name.replace('_', '-')}", f"{value!r} is not {expected}.")
