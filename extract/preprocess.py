"""From decoded planes to a backbone's input, with its published preprocessing. Knows no backbone's name.

Published preprocessing is written for RGB: resize, crop, scale to 0..1, normalise. Here the planes are resized and
cropped first, and the small picture becomes RGB. The result is the same but for rounding (extract/decode/planes.py), at
a fraction of the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from extract.backbone_input import Preprocess
from extract.colour_changes import ColourChange
from extract.decode.planes import Colour, PlaneBatch
from extract.regions.crops import pixel_box
from extract.views import Box, Crop, Draw


def scaled(batch: PlaneBatch, preprocess: Preprocess, device: torch.device) -> torch.Tensor:
    """Return K pictures resized and cropped, still in the colours of their video.

    Luma and chroma are each resized straight to the final size. That places a chroma sample in the middle of its four
    luma samples, as libswscale does. At an odd width or height, chroma is squeezed by half a sample in all.

    Args:
        batch: K pictures of one size. They are copied: the arrays may be used again as soon as this returns, unless
            they are pinned memory.
        device: where the result goes. A CUDA device also does the work.

    Returns:
        (K, 3, h, w) uint8, YUV, on `device`.
    """
    return Scaler(batch, preprocess, device).crop("centre")


class Scaler:
    """Pictures of one size, of which several crops are wanted; each plane is copied and resized once for all of them.

    Arguments are those of `scaled`.
    """

    def __init__(self, batch: PlaneBatch, preprocess: Preprocess, device: torch.device) -> None:
        self._preprocess, self._device = preprocess, device
        if device.type == "cuda":
            self._y, self._uv = _to_cuda(batch.y, device), _to_cuda(batch.uv, device)
        else:  # older MPS cannot resize with antialiasing, and a small picture is copied faster than a large one
            self._y, self._uv = torch.from_numpy(batch.y), torch.from_numpy(batch.uv)

    @cached_property
    def _resized(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Luma (K, h, w) and chroma (K, 2, h, w) of the resized pictures before any crop."""
        resize = self._preprocess.resize
        luma = _resized(self._y, [resize] if isinstance(resize, int) else list(resize), self._preprocess)
        return luma, _resized(self._uv.flatten(0, 1), list(luma.shape[1:]), self._preprocess).unflatten(0, (-1, 2))

    def crop(self, crop: Crop) -> torch.Tensor:
        """Return the crop in the middle of the resized pictures, or at an end of their longer side: (K, 3, h, w)."""
        luma, chroma = self._resized
        top, left, height, width = crop_box(luma.shape[1:], self._preprocess, crop)
        planes = (F.crop(plane, top, left, height, width) for plane in (luma.unsqueeze(1), chroma))
        return torch.cat(list(planes), dim=1).to(self._device)

    def augmented(self, numbers: Sequence[int], drawn: Draw) -> torch.Tensor:
        """Return a random crop of the pictures with these numbers, in the size of the others: (k, 3, h, w)."""
        size = self._y.shape[1:]
        pictures = self._cut(numbers, drawn.box((size[0], size[1]), largest_box(size, self._preprocess)))
        return (pictures.flip(-1) if drawn.flip else pictures).to(self._device)

    def boxed(self, numbers: Sequence[int], boxes: Sequence[Sequence[float]]) -> torch.Tensor:
        """Return the part of each of these pictures that its box shows, in the size of the others: (k, 3, h, w).

        Args:
            boxes: k times left, top, right and bottom, in fractions of the picture; see `pixel_box`.
        """
        size = (self._y.shape[1], self._y.shape[2])
        by_box: dict[Box, list[int]] = {}  # the frames of a clip have one box
        for position, box in enumerate(boxes):
            by_box.setdefault(pixel_box(box, size), []).append(position)
        parts = [self._cut([numbers[position] for position in own], box) for box, own in by_box.items()]
        order = [position for own in by_box.values() for position in own]
        return torch.cat(parts)[np.argsort(order)].to(self._device)

    def _cut(self, numbers: Sequence[int], box: Box) -> torch.Tensor:
        """Return a part of the pictures with these numbers, resized to the size of the others: (k, 3, h, w)."""
        height, width = output_size(self._y.shape[1:], self._preprocess)
        rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
        half_rows, half_columns = (slice(part.start // 2, part.stop // 2) for part in (rows, columns))
        # Stacking copies the crops in a tenth of the time that indexing takes.
        y = torch.stack([self._y[number, rows, columns] for number in numbers])
        uv = torch.cat([self._uv[number, :, half_rows, half_columns] for number in numbers])
        luma = _resized(y, [height, width], self._preprocess).unsqueeze(1)
        chroma = _resized(uv, [height, width], self._preprocess)
        return torch.cat([luma, chroma.unflatten(0, (-1, 2))], dim=1)


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


@lru_cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """Return a stream for copies alone; on the default stream they would wait until the backbone's batch is done."""
    return torch.cuda.Stream(device)


def _to_cuda(planes: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy planes to a CUDA device while it computes."""
    with torch.cuda.stream(_copy_stream(device)):
        copy = torch.from_numpy(planes).pin_memory().to(device, non_blocking=True)
    computing = torch.cuda.current_stream(device)
    computing.wait_stream(_copy_stream(device))
    copy.record_stream(computing)  # or its memory would be free for the next copy while it is still being read
    return copy


def _resized(planes: torch.Tensor, size: list[int], preprocess: Preprocess) -> torch.Tensor:
    """Resize (N, H, W) uint8 planes to (N, h, w) uint8; `size` is what torchvision's `resize` takes.

    Four planes are passed as the channels of one picture, because torch's vectorised uint8 kernels on a CPU handle
    three or four channels: 0.12 ms per plane of 640x360 instead of 0.40. The last planes are padded to four, so that
    they go through the same kernel: the kernel for single planes may round differently.
    """
    whole = len(planes) // 4 * 4
    fours = [planes[:whole].unflatten(0, (-1, 4))]
    if rest := len(planes) - whole:
        fours.append(torch.cat([planes[whole:], planes[-1:].expand(4 - rest, -1, -1)]).unsqueeze(0))
    mode = InterpolationMode(preprocess.interpolation)
    small = [F.resize(part, size, mode, antialias=preprocess.antialias).flatten(0, 1) for part in fours if len(part)]
    return torch.cat(small)[: len(planes)]


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
    folded = [_folded(colour, preprocess, pictures.device) for colour in colours]
    matrix, offset = (torch.stack(parts) for parts in zip(*folded, strict=True))  # (K, 3, 3), (K, 3, 1)
    yuv = pictures.flatten(2).float()  # (K, 3, h * w)
    # autocast ignores calls with out= (torch.amp: "in-place and out variants"). Before 2.5, torch refused a context
    # manager that switches autocast off on MPS.
    rgb = torch.baddbmm(offset, matrix, yuv, out=torch.empty_like(yuv))
    for channel, (mean, std) in enumerate(zip(preprocess.mean, preprocess.std, strict=True)):
        rgb[:, channel].clamp_(-mean / std, (1 - mean) / std)
    return rgb.view(pictures.shape)


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
