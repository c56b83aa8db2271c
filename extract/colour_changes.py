"""What augmented views do to the colours of a clip, by torchvision's own transforms. Knows no crop and no video."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from extract.views import Draw, View, draw, seed

# (K, 3, h, w) RGB in 0..1 -> the same, each picture by itself
ColourChange = Callable[[torch.Tensor], torch.Tensor]
_JITTER = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)


def colour_change(view: View, name: str) -> ColourChange:
    """Return what a random view does to the clips of a segment, or of a whole video."""
    if view.kind == "randaugment":
        return partial(_randaugmented, number=seed(view.name, name), **view.parameters["randaugment"])
    return partial(_jittered, drawn=draw(view.name, name))


def _jittered(rgb: torch.Tensor, *, drawn: Draw) -> torch.Tensor:
    for number in drawn.order:
        rgb = _JITTER[number](rgb, drawn.factors[number])
    return rgb


def _randaugmented(rgb: torch.Tensor, *, number: int, **parameters: int) -> torch.Tensor:
    """Return a clip after RandAugment, whose draws come from torch's generator on the CPU and are the same on a GPU."""
    transform = v2.RandAugment(**parameters)
    pictures = (rgb * 255).round().to(torch.uint8)
    if rgb.device.type == "mps":  # which lacks some of the operations
        pictures = pictures.cpu()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(number)
        return transform(pictures).to(rgb.device).float() / 255
