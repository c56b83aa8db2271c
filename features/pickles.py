"""Pickle files that others published, read without running code from them.

Of what a pickle may hold, plain values and the arrays and numbers of numpy are read. Every other object becomes a
`StandIn`, which does nothing. features/checkpoints.py adds the tensors of torch.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import DataError
from features.pickle_machine import Known, Machine, StandIn, dict_of, flat_key


def read_pickle(path: Path) -> Any:
    """Read a pickle file: plain values and arrays of numpy; every other object in it is a `StandIn`. Runs no code.

    Raises:
        DataError: the file does not exist, is no pickle, is damaged, or has what only a program would need.
    """
    with refused_in_one_line(path), mapped(path) as file:
        return data_machine().run(file)


def read_list_of_bytes(path: Path) -> list[bytes]:
    """Read a pickle file that holds a list of bytes. Runs no code.

    Raises:
        DataError: as for `read_pickle`, or it holds anything else.
    """
    values = read_pickle(path)
    if not isinstance(values, list):
        raise DataError(f"{path}: holds {_kind(values)}, not a list of bytes.")
    for index, value in enumerate(values):
        if type(value) is not bytes:
            raise DataError(f"{path}: item {index} of its list is {_kind(value)}, not bytes.")
    return values


def _kind(value: object) -> str:
    return value.name if isinstance(value, StandIn) else type(value).__name__


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """Yield a file mapped into memory. Asked for terabytes by a damaged length, it gives only what it has."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


@contextlib.contextmanager
def refused_in_one_line(path: Path, *, name: str | None = None) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into a DataError of one line with its path, or another name."""
    name = name or str(path)
    if not path.is_file():
        raise DataError(f"{name}: no such file.")
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # damaged bytes lead to any error; the text of most of them would not help
        reason = str(error) if isinstance(error, (ValueError, OSError)) else "damaged or cut short"
        reason = "".join(character if character.isprintable() else " " for character in reason[:200])
        raise DataError(f"{name}: cannot be read as data alone ({reason}).") from error


def data_machine(
    known: Mapping[str, object] | None = None,
    *,
    persistent: Callable[[object], object] | None = None,
    set_state: Callable[[object, object], None] | None = None,
) -> Machine:
    """Return a machine for plain values and numpy, and for `known` names besides; see `Machine`."""
    return Machine({**_PLAIN, **_NUMPY, **(known or {})}, set_state=set_state or set_plain_state, persistent=persistent)


def set_plain_state(target: object, state: Any) -> None:
    """Set the state of an array of numpy or of its type; other objects have none here."""
    if isinstance(target, np.ndarray):
        _set_array(target, *state)
    elif isinstance(target, np.dtype):
        _set_byte_order(target, *state)


def _dict(content: Any = ()) -> dict[Any, Any]:
    """Return an OrderedDict or a Counter as a dictionary; its content is another one, or pairs."""
    return dict_of(content.items() if isinstance(content, dict) else content)


def _bytes(data: object = b"", *_: object) -> bytes:
    """Return bytes; protocol 2 has them as a text, of a character for each byte."""
    if not isinstance(data, (bytes, bytearray, str)):
        raise ValueError("it has bytes that are none")
    return data.encode("latin-1") if isinstance(data, str) else bytes(data)


_BUILTINS: dict[str, Callable[..., object]] = {
    "set": lambda items=(): set(map(flat_key, items)),
    "frozenset": lambda items=(): frozenset(map(flat_key, items)),
    "bytes": _bytes,
    "bytearray": lambda *data: bytearray(_bytes(*data)),
    "complex": complex,
}
_PLAIN: dict[str, object] = {
    "collections.OrderedDict": Known(_dict),
    "collections.Counter": Known(_dict),
    "collections.defaultdict": Known(lambda *_: {}),
    "_codecs.encode": Known(_bytes),
    # Python 3 and Python 2.
    **{f"{module}.{name}": Known(_BUILTINS[name]) for module in ("builtins", "__builtin__") for name in _BUILTINS},
}


# ---- numpy: numbers and texts; arrays of Python's objects are refused, except for numbers and texts


def _dtype(text: object, *_: object) -> object:
    if not isinstance(text, str) or not re.fullmatch(r"[<>|=]?([biufcSU]\d{1,9}|O8)", text):
        return StandIn("numpy.dtype")
    return np.dtype(text, copy=True)


def _set_byte_order(dtype: Any, _: object, order: object, *parts: object) -> None:
    if order not in ("<", ">", "|", "=") or any(part is not None for part in parts[:3]):
        raise ValueError("it has a type of numpy that is no number")
    size, alignment = (dtype.itemsize, dtype.alignment) if dtype.kind in "SU" else (-1, -1)
    dtype.__setstate__((3, order, None, None, None, size, alignment, dtype.flags))


def _set_array(array: Any, _: object, shape: Any, dtype: Any, is_fortran: object, data: object) -> None:
    has_objects = isinstance(dtype, np.dtype) and dtype.hasobject
    data = _plain_values(data, shape) if has_objects else _checked(data, dtype, shape)
    if array.size or array.base is not None:
        raise ValueError("it changes an array")
    array.__setstate__((1, shape, dtype, bool(is_fortran), data))


def array_of(shape: Any, dtype: Any, is_fortran: object, data: object) -> np.ndarray:
    """Return the array with a state that numpy has pickled; raise ValueError if its parts do not fit together."""
    array = np.empty(0, np.int8)
    _set_array(array, None, shape, dtype, is_fortran, data)
    return array


def _checked(data: object, dtype: object, shape: object) -> bytes:
    """Return the bytes of an array, if they are as many as its shape and type say."""
    data = _bytes(data)
    if not isinstance(dtype, np.dtype) or dtype.hasobject:  # bytes of it would be taken for addresses in memory
        raise ValueError("it has an array of objects")
    if _num_values(shape) * dtype.itemsize != len(data):
        raise ValueError("it has an array of another size than its data")
    return data


_PLAIN_TYPES = (str, bytes, int, float, bool, type(None))


def _plain_values(data: object, shape: object) -> list[Any]:
    """Return the values of an array of Python's objects, if all of them are numbers and texts, as in a table."""
    if not isinstance(data, list) or not all(type(value) in _PLAIN_TYPES for value in data):
        raise ValueError("it has an array of objects")
    if _num_values(shape) != len(data):
        raise ValueError("it has an array of another size than its data")
    return data


def _num_values(shape: object) -> int:
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("it has an array without a shape")
    return math.prod(shape)


def _scalar(dtype: object, data: object = b"") -> object:
    return np.frombuffer(_checked(data, dtype, ()), dtype)[0] if isinstance(dtype, np.dtype) else StandIn("numpy.dtype")


def _from_buffer(data: object, dtype: Any, shape: Any, order: object = "C") -> np.ndarray:
    array = np.frombuffer(_checked(data, dtype, shape), dtype).reshape(shape, order="F" if order == "F" else "C")
    return array.copy(order="K")


_FUNCTIONS: dict[str, Callable[..., object]] = {
    "multiarray.scalar": _scalar,
    "multiarray._reconstruct": lambda *_: np.empty(0, np.int8),
    "numeric._frombuffer": _from_buffer,
}
_NUMPY: dict[str, object] = {
    "numpy.dtype": Known(_dtype),
    # numpy 1 and numpy 2.
    **{f"numpy.{core}.{name}": Known(_FUNCTIONS[name]) for core in ("core", "_core") for name in _FUNCTIONS},
}
