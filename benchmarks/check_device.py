"""Check that a machine's device computes what a CPU does, and measure it: `make check-device [DEVICE=cuda|mps|cpu]`.

Prints a page of lines and writes results/device-NAME.json. What fails is a line, and the rest goes on; the exit code is
then 1. On a CPU everything is small, as a test of this script.
"""

from __future__ import annotations

import os

# As the command line does, before torch is loaded. Otherwise torch's idle threads spin on cores that decode.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import io
import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import asdict
from pathlib import Path

import torch
from device_checks import CHECKS, LARGE, SMALL, Check, Line, Place
from record import HERE, RESULTS, machine, write_record

from features.device import DEVICES, choose_device
from features.errors import OptionError


def main() -> None:
    """Run all checks on the device that is named, print them and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the record")
    parser.add_argument("--data", type=Path, default=HERE / "data", help="folder of the generated video and features")
    arguments = parser.parse_args()
    try:
        device = choose_device(arguments.device)
    except OptionError as error:
        parser.error(str(error))
    place = Place(device, SMALL if device.type == "cpu" else LARGE, arguments.data)
    name = device_name(device)
    print(f"{name}, torch {torch.__version__}, {machine()['system']}, Python {machine()['python']}")
    began, lines = time.perf_counter(), []
    for title, check in CHECKS.items():
        print(f"\n{title}")
        with warnings.catch_warnings(record=True) as caught, redirect_stderr(io.StringIO()):  # progress bars
            warnings.simplefilter("always")
            for line in tried(check, place):
                print(line, flush=True)
                lines.append({"check": title, **asdict(line)})
        for text in dict.fromkeys(str(warning.message).partition("\n")[0] for warning in caught):
            print(f"  note  {text}")
    failed = [line for line in lines if not line["is_right"]]
    print(f"\n{len(lines) - len(failed)} of {len(lines)} lines are right, {time.perf_counter() - began:.0f} s")
    path = arguments.out / f"device-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    write_record(path, {"device": device.type, "name": name, "lines": lines}, command="make check-device")
    print(path)
    sys.exit(1 if failed else 0)


def tried(check: Check, place: Place) -> Iterator[Line]:
    """Yield the lines of a check; an error is its last one."""
    try:
        yield from check(place)
    except Exception as error:  # noqa: BLE001  a device can fail in any way, and the other checks are wanted
        yield Line("failed", f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}", is_right=False)


def device_name(device: torch.device) -> str:
    """Return what the device is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} of {machine()['cpu']}"


if __name__ == "__main__":
    main()
