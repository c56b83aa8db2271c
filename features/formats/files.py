"""Files of arrays: where they are, and reading one without running code from it."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from features.checkpoints import read_published
from features.errors import DataError
from features.files import written_whole
from features.pickles import refused_in_one_line

_FEATURES, _SECONDS = "feats", "seconds"


def find_files(path: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Return the files with one of some suffixes, by their names without it: a single file, or all below a folder.

    Raises:
        DataError: there is none, or two have the same name.
    """
    if path.is_dir():
        paths = sorted(found for suffix in suffixes for found in path.rglob(f"*{suffix}") if found.is_file())
    else:
        paths = [path] if path.is_file() and path.name.endswith(suffixes) else []
    if not path.exists():
        raise DataError(f"{path}: no such file or folder.")
    if not paths:
        kinds = " or *".join(suffixes)
        raise DataError(f"{path}: holds no file named *{kinds}; give the file, or the folder of files.")
    files: dict[str, Path] = {}
    for found in paths:
        if found.stem in files:
            raise DataError(f"{found}: {files[found.stem]} has the same name; import the folders one after the other.")
        files[found.stem] = found
    return files


@contextlib.contextmanager
def opened_arrays(path: Path) -> Iterator[Mapping[str, Any]]:
    """Open a .npy, .npz, .pt or HDF5 file: its arrays by name; the array of a .npy file is named feats.

    They stay on disk until they are used. A group of an HDF5 file, and a dictionary in a .pt file, are arrays by name
    once more. No code in the file is run.

    Raises:
        DataError: the file does not exist, is damaged or cut short, or holds something else.
    """
    with refused_in_one_line(path):
        arrays = _load(path)
        try:
            yield arrays
        finally:
            getattr(arrays, "close", lambda: None)()


def _load(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".npy":
        return {_FEATURES: np.load(path, mmap_mode="r", allow_pickle=False)}
    if path.suffix == ".npz":
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no file of numpy.savez, or is cut short")
        return np.load(path, allow_pickle=False)
    if path.suffix in (".hdf5", ".h5"):
        return h5py.File(path, "r")
    content = read_published(path)
    return content if isinstance(content, dict) else {_FEATURES: content}


def only_array(path: Path, arrays: Mapping[str, Any]) -> tuple[Any, np.ndarray | None]:
    """Return the features of a file or group of one array, and the seconds of its rows if it holds them.

    Raises:
        DataError: it holds several arrays and none is named feats, or holds no array.
    """
    names = [name for name in arrays if name != _SECONDS]
    if _FEATURES not in names and len(names) != 1:
        some = ", ".join(map(str, names[:5])) or "nothing"
        raise DataError(f"{path}: holds {some}, none of it the id of a video or segment, or named {_FEATURES}.")
    features = as_array(arrays[_FEATURES if _FEATURES in names else names[0]])
    return features, np.asarray(arrays[_SECONDS], dtype=np.float64) if _SECONDS in arrays else None


def as_array(value: Any) -> Any:
    """Return a tensor of torch as an array of numpy (bfloat16, which numpy has not, as float32); others as they are."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays by name to a .npz or .hdf5 file, or those named feats to a .npy file.

    A dictionary among them becomes a group of an HDF5 file.

    Raises:
        DataError: the file cannot be written.
    """
    content = io.BytesIO()
    if path.suffix == ".npy":
        np.save(content, arrays[_FEATURES])
    elif path.suffix == ".npz":
        np.savez(content, **arrays)
    else:
        with h5py.File(content, "w") as file:
            for name, value in arrays.items():
                for key, array in value.items() if isinstance(value, dict) else [("", value)]:
                    file[f"{name}/{key}".rstrip("/")] = array
    with written_whole(path) as temporary:
        temporary.write_bytes(content.getbuffer())
