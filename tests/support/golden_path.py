"""The smallest whole path of the demo, and a record of what it gave: features, weights and predictions.

A change that should change no result is held to this record (tests/e2e/test_golden_path.py). Store a new one only for a
change that says in its commit why results differ:

    python tests/support/golden_path.py store
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import h5py
import numpy as np
import torch
from miniature import write_miniature
from shell import output_here, output_of

from heads.cli import main

RECORD = Path(__file__).parents[1] / "golden" / "smallest_path.json"
_VALUES = 24  # of each array that are stored, spread over it

# Run name -> options of `heads train`, beside the head: every head, and most of what changes batches and losses.
_HIDDEN = ("--set", "hidden=8")
_WIDTH = ("--set", "width=8", "--set", "attention_heads=2")
RUNS = {
    "mean_pool": (),
    "mlp": ("--set", "hidden=8"),
    "bilstm": _HIDDEN,
    "multiscale_lstm": _HIDDEN,
    "attentive": _WIDTH,
    "tcn": ("--set", "width=8"),
    "transformer": (*_WIDTH, "--set", "hidden=1024"),
    "augmented": (
        "--set",
        "width=512",
        "--mixup",
        0.4,
        "--step-dropout",
        0.2,
        "--noise",
        0.1,
        "--neighbours",
        1,
        "--ema",
        0.9,
    ),
    "cut": ("--cutmix", 0.5, "--loss", "focal:gamma=1", "--noun-loss", "cb", "--action-weight", 0.5, "--adjust", 0.5),
}
# Settings of version 0.1, which the record was stored with.
_FIXED = ("--bias", "zero", "--mixup", 0, "--warmup-epochs", 5, "--lr", 1e-3, "--max-steps", 256, "--select", "action")
_HEAD_OF = {"augmented": "attentive", "cut": "mean_pool"}


def run_smallest_path(folder: Path) -> dict[str, np.ndarray]:
    """Run the path in an empty folder; return everything that it computed, by name."""
    miniature = write_miniature(folder, size="test")
    lists = ("--annotations", miniature.annotations)
    backbone_options = ("--backbone", "tiny_cnn", "--weights", "random:0", "--device", "cpu")
    data_options = (*lists, "--videos", miniature.videos)
    for out, sampling in (("features", ()), ("dense", ("--every", 0.2))):
        extraction = ("extract", "run", *backbone_options, *data_options, *sampling, "--out", out)
        output_of(*extraction, folder=folder, timeout_s=600, OMP_NUM_THREADS=1)
    runs = ("--runs", folder / "runs")
    plan = ("--features", folder / "features", *lists, "--device", "cpu", "--epochs", 2, "--batch-size", 8, *runs)
    for name, options in RUNS.items():
        output_here(main, "train", "--head", _HEAD_OF.get(name, name), *plan, *_FIXED, *options, "--name", name)
    window_options = ("--context", 0.5, "--jitter", 0.2, "--speed", 0.2, "--max-steps", 12)
    dense = ("--features", folder / "dense", *plan[2:], "--name", "dense", "--set", "hidden=8")
    output_here(main, "train", "--head", "bilstm", *_FIXED, *window_options, *dense)
    output_here(main, "predict", folder / "runs" / "dense-seed0", "--tta")
    output_here(main, "ensemble", *lists, "--weights", "fitted", "--temperature", *runs)
    return dict(_arrays(folder))


def _arrays(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    for path in sorted([*folder.glob("features/*.h5"), *folder.glob("dense/*.h5")]):
        with h5py.File(path) as file:
            yield f"{path.parent.name}/{path.stem}", file["features"][:]
    for path in sorted(folder.glob("runs/*/best_model.pth")):
        weights = _tensors(torch.load(path, weights_only=True))
        yield f"{path.parent.name}/weights", np.concatenate([weights[name].numpy().ravel() for name in sorted(weights)])
    for path in sorted(folder.glob("runs/*/*predictions.pt")):
        for task in ("verb", "noun"):
            rows = [row[f"{task}_output"].numpy() for row in torch.load(path, weights_only=True)]
            yield f"{path.parent.name}/{path.stem}/{task}", np.stack(rows)


def _tensors(record: object, name: str = "") -> dict[str, torch.Tensor]:
    """Return all floating-point tensors in a checkpoint, by their last name: how it wraps them may change."""
    if isinstance(record, torch.Tensor):
        return {name: record} if record.is_floating_point() else {}
    if isinstance(record, dict):
        return {key: tensor for part, value in record.items() for key, tensor in _tensors(value, str(part)).items()}
    return {}


def machine() -> dict[str, str]:
    """Return what bits may differ for: the versions that compute, and what the CPU can do."""
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "av": av.__version__,
        # With the same instructions, CPUs of two makers round some sums differently: oneDNN picks its kernels by maker.
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {_cpu_maker()}",
    }


def _cpu_maker() -> str:
    """Return the vendor_id of Linux, such as AuthenticAMD; elsewhere what Python knows of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), platform.processor())


def digest_of(array: np.ndarray) -> str:
    """Return the digest of an array's bytes and shape."""
    return hashlib.sha256(str(array.shape).encode() + np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def values_of(array: np.ndarray) -> list[float]:
    """Return values spread evenly over an array, as plain numbers."""
    flat = array.ravel()
    return [float(value) for value in flat[np.linspace(0, len(flat) - 1, _VALUES).astype(int)]]


def describe(arrays: dict[str, np.ndarray]) -> dict[str, object]:
    """Return the record of a path."""
    records = {name: {"digest": digest_of(array), "values": values_of(array)} for name, array in arrays.items()}
    return {"machine": machine(), "arrays": records}


if __name__ == "__main__":
    if sys.argv[1:] != ["store"]:
        sys.exit(__doc__)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        record = describe(run_smallest_path(Path(folder)))
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{RECORD}: {len(record['arrays'])} arrays")
