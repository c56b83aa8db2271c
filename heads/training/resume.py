"""The checkpoint that a run resumes from, random states included."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from features.errors import DataError, UnreadableError
from features.tensors import load_safely, save_tensors
from heads.models.model import Model
from heads.training.average import WeightAverage

LAST = "last.pth"


def save_last(
    path: Path,
    model: nn.Module,
    average: WeightAverage | None,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
) -> None:
    """Write everything that a run resumes from."""
    save_tensors(
        path,
        {
            "model": model.state_dict(),
            "average": None if average is None else average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "history": history,
            "rng_cpu": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
    )


def resume(
    path: Path,
    model: Model,
    average: WeightAverage | None,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> list[dict[str, float]]:
    """Restore a run as `save_last` wrote it, random states included; return the rows of its epochs.

    Raises:
        DataError: the file is damaged, or was written for another model.
    """
    try:
        content = load_safely(path)
        model.load_state_dict(content["model"])
        if average is not None:
            average.load_state_dict(content["average"])
        optimizer.load_state_dict(content["optimizer"])
        torch.set_rng_state(content["rng_cpu"])
        if device.type == "cuda" and content["rng_cuda"]:
            torch.cuda.set_rng_state_all(content["rng_cuda"])
        return content["history"]
    except UnreadableError:
        raise
    except (DataError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be resumed from ({error}); delete the folder to train again.") from error
