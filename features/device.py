"""The device to compute on, and what CUDA and MPS do differently."""

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


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor on a device. On CUDA, the copy is not waited for.

    On MPS it has to be: a copy that is not waited for reads the tensor's memory later, when it may hold other values
    (pytorch/pytorch#189690, up to torch 2.14 at least).
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def need_half_precision(device: torch.device) -> None:
    """Check that torch can compute in half precision on a device.

    Raises:
        OptionError: it cannot: MPS has autocast from torch 2.5 on.
    """
    try:
        torch.autocast(device.type, torch.bfloat16)
    except RuntimeError:
        raise OptionError(
            "--precision", f"torch {torch.__version__} computes on {device.type} in float32 only; leave the option out."
        ) from None
