"""Decoded planes to a backbone's input, by its own published recipe. Knows no backbone's name.

A recipe is written for RGB: resize, crop, scale to 0..1, normalise. Here the planes are resized and cropped first and
the small picture becomes RGB, which gives the same but for rounding (extract/decode/planes.py) and
costs a fraction of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from extract.decode.planes import Colour, PlaneBatch


@dataclass(frozen=True)
class Preprocess:
    """How a backbone wants its pictures.

    Attributes:
        resize: pixels of the shorter side, or (height, width).
        crop: (height, width) of the centre crop after that; None for no crop. It lies inside every resized picture,
            so that nothing has to be invented around one: which value is black depends on the video.
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

    def __post_init__(self) -> None:
        height, width = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        if self.crop is not None and (self.crop[0] > height or self.crop[1] > width):
            raise ValueError(f"Preprocess: crop {self.crop} does not fit into every picture resized to {self.resize}.")

    def as_json(self) -> dict[str, Any]:
        """Give the record as plain JSON values, for featureset.json, with what `scaled` does to every recipe."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {**values, "scaled_as": "yuv420p, rounded to 8 bits"}


def from_torchvision(preset: Any) -> Preprocess:
    """Take over the recipe of a torchvision `weights.transforms()` preset.

    Its video presets resize without antialiasing and have no attribute that says so
    (torchvision.transforms._presets.VideoClassification). Before 0.17 its image presets say "warn": pictures of PIL,
    which the published accuracies are of, are resized with antialiasing, and tensors without, under a warning.
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


def scaled(batch: PlaneBatch, recipe: Preprocess, device: torch.device) -> torch.Tensor:
    """Give K pictures resized and cropped, still in the colours of their video.

    Luma and chroma are each resized straight to the recipe's size, which takes a sample of chroma to lie amid its four
    of luma, as libswscale does. At an odd width or height, chroma is thereby squeezed by half a sample in all.

    Args:
        batch: K pictures of one size. They are copied: the arrays may be used again as soon as this returns, unless
            they are pinned memory.
        device: where the pictures are wanted. A CUDA device also does the work.

    Returns:
        (K, 3, h, w) uint8, YUV, on `device`.
    """
    if device.type == "cuda":
        y, uv = _copied(batch.y, device), _copied(batch.uv, device)
    else:  # older MPS cannot resize with antialiasing, and a small picture is copied sooner than a large one
        y, uv = torch.from_numpy(batch.y), torch.from_numpy(batch.uv)
    size = [recipe.resize] if isinstance(recipe.resize, int) else list(recipe.resize)
    luma = _resized(y, size, recipe)  # (K, h, w)
    chroma = _resized(uv.flatten(0, 1), list(luma.shape[1:]), recipe).unflatten(0, (-1, 2))  # (K, 2, h, w)
    crop = list(luma.shape[1:] if recipe.crop is None else recipe.crop)
    pictures = torch.cat([F.center_crop(luma, crop).unsqueeze(1), F.center_crop(chroma, crop)], dim=1)
    return pictures.to(device)


@lru_cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    """Give a stream of its own for copies, which else would wait for the backbone's batch to be done."""
    return torch.cuda.Stream(device)


def _copied(planes: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy planes to a CUDA device while it computes."""
    with torch.cuda.stream(_copying(device)):
        there = torch.from_numpy(planes).pin_memory().to(device, non_blocking=True)
    computing = torch.cuda.current_stream(device)
    computing.wait_stream(_copying(device))
    there.record_stream(computing)  # or its memory would be free for the next copy while it is still being read
    return there


def _resized(planes: torch.Tensor, size: list[int], recipe: Preprocess) -> torch.Tensor:
    """Resize (N, H, W) uint8 planes to (N, h, w) uint8; `size` is as torchvision's `resize` takes it.

    Four planes go as the channels of one picture, because torch's vectorised kernels for uint8 on a CPU know three or
    four: 0.12 ms a plane of 640x360 instead of 0.40. The last ones are filled up to four for the same kernel, which
    may round otherwise than the one for single planes.
    """
    whole = len(planes) // 4 * 4
    fours = [planes[:whole].unflatten(0, (-1, 4))]
    if rest := len(planes) - whole:
        fours.append(torch.cat([planes[whole:], planes[-1:].expand(4 - rest, -1, -1)]).unsqueeze(0))
    mode = InterpolationMode(recipe.interpolation)
    small = [F.resize(part, size, mode, antialias=recipe.antialias).flatten(0, 1) for part in fours if len(part)]
    return torch.cat(small)[: len(planes)]


def normalised(pictures: torch.Tensor, colours: Sequence[Colour], recipe: Preprocess) -> torch.Tensor:
    """Give pictures as a backbone wants them: RGB, clamped to 0..1, less the mean, divided by the deviation.

    Args:
        pictures: (K, 3, h, w) uint8, YUV, from `scaled`.
        colours: K, of the video that each picture is from.

    Returns:
        (K, 3, h, w) float32 on the device of `pictures`, whatever autocast is in force.
    """
    folded = [_folded(colour, recipe, pictures.device) for colour in colours]
    matrix, offset = (torch.stack(parts) for parts in zip(*folded, strict=True))  # (K, 3, 3), (K, 3, 1)
    yuv = pictures.flatten(2).float()  # (K, 3, h * w)
    # With out=, autocast leaves it alone (torch.amp: "in-place and out variants"); a context manager that switches
    # autocast off would be refused for MPS by torch before 2.5.
    rgb = torch.baddbmm(offset, matrix, yuv, out=torch.empty_like(yuv))
    for channel, (mean, std) in enumerate(zip(recipe.mean, recipe.std, strict=True)):
        rgb[:, channel].clamp_(-mean / std, (1 - mean) / std)
    return rgb.view(pictures.shape)


@lru_cache(maxsize=64)
def _folded(colour: Colour, recipe: Preprocess, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Give (3, 3) and (3, 1) float32: normalised RGB is their product with YUV in 0..255, and their sum."""
    matrix, offset = colour.to_rgb()
    mean, std = np.array(recipe.mean), np.array(recipe.std)
    parts = matrix / std[:, None], ((offset - mean) / std)[:, None]
    return tuple(torch.from_numpy(part).float().to(device) for part in parts)
