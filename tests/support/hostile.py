"""Pickles that do no good: read by Python itself, they make a file, crash it or fill the memory."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path


class _Reduced:
    """Is pickled as a call of a function, followed by a state that is set."""

    def __init__(self, *reduced: object) -> None:
        self._reduced = reduced

    def __reduce__(self) -> tuple:
        return self._reduced


def _call(function: str, argument: str) -> bytes:
    """Return a pickle that calls a function of one text: GLOBAL, the text, TUPLE1, REDUCE."""
    module, name = function.split(":")
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + _text(argument) + b"\x85R."


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def _touch(path: Path) -> str:
    return f"open({str(path)!r}, 'w').close()"


# Name -> the pickle that makes the file at a path.
RUNNING: dict[str, Callable[[Path], bytes]] = {
    "os.system": lambda path: _call("os:system", f"touch {path}"),
    "posix.system by its other name": lambda path: _call("posix:system", f"touch {path}"),
    "builtins.exec": lambda path: _call("builtins:exec", _touch(path)),
    "builtins.eval": lambda path: _call("builtins:eval", f"open({str(path)!r}, 'w')"),
    "eval of Python 2": lambda path: _call("__builtin__:eval", f"open({str(path)!r}, 'w')"),
    "a reduce": lambda path: pickle.dumps(_Reduced(open, (str(path), "w"))),
    "a method": lambda path: pickle.dumps(_Reduced(Path.touch, (path,))),
    "INST": lambda path: b"(" + _text(f"touch {path}") + b"ios\nsystem\n.",
    "OBJ": lambda path: b"(cos\nsystem\n" + _text(f"touch {path}") + b"o.",
    "NEWOBJ": lambda path: b"\x80\x02chostile\n_Made\n" + _text(str(path)) + b"\x85\x81.",
    "NEWOBJ_EX": lambda path: b"\x80\x04chostile\n_Made\n)}" + _text("path") + _text(str(path)) + b"s\x92.",
    "a name on the stack": lambda path: (
        b"\x80\x04" + _text("builtins") + _text("exec") + b"\x93" + _text(_touch(path)) + b"\x85R."
    ),
    "a state that is set by code": lambda path: pickle.dumps(
        _Reduced(_SetsState, (), str(path))  # BUILD calls __setstate__
    ),
    "a list that code extends": lambda path: pickle.dumps(_Reduced(_Extended, (), None, iter([str(path)]))),
    "items that code sets": lambda path: pickle.dumps(_Reduced(_Extended, (), None, None, iter([(str(path), 1)]))),
}


class _Made:
    def __new__(cls, path: str) -> None:
        Path(path).touch()


class _SetsState:
    def __setstate__(self, state: str) -> None:
        Path(state).touch()


class _Extended:
    def extend(self, items: list[str]) -> None:
        Path(items[0]).touch()

    append = __setitem__ = lambda self, item, *_: Path(item).touch()


def _array(shape: bytes, kind: bytes, data: bytes) -> bytes:
    empty = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return empty + b"(K\x01" + shape + b"cnumpy\ndtype\nU\x02" + kind + b"\x85R\x89" + data + b"tb."


_TERA = bytes(5) + b"\x01"  # 2 ** 40, of six bytes


def _storage(key: str = "0", kind: str = "torch\nFloatStorage", length: bytes = b"K\x04") -> bytes:
    return b"(" + _text("storage") + f"c{kind}\n".encode() + _text(key) + _text("cpu") + length + b"tQ"


def _tensor(
    *, storage: bytes | None = None, offset: bytes = b"K\x00", size: bytes = b"K\x02", step: bytes = b"K\x01"
) -> bytes:
    parts = (storage or _storage()) + offset + size + b"\x85" + step + b"\x85\x89N"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + parts + b"tR."


TENSOR = _tensor()  # of two zeros; nothing is wrong with it
# What has to be refused for other reasons; none of them ends in a tensor.
MALFORMED: dict[str, bytes] = {
    "extension registry": b"\x80\x02\x82\x01.",
    "a state for a function that is known": (
        b"\x80\x02}("
        + _text("a")
        + b"ctorch._utils\n_rebuild_tensor_v2\nN}"
        + _text("__defaults__")
        + b"K\x01\x85s\x86bu."
    ),
    "tuples as deep as a stack": b"\x80\x02}K\x01" + b"\x85" * 1_000_000 + b"Ns.",
    "a list that holds itself": b"\x80\x02]q\x00h\x00a.",
    "a dictionary that holds itself": b"\x80\x02}q\x00(" + _text("model") + b"h\x00u.",
    "a memo of four billion places": b"\x80\x02Nr\xff\xff\xff\xff.",
    "bytes of an exabyte": b"\x80\x05\x8e" + struct.pack("<Q", 1 << 60) + b"few.",
    "a bytearray of a terabyte": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"few.",
    "a bytearray made by its length": b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + _TERA + b"\x85R.",
    "an array larger than its data": _array(b"\x8a\x06" + _TERA + b"\x85", b"f8", b"U\x08" + bytes(8)),
    "an array of objects": _array(b"K\x01\x85", b"O8", b"]Na"),
    "a tensor larger than its data": _tensor(size=b"\x8a\x06" + _TERA),
    "a tensor of one value a trillion times": _tensor(size=b"\x8a\x06" + _TERA, step=b"K\x00"),
    "a tensor before its data": _tensor(offset=b"J\xff\xff\xff\xff"),
    "a tensor with a step back": _tensor(offset=b"K\x03", step=b"J\xfe\xff\xff\xff"),
    "a tensor of a text": _tensor(storage=_text("0")),
    "a persistent id that is a text": b"P0\n.",
    "a persistent id of another kind": b"\x80\x02(" + _text("module") + b"cos\nsystem\nNNtQ.",
    "data in another folder": _tensor(storage=_storage(key="../../data/0")),
    "data of a negative length": _tensor(storage=_storage(length=b"J\xff\xff\xff\xff")),
    "data of a terabyte": _tensor(storage=_storage(length=b"\x8a\x06" + _TERA)),
    "data of a type that is none": _tensor(storage=_storage(kind="os\nsystem")),
    "a torch function that is not on the list": b"\x80\x02ctorch.serialization\nload\n" + _text("a.pth") + b"\x85R.",
    "a file in a file": b"\x80\x02ctorch.storage\n_load_from_bytes\n" + b"U\x01a\x85R.",
    "a call that calls itself": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\nq\x00]q\x01(h\x00Nh\x01Neh\x01R.",
    "escape codes": b"\x80\x02}" + _text("\x1b[31mred\x1b[0m") + b"K\x01s.",
    "an unknown instruction": b"\x80\x02\xff.",
    "nothing on the stack": b"\x80\x02R.",
    "no end": b"\x80\x02" + b"(" * 1000,
}


def as_zip(pickled: bytes, path: Path) -> Path:
    """Write a pickle as torch.save writes them today, with the data of four float32 zeros."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", bytes(16))
    return path


def as_legacy(pickled: bytes, path: Path, *, keys: bytes | None = None) -> Path:
    """Write a pickle as torch.save wrote them before 1.6, with the data of four float32 zeros."""
    content = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(value, content, protocol=2)
    content.write(pickled)
    content.write(keys or pickle.dumps(["0"], protocol=2))
    content.write(struct.pack("<q", 4) + bytes(16))
    path.write_bytes(content.getvalue())
    return path


def as_pickle(pickled: bytes, path: Path) -> Path:
    """Write a pickle alone."""
    path.write_bytes(pickled)
    return path


WRAPPINGS = (as_zip, as_legacy, as_pickle)
