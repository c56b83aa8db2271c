"""Write measured figures together with a description of the machine."""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from extract.decode.decoders import num_workers_for

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


def write_record(path: Path, figures: dict[str, Any], *, command: str = "make bench") -> None:
    """Write figures as JSON."""
    path.parent.mkdir(exist_ok=True)
    record = {"command": command, "when": time.strftime("%Y-%m-%d"), "machine": machine(), **figures}
    path.write_text(json.dumps(record, indent=2) + "\n")


def machine() -> dict[str, object]:
    """Return a description of this machine and of the versions in use."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []  # a Mac has no such file
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cpus": num_workers_for(None),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "av")},
    }
