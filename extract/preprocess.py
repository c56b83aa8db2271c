"""Decoded frames to a backbone's input, by its own published recipe. Knows no backbone's name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F


@dataclass(frozen=True)
class Preprocess:
    """How a backbone wants its pictures.

    Attributes:
        resize: pixels of the shorter side, or (height, width).
        crop: (height, width) of the centre crop after that; None for no crop.
        mean, std: of each channel, for values in 0..1.
        antialias: whether the resize averages what it leaves out.
        interpolation: as torchvision calls it.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int] | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    antialias: bool = True
    interpolation: str = "bilinear"

    def as_json(self) -> dict[str, Any]:
        """Give the record as plain JSON values, for featureset.json."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def from_torchvision(preset: Any) -> Preprocess:
    """Take over the recipe of a torchvision `weights.transforms()` preset.

    Its video presets resize without antialiasing and have no attribute that says so
    (torchvision.transforms._presets.VideoClassification).
    """
    size = tuple(preset.resize_size)
    return Preprocess(
        resize=size[0] if len(size) == 1 else size,
        crop=tuple(preset.crop_size) * (2 if len(preset.crop_size) == 1 else 1),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        antialias=bool(getattr(preset, "antialias", False)),
        interpolation=preset.interpolation.value,
    )


def prepare(frame: np.ndarray, recipe: Preprocess, device: torch.device) -> torch.Tensor:
    """Give one frame, (H, W, 3) uint8 RGB, as a backbone's input (C, H, W) float32 on `device`.

    Resizes in float, so that nothing is rounded between the decoder and the backbone.
    """
    x = torch.from_numpy(frame).to(device).permute(2, 0, 1).float().div_(255)
    size = [recipe.resize] if isinstance(recipe.resize, int) else list(recipe.resize)
    x = F.resize(x, size, InterpolationMode(recipe.interpolation), antialias=recipe.antialias)
    if recipe.crop is not None:
        x = F.center_crop(x, list(recipe.crop))
    return F.normalize(x, list(recipe.mean), list(recipe.std))
