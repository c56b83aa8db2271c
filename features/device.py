"""The device to compute on."""

from __future__ import annotations

import torch

from features.errors import OptionError

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str) -> torch.device:
    """Return the device with a name; "auto" means the first available of cuda, mps, cpu.

    Raises:
        OptionError: this machine has no such device.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, is_available in available.items() if is_available)
    if not available.get(name):
        known = ", ".join(kind for kind, is_available in available.items() if is_available)
        raise OptionError("--device", f"no {name} on this machine; available: {known}.")
    return torch.device(name)
