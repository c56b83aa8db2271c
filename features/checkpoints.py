"""Checkpoints that others published, as `torch.save` writes them, read without running code from them.

`torch.load` with weights_only=True refuses most of them, as they hold a program's settings beside the weights. Here
everything but tensors and plain values becomes a stand-in (features/pickles.py). Our own files are read by
features/tensors.py.
"""

from __future__ import annotations

import io
import math
import mmap
import re
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from features.pickle_machine import Known, Machine, StandIn
from features.pickles import data_machine, mapped, refused_in_one_line

_ZIP_HEADER = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch.save before 1.6 begins with it


def read_published(path: Path, *, name: str | None = None) -> Any:
    """Read a file of torch.save, or a plain pickle: tensors, plain values, and stand-ins for everything else.

    Tensors of a zip file, which torch.save writes since 1.6, stay in the file until they are used.

    Args:
        name: the name of the file in messages; by default its path.

    Raises:
        DataError: the file does not exist, is neither, or is damaged.
    """
    with refused_in_one_line(path, name=name), mapped(path) as file:
        return _read_zip(path, file) if file[:4] == _ZIP_HEADER else _read_legacy(file, len(file))


def _read_zip(path: Path, file: mmap.mmap) -> Any:
    with zipfile.ZipFile(path) as archive:
        records = {record.filename: record for record in archive.infolist()}
        folders = [match[1] for name in records if (match := re.fullmatch(r"([^/]+/)data\.pkl", name))]
        if len(folders) != 1:
            raise ValueError("a zip file, but not of torch.save")
        if any(record.compress_type != zipfile.ZIP_STORED for record in records.values()):
            raise ValueError("a compressed zip file, which torch.save does not write")
        order = records.get(f"{folders[0]}byteorder")
        if order is not None and archive.read(order) != sys.byteorder.encode():
            raise ValueError("its numbers are in another byte order than those of this machine")
        whole = torch.UntypedStorage.from_file(str(path), False, len(file))

        def data(key: str, num_bytes: int) -> torch.UntypedStorage:
            record = records.get(f"{folders[0]}data/{key}")
            if record is None:
                raise ValueError(f"its tensor data {key!r} are missing")
            start = _start_of(record, file)
            if num_bytes > record.file_size or start + num_bytes > len(file):
                raise ValueError(f"its tensor data {key!r} are cut short")
            return whole[start : start + num_bytes] if num_bytes else torch.UntypedStorage(0)

        return _machine(data).run(io.BytesIO(archive.read(f"{folders[0]}data.pkl")))


def _start_of(record: zipfile.ZipInfo, file: mmap.mmap) -> int:
    """Return where the data of a record begin in its file: behind a header of 30 bytes, its name and extra bytes."""
    header = file[record.header_offset : record.header_offset + 30]
    if header[:4] != _ZIP_HEADER:
        raise ValueError("its table of contents is damaged")
    return record.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _read_legacy(file: mmap.mmap | io.BytesIO, size: int) -> Any:
    """Read what torch.save wrote before 1.6: pickles, and the data of all tensors behind them. Or a plain pickle."""
    content = data_machine({**_TORCH, "torch.storage._load_from_bytes": Known(_pickled_storage)}).run(file)
    if not isinstance(content, int) or content != _LEGACY_MAGIC:
        return content  # a plain pickle
    _, info = data_machine().run(file), data_machine().run(file)
    if not isinstance(info, dict) or info.get("little_endian") is not (sys.byteorder == "little"):
        raise ValueError("its numbers are in another byte order than those of this machine")
    buffers: dict[str, torch.Tensor] = {}

    def data(key: str, num_bytes: int) -> torch.UntypedStorage:
        if key not in buffers:
            if sum(map(len, buffers.values())) + num_bytes > size:
                raise ValueError("its tensors are larger than the file")
            buffers[key] = torch.empty(num_bytes, dtype=torch.uint8)
        return buffers[key].untyped_storage()

    content = _machine(data).run(file)
    keys = data_machine().run(file)
    if not all(isinstance(key, str) for key in keys) or set(keys) != set(buffers):
        raise ValueError("some of its tensors have no data")
    for key in keys:
        buffer = buffers[key]
        file.read(8)  # the number of values
        part = file.read(len(buffer))
        if len(part) != len(buffer):
            raise ValueError("its tensors are cut short")
        buffer.numpy()[:] = memoryview(part)
    return content


# ---- tensors


@dataclass(frozen=True)
class _StorageType:
    """The type of the values in a storage; None for mere bytes, where each tensor names its own."""

    dtype: torch.dtype | None


@dataclass(frozen=True, eq=False)
class _Storage:
    """The bytes that tensors are parts of."""

    data: torch.UntypedStorage
    dtype: torch.dtype | None


def _machine(data: Callable[[str, int], torch.UntypedStorage]) -> Machine:
    """Return a machine that makes tensors; `data` returns the bytes of a key, at least as many as it is asked for."""

    def referred(reference: Any) -> object:
        if isinstance(reference, tuple) and reference[:1] == ("module",):  # a class, with its source
            return StandIn("a class")
        if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
            raise ValueError("it refers to objects outside of it that are no tensors")
        _, kind, key, _, num_values, *view = reference
        if not (isinstance(kind, _StorageType) and isinstance(key, str) and _are_counts(num_values)):
            raise ValueError("it refers to tensors in an unknown way")
        if any(part is not None for part in view):
            raise ValueError("it has tensors in a form that torch no longer writes")
        return _Storage(data(key, num_values * (_size_of(kind.dtype) if kind.dtype else 1)), kind.dtype)

    return data_machine(_TORCH, persistent=referred)


def _pickled_storage(content: object) -> object:
    """Return the storage of a tensor in a plain pickle, which has it as a file of torch.save in a file."""
    if not isinstance(content, bytes):
        raise ValueError("it has a tensor without data")
    storage = _read_legacy(io.BytesIO(content), len(content))
    if not isinstance(storage, _Storage):
        raise ValueError("it has a tensor without data")
    return storage


def _size_of(dtype: torch.dtype) -> int:
    return torch.empty(0, dtype=dtype).element_size()


def _are_counts(*numbers: object) -> bool:
    return all(type(number) is int and number >= 0 for number in numbers)


def _tensor(storage: object, offset: int, size: Any, stride: Any, *_: object) -> torch.Tensor:
    return _part(storage, storage.dtype if isinstance(storage, _Storage) else None, offset, size, stride)


def _typed_tensor(storage: object, offset: int, size: Any, stride: Any, *options: object) -> torch.Tensor:
    return _part(storage, options[2], offset, size, stride)  # after two that do not matter here


def _part(storage: object, dtype: object, offset: int, size: Any, stride: Any) -> torch.Tensor:
    """Return the tensor of some shape and strides that begins at a value of a storage."""
    if not isinstance(storage, _Storage) or not isinstance(dtype, torch.dtype):
        raise ValueError("it has a tensor without data")
    if not _are_counts(offset, *size, *stride) or len(size) != len(stride):
        raise ValueError("it has a tensor without a shape")
    num_values = math.prod(size)
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    # Checked here, as torch would enlarge the data. Repeated values (a stride of 0) would need memory once copied.
    if num_values and max(num_values, last + 1) * _size_of(dtype) > len(storage.data):
        raise ValueError("it has a tensor that is larger than its data")
    is_aligned = storage.data.data_ptr() % _size_of(dtype) == 0
    return torch.empty(0, dtype=dtype).set_(storage.data if is_aligned else storage.data.clone(), offset, size, stride)


def _of_class(function: object, _: object, arguments: Any, *__: object) -> object:
    """Return a tensor of a subclass as a tensor."""
    return function.call(*arguments) if isinstance(function, Known) else StandIn("torch.Tensor")


_TYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexDouble": torch.complex128,
    "ComplexFloat": torch.complex64,
    "Untyped": None,
}
_TORCH: dict[str, object] = {
    "torch._utils._rebuild_tensor": Known(_tensor),
    "torch._utils._rebuild_tensor_v2": Known(_tensor),
    "torch._utils._rebuild_tensor_v3": Known(_typed_tensor),
    "torch._utils._rebuild_parameter": Known(lambda tensor, *_: tensor),
    "torch._utils._rebuild_parameter_with_state": Known(lambda tensor, *_: tensor),
    "torch._tensor._rebuild_from_type_v2": Known(_of_class),
    "torch.Size": Known(lambda sizes=(): tuple(sizes)),
    **{f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
    **{
        f"{module}.{name}Storage": _StorageType(dtype)
        for module in ("torch", "torch.cuda", "torch.storage")
        for name, dtype in _TYPES.items()
    },
}
