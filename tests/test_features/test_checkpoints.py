"""Checkpoints of others give the tensors that torch.load gives, in both of torch's formats."""

from __future__ import annotations

import io
import sys
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from feature_files import finished, python
from hostile import TENSOR

from features.checkpoints import read_published
from features.errors import DataError
from features.pickle_machine import StandIn

zipped = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
_DTYPES = (
    *("float64", "float32", "float16", "bfloat16", "complex64", "float8_e4m3fn"),
    *("int64", "int32", "int16", "int8", "uint8", "bool", "uint16"),
)
_WHOLE = torch.arange(24, dtype=torch.float32)


def _can_be_saved(dtype: torch.dtype) -> bool:
    try:
        torch.save(torch.zeros(1, dtype=dtype), io.BytesIO())
    except KeyError:  # torch 2.1 has eight-bit floats, and cannot save them
        return False
    return True


def _tensors() -> dict[str, torch.Tensor]:
    """Return tensors of every type that this torch can save, and of every form."""
    dtypes = [getattr(torch, name) for name in _DTYPES if hasattr(torch, name) and _can_be_saved(getattr(torch, name))]
    tensors = {str(dtype): (torch.arange(6) % 2).to(dtype).view(2, 3) for dtype in dtypes}
    forms = {
        "part": _WHOLE[4:10],
        "transposed": _WHOLE.view(4, 6).T,
        "strided": _WHOLE[1::5],
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(_WHOLE.clone()),
        "row": _WHOLE[:6].expand(1, 6),
    }
    return tensors | forms


def _saved(path: Path, value: object, is_zip: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=is_zip)
    return path


@zipped
def test_tensors_are_those_of_torch(tmp_path, is_zip):
    tensors = _tensors()
    content = read_published(_saved(tmp_path / "a.pth", tensors, is_zip))
    assert list(content) == list(tensors)
    for name, expected in tensors.items():
        assert (content[name].dtype, content[name].shape) == (expected.dtype, expected.shape), name
        assert content[name].stride() == expected.stride(), name
        assert content[name].tolist() == expected.tolist(), name
        assert not content[name].requires_grad


@zipped
def test_settings_of_a_program_do_not_matter(tmp_path, is_zip):
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    checkpoint = {
        "state_dict": network.state_dict(),  # an OrderedDict with an attribute
        "optimizer": optimizer.state_dict(),
        "best": np.float64(51.5),
        "args": Namespace(lr=0.1, path=Path("/a"), device=torch.device("cpu")),
        "network": network,
        "size": torch.Size([2, 3]),
        "rng": torch.get_rng_state(),
    }
    content = read_published(_saved(tmp_path / "a.pth", checkpoint, is_zip))
    for name, expected in network.state_dict().items():
        assert torch.equal(content["state_dict"][name], expected), name
    assert torch.equal(content["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    assert (content["best"], content["size"]) == (51.5, (2, 3))
    assert {type(content["args"]), type(content["network"])} == {StandIn}


MEMORY = """
import resource, sys
from pathlib import Path
from features.checkpoints import read_published
scale = 1 if sys.platform == "darwin" else 1024
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
weights = read_published(Path(sys.argv[1]))["model"]["weight"]
assert weights.sum() == 3
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale - before)
"""


@zipped
def test_memory_stays_below_the_size_of_the_file(tmp_path, is_zip):
    megabytes = 96
    path = _saved(
        tmp_path / "a.pth", {"model": {"weight": torch.ones(3)}, "optimizer": torch.zeros(megabytes << 18)}, is_zip
    )
    exit_code, out, err = finished(python(MEMORY, path))
    assert exit_code == 0, err
    # Of a zip file, what is not used is not even read. The legacy format is read part by part.
    assert int(out) < (16 if is_zip else 2.2 * megabytes) * 2**20


def test_data_that_are_not_aligned_are_copied(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", TENSOR)
        archive.writestr("a/data/0", torch.arange(4, dtype=torch.float32).numpy().tobytes())
    assert read_published(tmp_path / "a.pth").tolist() == [0, 1]


def test_other_byte_order_is_refused(tmp_path):
    other = b"big" if sys.byteorder == "little" else b"little"
    path = tmp_path / "a.pth"
    torch.save({"a": torch.ones(2)}, path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, other if name.endswith("byteorder") else data)
        if not any(name.endswith("byteorder") for name in content):
            archive.writestr("a/byteorder", other)
    with pytest.raises(DataError, match=r"a\.pth: .*byte order"):
        read_published(path)
