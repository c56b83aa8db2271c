"""Tables of pandas that others pickled, read without running code from them.

Whatever pandas and numpy would make is kept as it stands in the file: its parts, and its state. The columns are found
in these afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.pickle_machine import Known
from features.pickles import array_of, data_machine, mapped, refused_in_one_line, set_plain_state

_UNKNOWN = "it keeps its columns in a way that is not known here"
_MOST_COLUMNS = 10_000
_MOST_ROWS = 1 << 32


class _Kept:
    """An object as it stands in the file: its kind, what it was made of, and its state."""

    __slots__ = ("kind", "parts", "state")

    def __init__(self, kind: str, parts: tuple[Any, ...]) -> None:
        self.kind, self.parts = kind, parts
        self.state: Any = None


def read_frame(path: Path) -> pd.DataFrame:
    """Read a pickled DataFrame whose columns are numbers and texts.

    Raises:
        DataError: the file does not exist, is damaged, is no DataFrame, or has columns of other objects.
    """
    with refused_in_one_line(path), mapped(path) as file:
        frame = data_machine(_KNOWN, set_state=_keep_state).run(file)
        if not _is(frame, "frame") or not isinstance(frame.state, dict):
            raise ValueError("it is no DataFrame of pandas")
        (names, index), blocks = _parts_of(frame.state.get("_mgr", frame.state.get("_data")))
        columns: dict[str, Any] = {}
        for values, places in blocks:
            columns |= {str(names[place]): column for place, column in zip(places, _columns(values), strict=True)}
        return pd.DataFrame({str(name): columns[str(name)] for name in names}, index=index)


def _is(value: object, kind: str) -> bool:
    return isinstance(value, _Kept) and value.kind == kind


def _parts_of(manager: Any) -> tuple[list[list[Any] | range], list[tuple[Any, Sequence[int]]]]:
    """Return the names of columns and of rows, and the blocks of a table: values, and which columns they are."""
    if not _is(manager, "manager"):
        raise ValueError(_UNKNOWN)
    if manager.parts:
        blocks, axes = manager.parts
        found = [(block.parts[0], _places(block.parts[1])) for block in blocks if _is(block, "block")]
    else:  # before pandas 1.3
        content = manager.state[-1]["0.14.1"]
        axes, found = content["axes"], [(block["values"], _places(block["mgr_locs"])) for block in content["blocks"]]
    return [_names(axis) for axis in axes], found


def _places(places: Any) -> Sequence[int]:
    if _is(places, "placement"):
        return _places(places.parts[0])
    if _is(places, "slice"):
        return _range(*places.parts, most=_MOST_COLUMNS)
    return [int(place) for place in _array(places)]


def _names(axis: Any) -> list[Any] | range:
    """Return the values of an index."""
    if not _is(axis, "index"):
        raise ValueError(_UNKNOWN)
    _, content = axis.parts
    if "data" in content:
        return list(_array(content["data"]))
    return _range(content["start"], content["stop"], content["step"], most=_MOST_ROWS)


def _range(start: object, stop: object, step: object, *, most: int) -> range:
    """Return a range of numbers, if they are as few as a table may have."""
    step = 1 if step is None else step
    if not all(type(number) is int and 0 <= number <= most for number in (start, stop, step)):
        raise ValueError(_UNKNOWN)
    return range(start, stop, step)  # type: ignore[call-overload]


def _columns(values: Any) -> list[np.ndarray]:
    """Return the columns of a block, one after the other."""
    array = _array(values)
    return [array] if array.ndim == 1 else list(array)


def _array(value: Any) -> np.ndarray:
    """Return an array."""
    if _is(value, "strings"):  # a pair of a type and an array
        return _array(next(part for part in value.state if isinstance(part, (_Kept, np.ndarray))))
    if isinstance(value, np.ndarray):
        return value
    if not _is(value, "array"):
        raise ValueError(_UNKNOWN)
    _, shape, dtype, is_fortran, data = value.state
    return array_of(shape, dtype, is_fortran, data)


def _keep_state(target: object, state: object) -> None:
    if isinstance(target, _Kept):
        target.state = state
    else:
        set_plain_state(target, state)


def _kept(kind: str) -> Known:
    return Known(lambda *parts: _Kept(kind, parts))


_KNOWN: dict[str, object] = {
    **dict.fromkeys(("pandas.DataFrame", "pandas.core.frame.DataFrame"), _kept("frame")),
    **dict.fromkeys(
        ("pandas.core.internals.managers.BlockManager", "pandas.core.internals.BlockManager"), _kept("manager")
    ),
    **dict.fromkeys(
        ("pandas._libs.internals._unpickle_block", "pandas.core.internals.blocks.new_block"), _kept("block")
    ),
    "pandas._libs.internals.BlockPlacement": _kept("placement"),
    "pandas.core.indexes.base._new_Index": _kept("index"),
    "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked": _kept("strings"),
    **dict.fromkeys(("builtins.slice", "__builtin__.slice"), _kept("slice")),
    **dict.fromkeys(("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"), _kept("array")),
}
