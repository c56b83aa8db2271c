"""From decoded planes to a backbone's input, with its published preprocessing. Knows no backbone's name.

Published preprocessing is written for RGB: resize, crop, scale to 0..1, normalise. Here the planes are resized and
cropped first, and the small picture becomes RGB. The result is the same but for rounding (extract/decode/planes.py), at
a fraction of the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from extract.backbone_input import Preprocess
from extract.decode.planes import Colour, PlaneBatch


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
    if device.type == "cuda":
        y, uv = _to_cuda(batch.y, device), _to_cuda(batch.uv, device)
    else:  # older MPS cannot resize with antialiasing, and a small picture is copied faster than a large one
        y, uv = torch.from_numpy(batch.y), torch.from_numpy(batch.uv)
    size = [preprocess.resize] if isinstance(preprocess.resize, int) else list(preprocess.resize)
    luma = _resized(y, size, preprocess)  # (K, h, w)
    chroma = _resized(uv.flatten(0, 1), list(luma.shape[1:]), preprocess).unflatten(0, (-1, 2))  # (K, 2, h, w)
    crop = list(luma.shape[1:] if preprocess.crop is None else preprocess.crop)
    pictures = torch.cat([F.center_crop(luma, crop).unsqueeze(1), F.center_crop(chroma, crop)], dim=1)
    return pictures.to(device)


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
