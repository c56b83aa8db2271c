"""From decoded planes to a backbone's input, with its published preprocessing. Knows no backbone's name.

Published preprocessing is written for RGB: resize, crop, scale to 0..1, normalise. Here the planes are resized and
cropped first, and the small picture becomes RGB. The result is the same but for rounding (extract/decode/planes.py), at
a fraction of the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from types import EllipsisType

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from extract.backbone_input import Preprocess
from extract.colour_changes import ColourChange
from extract.decode.planes import Colour, PlaneBatch
from extract.pictures import on_device
from extract.regions.crops import pixel_box
from extract.transfer import transfer_to
from extract.views import Box, Crop, Draw


def scaled(
    batch: PlaneBatch, preprocess: Preprocess, device: torch.device, crop: Crop = "centre", *, flip: bool = False
) -> torch.Tensor:
    """Return K pictures resized and cropped, or their mirror images, still in the colours of their video.

    Luma and chroma are each resized straight to the final size. That places a chroma sample in the middle of its four
    luma samples, as libswscale does. At an odd width or height, chroma is squeezed by half a sample in all.

    Args:
        batch: K pictures of one size. They are copied: the arrays may be used again as soon as this returns, unless
            they are pinned memory.
        device: where the result goes. A CUDA device also does the work.

    Returns:
        (K, 3, h, w) uint8, YUV, on `device`.
    """
    with transfer_to(device) as transfer:
        return Scaler(transfer.planes(batch), preprocess, device).crop(crop, flip=flip)


class Scaler:
    """Pictures of one size, of which several crops are wanted; each plane is resized once for all of them.

    Args:
        planes: of K pictures, as `Transfer.planes` returns them.
        device: where the results go.
    """

    def __init__(self, planes: tuple[torch.Tensor, torch.Tensor], preprocess: Preprocess, device: torch.device) -> None:
        self._y, self._uv = planes
        self._preprocess, self._device = preprocess, device
        self._crops: dict[Crop, torch.Tensor] = {}

    @cached_property
    def _resized(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Luma (K, h, w) and chroma (K, 2, h, w) of the resized pictures before any crop."""
        resize = self._preprocess.resize
        luma = _resized(self._y, [resize] if isinstance(resize, int) else list(resize), self._preprocess)
        return luma, _resized(self._uv.flatten(0, 1), list(luma.shape[1:]), self._preprocess).unflatten(0, (-1, 2))

    def crop(self, crop: Crop, *, flip: bool = False) -> torch.Tensor:
        """Return the crop in the middle of the resized pictures, or at an end of their longer side: (K, 3, h, w)."""
        if crop not in self._crops:
            luma, chroma = self._resized
            top, left, height, width = crop_box(luma.shape[1:], self._preprocess, crop)
            box = (..., slice(top, top + height), slice(left, left + width))
            self._crops[crop] = _joined(luma[box], chroma[box], self._preprocess).to(self._device)
        return self._crops[crop].flip(-1) if flip else self._crops[crop]

    def augmented(self, numbers: Sequence[int], drawn: Draw) -> torch.Tensor:
        """Return a random crop of the pictures with these numbers, in the size of the others: (k, 3, h, w)."""
        size = self._y.shape[1:]
        box = drawn.box((size[0], size[1]), largest_box(size, self._preprocess))
        pictures = self._cut(numbers, [box] * len(numbers))
        return (pictures.flip(-1) if drawn.flip else pictures).to(self._device)

    def boxed(self, numbers: Sequence[int], boxes: np.ndarray, *, flip: bool = False) -> torch.Tensor:
        """Return the part of each of these pictures that its box shows, in the size of the others: (k, 3, h, w).

        Args:
            boxes: (k, 4) left, top, right and bottom, in fractions of the picture; see `pixel_box`.
        """
        size = (self._y.shape[1], self._y.shape[2])
        squares = [pixel_box(box, size) for box in boxes.tolist()]
        by_side: dict[int, list[int]] = {}  # several of one size are resized in the time of one
        for position, square in enumerate(squares):
            by_side.setdefault(square.height, []).append(position)
        parts = [self._cut([numbers[one] for one in own], [squares[one] for one in own]) for own in by_side.values()]
        order = np.array([position for own in by_side.values() for position in own])
        pictures = torch.cat(parts) if len(parts) > 1 else parts[0]
        if (np.diff(order) < 0).any():
            pictures = pictures[on_device(np.argsort(order), pictures.device)]
        return (pictures.flip(-1) if flip else pictures).to(self._device)

    def _cut(self, numbers: Sequence[int], boxes: Sequence[Box]) -> torch.Tensor:
        """Return a part of each picture with these numbers, all of one size, resized like the others: (k, 3, h, w)."""
        height, width = output_size(self._y.shape[1:], self._preprocess)
        # Stacking copies the crops in a tenth of the time that indexing takes.
        pairs = list(zip(numbers, boxes, strict=True))
        y = torch.stack([self._y[number][_slices(box)] for number, box in pairs])
        uv = torch.cat([self._uv[number][_slices(box, 2)] for number, box in pairs])
        luma, chroma = (_resized(planes, [height, width], self._preprocess) for planes in (y, uv))
        return _joined(luma, chroma.unflatten(0, (-1, 2)), self._preprocess)


def _slices(box: Box, scale: int = 1) -> tuple[EllipsisType, slice, slice]:
    """Return the index of a box's rows and columns, in planes that are smaller than the picture by a scale."""
    top, left = box.top // scale, box.left // scale
    return ..., slice(top, top + box.height // scale), slice(left, left + box.width // scale)


def crop_box(size: Sequence[int], preprocess: Preprocess, crop: Crop) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a crop of a resized picture, whose height and width are `size`.

    >>> [crop_box((256, 455), Preprocess(256, (224, 224), (0.0,) * 3, (1.0,) * 3), crop) for crop in ("left", "right")]
    [(16, 0, 224, 224), (16, 231, 224, 224)]
    """
    height, width = preprocess.crop or (size[0], size[1])
    margins = size[0] - height, size[1] - width
    top, left = (round(margin / 2) for margin in margins)  # as torchvision rounds
    if crop != "centre":
        share = 0 if crop == "left" else 1
        if size[0] > size[1]:
            top = share * margins[0]
        else:
            left = share * margins[1]
    return top, left, height, width


def output_size(size: Sequence[int], preprocess: Preprocess) -> tuple[int, int]:
    """Return height and width that pictures of a height and width have in the end."""
    if preprocess.crop is not None:
        return preprocess.crop
    if not isinstance(preprocess.resize, int):
        return preprocess.resize
    short = min(size)
    return preprocess.resize * size[0] // short, preprocess.resize * size[1] // short


def largest_box(size: Sequence[int], preprocess: Preprocess) -> tuple[float, float]:
    """Return height and width of the largest part of a picture that has the shape of the output.

    That is the whole picture where the backbone's authors change its shape.
    """
    if not isinstance(preprocess.resize, int):
        return size[0], size[1]
    height, width = output_size(size, preprocess)
    scale = min(size[0] / height, size[1] / width)
    return height * scale, width * scale


def _resized(planes: torch.Tensor, size: list[int], preprocess: Preprocess) -> torch.Tensor:
    """Resize (N, H, W) uint8 planes to (N, h, w): uint8 on a CPU, elsewhere float32, which `_joined` rounds.

    `size` is what torchvision's `resize` takes.

    Four planes are passed as the channels of one picture, because torch's vectorised uint8 kernels on a CPU handle
    three or four channels: 0.12 ms per plane of 640x360 instead of 0.40. The last planes are padded to four, so that
    they go through the same kernel: the kernel for single planes may round differently. A GPU, which resizes in float32
    anyway, takes all planes at once.
    """
    mode = InterpolationMode(preprocess.interpolation)
    if planes.device.type != "cpu":
        return F.resize(planes.unsqueeze(0).float(), size, mode, antialias=preprocess.antialias).squeeze(0)
    whole = len(planes) // 4 * 4
    fours = [planes[:whole].unflatten(0, (-1, 4))]
    if rest := len(planes) - whole:
        fours.append(torch.cat([planes[whole:], planes[-1:].expand(4 - rest, -1, -1)]).unsqueeze(0))
    small = [F.resize(part, size, mode, antialias=preprocess.antialias).flatten(0, 1) for part in fours if len(part)]
    return torch.cat(small)[: len(planes)]


def _joined(luma: torch.Tensor, chroma: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    """Return pictures of resized planes, (K, h, w) and (K, 2, h, w), in new memory: (K, 3, h, w) uint8.

    They are rounded as torchvision does.
    """
    pictures = luma.new_empty(len(luma), 3, *luma.shape[1:])
    pictures[:, 0].copy_(luma)
    pictures[:, 1:].copy_(chroma)
    if pictures.dtype == torch.uint8:
        return pictures
    if preprocess.interpolation == "bicubic":
        pictures.clamp_(0, 255)
    return pictures.round_().to(torch.uint8)


def recoloured(
    pictures: torch.Tensor, colours: Sequence[Colour], preprocess: Preprocess, change: ColourChange
) -> torch.Tensor:
    """Return pictures as `normalised` does, with a change of their RGB colours in between."""
    plain = replace(preprocess, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), channels="RGB")
    rgb = change(normalised(pictures, colours, plain))
    mean, std = (torch.tensor(values, device=rgb.device)[:, None, None] for values in (preprocess.mean, preprocess.std))
    return ((rgb.flip(1) if preprocess.channels == "BGR" else rgb) - mean) / std


def normalised(pictures: torch.Tensor, colours: Sequence[Colour], preprocess: Preprocess) -> torch.Tensor:
    """Return pictures as a backbone takes them: in RGB or BGR, clamped to 0..1, minus the mean, over the deviation.

    Args:
        pictures: (K, 3, h, w) uint8, YUV, from `scaled`.
        colours: K, each of the video that the picture is from.

    Returns:
        (K, 3, h, w) float32 on the device of `pictures`, whether or not autocast is on.
    """
    matrix, offset = _of_each(colours, preprocess, pictures.device)  # (K, 3, 3), (K, 3, 1)
    yuv = pictures.flatten(2).float()  # (K, 3, h * w)
    # autocast ignores calls with out= (torch.amp: "in-place and out variants"). Before 2.5, torch refused a context
    # manager that switches autocast off on MPS.
    rgb = torch.baddbmm(offset, matrix, yuv, out=torch.empty_like(yuv))
    low, high = _bounds(preprocess, pictures.device)
    if pictures.device.type == "cpu":  # where a number per channel takes 0.7 of the time that a tensor of them takes
        for channel in range(3):
            rgb[:, channel].clamp_(low[channel].item(), high[channel].item())
    else:
        torch.minimum(torch.maximum(rgb, low, out=rgb), high, out=rgb)
    return rgb.view(pictures.shape)


@lru_cache(maxsize=64)
def _bounds(preprocess: Preprocess, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what black and white are per channel, each (3, 1) float32."""
    mean, std = np.array(preprocess.mean)[:, None], np.array(preprocess.std)[:, None]
    black, white = (torch.from_numpy(level).float() for level in (-mean / std, (1 - mean) / std))
    return black.to(device), white.to(device)


def _of_each(
    colours: Sequence[Colour], preprocess: Preprocess, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the matrix and the offset of each of K pictures; a batch has few different colours, one per video."""
    different = {id(colour): colour for colour in colours}  # comparing all of them by value would take a while
    folded = [_folded(colour, preprocess, device) for colour in different.values()]
    matrices, offsets = (torch.stack(parts) for parts in zip(*folded, strict=True))
    if len(different) == 1:
        return matrices.repeat(len(colours), 1, 1), offsets.repeat(len(colours), 1, 1)
    numbers = dict(zip(different, range(len(different)), strict=True))
    index = on_device(np.array([numbers[id(colour)] for colour in colours]), device)
    return matrices.index_select(0, index), offsets.index_select(0, index)


@lru_cache(maxsize=64)
def _folded(colour: Colour, preprocess: Preprocess, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a (3, 3) matrix and a (3, 1) offset, float32: normalised RGB is matrix @ YUV in 0..255 + offset.

    Where the backbone takes BGR, the rows are in that order.
    """
    matrix, offset = colour.to_rgb()
    if preprocess.channels == "BGR":
        matrix, offset = matrix[::-1], offset[::-1]
    mean, std = np.array(preprocess.mean), np.array(preprocess.std)
    matrix, offset = matrix / std[:, None], ((offset - mean) / std)[:, None]
    return torch.from_numpy(matrix).float().to(device), torch.from_numpy(offset).float().to(device)
