"""Which device to compute on."""

from __future__ import annotations

import torch

from features.errors import OptionError

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is the best that is there: cuda, mps, cpu.

    Raises:
        OptionError: this machine has no such device.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, is_there in there.items() if is_there)
    if not there.get(name):
        known = ", ".join(kind for kind, is_there in there.items() if is_there)
        raise OptionError("--device", f"no {name} on this machine; there is {known}.")
    return torch.device(name)
